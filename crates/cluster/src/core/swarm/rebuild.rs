//! Deciding how a Swarm that lost its managers is made whole: `bastide cluster rebuild`.
//!
//! Nothing that counts is in the Swarm: the store holds the stacks, the view the nodes. What is lost
//! is only which task runs where, so every task may be started anew.

use super::{Desired, Step};
use crate::core::state::{Membership, Phase};

/// How a Swarm is made whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// This engine still knows the Swarm: it goes on as its only manager. Tasks go on, too.
    Keep,
    /// A new Swarm. The members of the former one leave it and join by themselves; every task is
    /// started anew.
    Anew,
}

/// Why a Swarm is not rebuilt here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildRefusal {
    /// The Swarm is begun by controllers alone.
    #[error("this node runs no control plane; do it on one that does, `bastide status` marks it")]
    Elsewhere,
    /// It works.
    #[error("the Swarm has a manager that answers: there is nothing to rebuild")]
    Works,
    /// The engine is a member of another.
    #[error("the container engine is a member of a Swarm that is not this cluster's")]
    Foreign,
    /// A range or a name is in use.
    #[error("the node cannot be a member: {0}")]
    Collides(String),
}

/// Decides how to rebuild. `leads` is whether the engine is a manager whose Swarm answers; `anew`
/// asks for a new Swarm even if the old one could be kept.
pub fn way(
    desired: &Desired,
    found: &Membership,
    leads: bool,
    anew: bool,
) -> Result<Way, RebuildRefusal> {
    if !desired.controller {
        return Err(RebuildRefusal::Elsewhere);
    }
    if let Some(collision) = desired.collisions.first() {
        return Err(RebuildRefusal::Collides(collision.to_string()));
    }
    let is_member = matches!(found.phase, Phase::Active | Phase::Pending);
    let is_ours = found.address == Some(desired.me.address)
        || found
            .managers
            .iter()
            .any(|one| desired.nodes.contains_key(one));
    if is_member && !is_ours && !(found.address.is_none() && found.managers.is_empty()) {
        return Err(RebuildRefusal::Foreign);
    }
    if anew {
        return Ok(Way::Anew);
    }
    if leads {
        return Err(RebuildRefusal::Works);
    }
    if found.manager {
        return Ok(Way::Keep);
    }
    Ok(Way::Anew)
}

/// Returns the steps of a way, in order. The networks of the host are kept.
pub fn steps(way: Way, desired: &Desired, found: &Membership) -> Vec<Step> {
    let address = desired.me.address;
    if way == Way::Keep {
        return vec![Step::Force { address }];
    }
    let mut steps = Vec::new();
    if found.phase != Phase::Inactive {
        steps.push(Step::Leave);
    }
    steps.push(Step::Init {
        address,
        pool: desired.plan.swarm_pool,
        heartbeat_ms: desired.settings.heartbeat_ms,
    });
    steps
}

#[cfg(test)]
mod tests;
