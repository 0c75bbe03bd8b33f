//! Nodes of this cluster, as hosts to log in to.

use std::net::IpAddr;

use bastide_api::{EntryKey, NodeId, NodeName, NodeRecord};

use crate::core::engine::Context;
use crate::core::engines::mesh;
use crate::core::refusal::Refusal;

/// Returns the node of a name or an id. It must exist, and its membership last.
pub fn named(ctx: &mut Context<'_, '_>, text: &str) -> Result<NodeRecord, Refusal> {
    let unknown = || Refusal::invalid(format!("there is no node `{text:.80}`"));
    let id = match text.parse::<NodeId>() {
        Ok(id) => Some(id),
        Err(_) => {
            let name: NodeName = text.parse().map_err(|_| unknown())?;
            mesh::node_named(ctx, &name)?
        }
    };
    let record = match id {
        Some(id) => record(ctx, id)?,
        None => None,
    };
    record.ok_or_else(unknown)
}

/// Returns a node.
pub fn record(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<Option<NodeRecord>, Refusal> {
    let found: Option<NodeRecord> = mesh::read_entry(ctx, &EntryKey::Node(id))?;
    let now = ctx.now();
    Ok(found.filter(|node| now < node.expires))
}

/// Returns which node of this cluster has a mesh address.
pub fn at(ctx: &mut Context<'_, '_>, address: IpAddr) -> Result<Option<NodeId>, Refusal> {
    for key in mesh::list_entries(ctx, "nodes/")? {
        let Ok(id) = key.parse() else { continue };
        if let Some(record) = record(ctx, id)?
            && IpAddr::V4(record.address) == address
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
