//! What only one node can have: a name, a WireGuard key, an identity key, a slot of the address plan.

use std::collections::BTreeSet;

use bastide_api::{ClusterRecord, NodeId, NodeName, WireGuardKey};

use super::stored::{self, Retired, SLOT_NEXT};
use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// What becomes of a node's keys when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// A machine may join with them again: nobody decided against it.
    Free,
    /// They make no node ever again.
    Retire,
}

/// Refuses a name that a node has. `ctx` may be of any mount.
pub fn check_name_is_free(ctx: &mut Context<'_, '_>, name: &NodeName) -> Result<(), Refusal> {
    let mut ctx = ctx.within(super::MOUNT)?;
    match ctx.load::<NodeId>(&stored::name(name))? {
        Some(holder) => Err(Refusal::Ticket {
            record: "the name is taken",
            text: format!(
                "the name `{name}` is taken by node {holder}: choose another with `--name`, or \
                 remove that node first with `bastide node remove {name}`"
            ),
        }),
        None => Ok(()),
    }
}

/// Returns which node has a name. `ctx` may be of any mount; without a cluster there is none.
pub fn node_named(ctx: &mut Context<'_, '_>, name: &NodeName) -> Result<Option<NodeId>, Refusal> {
    ctx.within(super::MOUNT)?.load(&stored::name(name))
}

pub(super) fn name(ctx: &mut Context<'_, '_>, name: &NodeName, id: NodeId) -> Result<(), Refusal> {
    check_name_is_free(ctx, name)?;
    ctx.save(&stored::name(name), &id)
}

/// Refuses keys that are another node's, or were a removed one's. `ctx` must be of the mount `mesh/`.
pub(super) fn check_keys(
    ctx: &mut Context<'_, '_>,
    wireguard: &WireGuardKey,
    identity: &[u8; 32],
    id: NodeId,
) -> Result<(), Refusal> {
    if *wireguard.as_bytes() == [0; 32] {
        return Err(Refusal::invalid("the WireGuard key is all zeros"));
    }
    let places = [
        ("WireGuard", stored::wireguard(wireguard)),
        ("identity", stored::identity(identity)),
    ];
    for (what, at) in places {
        if let Some(gone) = ctx.load::<Retired>(&stored::retired(&at))? {
            return Err(Refusal::Ticket {
                record: "keys of a removed node",
                text: format!(
                    "this machine's keys were those of node `{}`, which was removed: type \
                     `bastide down --forget` on it, then join with a new ticket",
                    gone.name
                ),
            });
        }
        let holder = ctx.load::<NodeId>(&at)?;
        if holder.is_some_and(|holder| holder != id) {
            return Err(Refusal::Ticket {
                record: "keys of another node",
                text: format!(
                    "the {what} key is another node's, as after copying its disk: type `bastide \
                     down --forget` on this machine, then join with a new ticket"
                ),
            });
        }
    }
    Ok(())
}

pub(super) fn keys(
    ctx: &mut Context<'_, '_>,
    wireguard: &WireGuardKey,
    identity: &[u8; 32],
    id: NodeId,
) -> Result<(), Refusal> {
    check_keys(ctx, wireguard, identity, id)?;
    ctx.save(&stored::wireguard(wireguard), &id)?;
    ctx.save(&stored::identity(identity), &id)
}

/// Gives up the keys of a node that goes.
pub(super) fn give_up_keys(
    ctx: &mut Context<'_, '_>,
    record: &bastide_api::NodeRecord,
    identity: Option<&[u8; 32]>,
    keys: Keys,
) -> Result<(), Refusal> {
    let places = [
        Some(stored::wireguard(&record.wireguard)),
        identity.map(stored::identity),
    ];
    for at in places.into_iter().flatten() {
        ctx.delete(&at);
        if keys == Keys::Retire {
            let retired = Retired {
                format: 1,
                node: record.id,
                name: record.name.clone(),
                at: ctx.now(),
            };
            ctx.save(&stored::retired(&at), &retired)?;
        }
    }
    Ok(())
}

/// Takes a slot of the address plan: the first for the first controller, whose address is known
/// before it joins; for others the first free one after the one given out last, so that a removed
/// node's addresses rest for as long as there are others.
pub(super) fn slot(
    ctx: &mut Context<'_, '_>,
    cluster: &ClusterRecord,
    id: NodeId,
) -> Result<u32, Refusal> {
    let count = cluster.plan.nodes_max();
    if cluster.controllers.first().is_some_and(|it| it.node == id) {
        ctx.save(&stored::slot(0), &id)?;
        return Ok(0);
    }
    let start: u32 = ctx.load(SLOT_NEXT)?.unwrap_or(1);
    let taken = ctx.keys("slot/")?;
    let taken: BTreeSet<u32> = taken
        .iter()
        .filter_map(|key| u32::from_str_radix(key, 16).ok())
        .collect();
    let free = (start..count)
        .chain(1..start.min(count))
        .find(|slot| !taken.contains(slot))
        .ok_or_else(|| {
            Refusal::invalid(format!(
                "the address plan has no room for more than {count} nodes"
            ))
        })?;
    ctx.save(&stored::slot(free), &id)?;
    ctx.save(SLOT_NEXT, &(free + 1))?;
    Ok(free)
}
