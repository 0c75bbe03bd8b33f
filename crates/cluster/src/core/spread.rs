//! Decides when a service should be spread anew: Swarm places a replica once and never moves it, so
//! after a node was away all replicas stand elsewhere.
//!
//! One replica moves at a time and none is missing meanwhile: the service gets one more, which Swarm
//! puts where there are fewest, and then one less, which Swarm takes from where there are most
//! (swarmkit, `manager/orchestrator/replicated/services.go`: slots are sorted by the number of tasks
//! of the same service on their node).

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_api::UnixTime;

use super::service::Wish;
use super::state::{
    Availability, ManagerState, Member, MemberId, ServiceId, SwarmService, SwarmTask,
};
use super::swarm::{Desired, Memory};

/// The node label that names a node's site.
pub const SITE_LABEL: &str = "bastide.site";
/// The node label that names a node's architecture.
pub const ARCH_LABEL: &str = "bastide.arch";
/// The node label that names a node.
pub const NODE_LABEL: &str = "bastide.node";

/// Returns the first service of `settled` that is skewed over members that have been stable for as
/// long as the cluster asks, and was not spread anew within that time.
pub fn next<'a>(
    settled: &[(&'a Wish, &'a SwarmService)],
    manager: &ManagerState,
    memory: &Memory,
    desired: &Desired,
    now: UnixTime,
) -> Option<(&'a Wish, &'a SwarmService)> {
    let stable = Duration::from_millis(desired.settings.rebalance_after_ms);
    let members: Vec<&Member> = manager
        .members
        .iter()
        .filter(|member| member.ready && member.availability == Availability::Active)
        .filter(|member| {
            memory
                .ready_since
                .get(&member.id)
                .is_some_and(|since| stable <= now.since(*since))
        })
        .collect();
    settled.iter().copied().find(|(wish, service)| {
        let rested = match memory.spread_at.get(&service.id) {
            Some(at) => stable.max(SPREAD_PAUSE) <= now.since(*at),
            None => true,
        };
        rested && wish.is_stateless() && skewed(wish, &service.id, &members, manager)
    })
}

/// Shortest time between two moves of one service.
const SPREAD_PAUSE: Duration = Duration::from_secs(2);

/// Returns whether moving one replica would even out the sites, or the nodes within one.
fn skewed(wish: &Wish, id: &ServiceId, members: &[&Member], manager: &ManagerState) -> bool {
    let Some(eligible) = eligible(wish, members) else {
        return false;
    };
    let mut nodes: BTreeMap<&MemberId, usize> =
        eligible.iter().map(|member| (&member.id, 0)).collect();
    let wanted = |task: &&SwarmTask| task.service == *id && task.wanted;
    for task in manager.tasks.iter().filter(wanted) {
        // A replica that does not run, or runs on a node that may be about to go, is Swarm's
        // business first.
        let Some(count) = task
            .member
            .as_ref()
            .and_then(|member| nodes.get_mut(member))
        else {
            return false;
        };
        if !task.running {
            return false;
        }
        *count += 1;
    }
    let mut sites: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for member in &eligible {
        let site = member.labels.get(SITE_LABEL).map_or("", String::as_str);
        sites.entry(site).or_default().push(nodes[&member.id]);
    }
    let uneven = |counts: &mut dyn Iterator<Item = usize>| {
        let counts: Vec<usize> = counts.collect();
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        least
            .zip(most)
            .is_some_and(|(least, most)| least + 2 <= most)
    };
    if uneven(&mut sites.values().map(|counts| counts.iter().sum())) {
        return true;
    }
    sites
        .values()
        .any(|counts| uneven(&mut counts.iter().copied()))
}

/// Returns the members that a service may run on; `None` if its placement says something that only
/// Swarm can judge.
fn eligible<'a>(wish: &Wish, members: &[&'a Member]) -> Option<Vec<&'a Member>> {
    let placement = &wish.spec.placement;
    if !placement.spread.is_empty() && placement.spread != [format!("node.labels.{SITE_LABEL}")] {
        return None;
    }
    let mut eligible = Vec::new();
    for member in members {
        let mut fits = true;
        for constraint in &placement.constraints {
            let text = constraint.as_str();
            let (key, value, equal) = text
                .split_once("==")
                .map(|(key, value)| (key, value, true))
                .or_else(|| {
                    text.split_once("!=")
                        .map(|(key, value)| (key, value, false))
                })?;
            let label = key.strip_prefix("node.labels.")?;
            let found = member.labels.get(label).is_some_and(|found| found == value);
            fits &= found == equal;
        }
        if fits {
            eligible.push(*member);
        }
    }
    Some(eligible)
}

#[cfg(test)]
mod tests;
