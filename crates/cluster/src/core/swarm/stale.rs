//! Whether an engine is a member of a Swarm that the cluster's has replaced.
//!
//! A Swarm that was begun anew has another certificate authority: its managers refuse the members of
//! the former one, and those try for ever. They do not tell which Swarm they are in (only managers
//! know), but what its managers were called.

use super::Desired;
use crate::core::state::{Actual, Phase};

/// Returns whether the engine should leave for the cluster's Swarm. Never true of a Swarm of others,
/// nor of what the control plane calls a manager.
pub(super) fn is_stale(desired: &Desired, actual: &Actual) -> bool {
    let (known, found) = (&desired.known, &actual.membership);
    if found.phase == Phase::Inactive || known.managers.contains(&desired.me.address) {
        return false;
    }
    let is_ours = |address| desired.nodes.contains_key(address);
    if let (Some(theirs), Some(ours)) = (&found.swarm, &known.swarm) {
        // One that was forced to go on keeps its id: the managers that it went on without may well be
        // a majority among themselves, and would go on, too.
        let parted = !hears_known_manager(desired, actual);
        return (theirs != ours || parted) && found.address.as_ref().is_some_and(is_ours);
    }
    !known.manager_ids.is_empty()
        && !found.manager_ids.is_empty()
        && found.managers.iter().all(is_ours)
        && found.manager_ids.is_disjoint(&known.manager_ids)
}

/// Returns whether a manager may tell the control plane of its Swarm: if it is known as a manager of
/// it, or hears one that is.
pub(super) fn speaks(desired: &Desired, actual: &Actual) -> bool {
    let known = &desired.known.managers;
    known.is_empty() || known.contains(&desired.me.address) || hears_known_manager(desired, actual)
}

fn hears_known_manager(desired: &Desired, actual: &Actual) -> bool {
    let members = actual.manager.iter().flat_map(|manager| &manager.members);
    members
        .filter(|member| member.ready)
        .filter_map(|member| member.address)
        .any(|address| desired.known.managers.contains(&address))
}
