//! Nodes as operators see them: list, read, declare, rename, remove.

use std::net::SocketAddr;

use bastide_api::{EntryKey, NodeId, NodeName, NodeRecord};
use serde::Deserialize;
use serde_json::{Map, json};

use super::claims::{self, Keys};
use super::stored::{self, StoredNode};
use super::{enrol, view};
use crate::core::engine::{Call, Context};
use crate::core::facts::Observation;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

pub(super) fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let keys = view::list(ctx, "nodes/")?;
    let mut info = Map::new();
    for key in &keys {
        let Ok(id) = key.parse() else { continue };
        if let Some(record) = view::read::<NodeRecord>(ctx, &EntryKey::Node(id))? {
            let shown = json!({
                "name": record.name,
                "site": record.site,
                "address": record.address,
                "tags": record.tags,
                "expires": record.expires,
            });
            info.insert(key.clone(), shown);
        }
    }
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

pub(super) fn read(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<Answer, Refusal> {
    let record: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(id))?;
    let record = record.ok_or(Refusal::Absent)?;
    let node = existing(ctx, id)?;
    let mut answer = json!(record);
    answer["offered_routes"] = json!(node.offered);
    answer["joined"] = json!(node.joined);
    answer["ticket"] = json!(node.ticket);
    // A lease's id lets its holder revoke it: it is for operators.
    if ctx.caller.machine().is_none() {
        answer["lease_id"] = json!(node.lease);
    }
    Ok(Answer::json(answer))
}

/// Where the world reaches a node's mesh port.
#[derive(Deserialize)]
struct Declaration {
    public: Vec<SocketAddr>,
}

pub(super) fn declare(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    id: NodeId,
) -> Result<Answer, Refusal> {
    let declared: Declaration = call.parse()?;
    enrol::check_public(&declared.public)?;
    let record: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(id))?;
    let mut record = record.ok_or(Refusal::Absent)?;
    record.public = declared.public;
    view::publish(ctx, &EntryKey::Node(id), &record)?;
    Ok(Answer::done())
}

/// Removes a node, by ending its membership.
pub(super) fn remove(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<Answer, Refusal> {
    let cluster = super::cluster(ctx)?;
    if super::authority::is_controller(&cluster, id) {
        return Err(Refusal::invalid(
            "this node runs the control plane and cannot be removed",
        ));
    }
    let node = existing(ctx, id)?;
    forget(ctx, id, Keys::Retire)?;
    ctx.end(&node.lease)?;
    Ok(Answer::done())
}

/// A node goes of its own will, as `bastide down --forget` does: its name is free. Its keys are
/// deleted by itself, so they need not be remembered.
pub(super) fn leave(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    // Which node goes is what its certificate says.
    let Some(machine) = ctx.caller.machine() else {
        return Err(Refusal::Forbidden("only nodes can leave".to_owned()));
    };
    let cluster = super::cluster(ctx)?;
    if super::authority::is_controller(&cluster, machine.node()) {
        return Err(Refusal::invalid(
            "this node runs the control plane and cannot leave",
        ));
    }
    let node = existing(ctx, machine.node())?;
    forget(ctx, machine.node(), Keys::Free)?;
    ctx.end(&node.lease)?;
    Ok(Answer::done())
}

/// Another name for a node.
#[derive(Deserialize)]
struct Renaming {
    name: NodeName,
}

/// Gives a node another name. Its certificate and its address hold its id, which stays.
pub(super) fn rename(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    id: NodeId,
) -> Result<Answer, Refusal> {
    let Renaming { name } = call.parse()?;
    let record: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(id))?;
    let mut record = record.ok_or(Refusal::Absent)?;
    if record.name == name {
        return Ok(Answer::done());
    }
    claims::name(ctx, &name, id)?;
    ctx.delete(&stored::name(&record.name));
    record.name = name;
    view::publish(ctx, &EntryKey::Node(id), &record)?;
    Ok(Answer::done())
}

/// Takes a node out of everything but its lease. May be done twice. `ctx` must be of the mount
/// `mesh/`.
pub(super) fn forget(ctx: &mut Context<'_, '_>, id: NodeId, keys: Keys) -> Result<(), Refusal> {
    let record: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(id))?;
    let node: Option<StoredNode> = ctx.load(&stored::node(id))?;
    if let Some(record) = record {
        ctx.delete(&stored::name(&record.name));
        let identity = node.as_ref().and_then(|node| node.identity.as_ref());
        claims::give_up_keys(ctx, &record, identity, keys)?;
        view::withdraw(ctx, &EntryKey::Node(id))?;
    }
    if let Some(node) = node {
        ctx.delete(&stored::slot(node.slot));
        let now = ctx.now();
        ctx.save(&stored::removed(id), &now)?;
        ctx.delete(&stored::node(id));
    }
    ctx.observe(Observation::NodeGone(id));
    Ok(())
}

/// Returns whether there was such a node once: it was removed, left, or was silent for too long.
pub(super) fn was_removed(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<bool, Refusal> {
    Ok(ctx.get(&stored::removed(id))?.is_some())
}

pub(super) fn existing(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<StoredNode, Refusal> {
    ctx.load(&stored::node(id))?.ok_or(Refusal::Absent)
}
