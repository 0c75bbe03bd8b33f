//! Decides when a service should be spread anew: Swarm places a replica once and never moves it, so
//! after a node was away all replicas stand elsewhere.
//!
//! No replica is missing meanwhile: the service gets a few more than it should have and then as many
//! less, which Swarm takes from where there are most (swarmkit,
//! `manager/orchestrator/replicated/services.go`: of each node the first task is kept first). Where
//! the new ones go is less certain. Swarm fills each site up to the same share and hands what is left
//! over to sites in any order (`manager/scheduler/scheduler.go`, `scheduleNTasksOnSubtree`), so that
//! with 2, 1 and 0 replicas one more may well become 2, 2 and 0. So many are added that they cannot
//! all go astray: see [`surge`].

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_api::UnixTime;

use super::service::Wish;
use super::state::{Availability, ManagerState, Member, ServiceId, SwarmService, SwarmTask};
use super::swarm::{Desired, Memory};

/// The node label that names a node's site.
pub const SITE_LABEL: &str = "bastide.site";
/// The node label that names a node's architecture.
pub const ARCH_LABEL: &str = "bastide.arch";
/// The node label that names a node.
pub const NODE_LABEL: &str = "bastide.node";

/// A service that is to be spread anew.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// What it should be.
    pub wish: &'a Wish,
    /// What it is.
    pub found: &'a SwarmService,
    /// How many replicas it gets for the time of the move.
    pub replicas: u32,
}

/// Returns the first service of `settled` that is skewed over members that have been stable for as
/// long as the cluster asks, and was not spread anew within that time.
pub fn next<'a>(
    settled: &[(&'a Wish, &'a SwarmService)],
    manager: &ManagerState,
    memory: &Memory,
    desired: &Desired,
    now: UnixTime,
) -> Option<Move<'a>> {
    let stable = Duration::from_millis(desired.settings.rebalance_after_ms);
    let is_stable = |member: &Member| {
        let since = memory.ready_since.get(&member.id);
        since.is_some_and(|since| stable <= now.since(*since))
    };
    settled.iter().find_map(|(wish, found)| {
        if let Some(at) = memory.spread_at.get(&found.id)
            && now.since(*at) < stable.max(SPREAD_PAUSE)
        {
            return None;
        }
        if !wish.is_stateless() {
            return None;
        }
        let nodes = placed(wish, &found.id, manager)?;
        let stable = nodes.iter().filter(|(member, _)| is_stable(member));
        if !is_skewed(&by_site(stable)) {
            return None;
        }
        let sites = by_site(nodes.iter());
        let counts: Vec<u32> = sites.values().map(|nodes| nodes.iter().sum()).collect();
        let replicas = wish.spec.replicas.checked_add(surge(&counts)?)?;
        Some(Move {
            wish,
            found,
            replicas,
        })
    })
}

/// Shortest time between two moves of one service.
const SPREAD_PAUSE: Duration = Duration::from_secs(2);
/// Most replicas that a service has too many for the time of a move.
const SURGE_REPLICAS_MAX: u32 = 8;

/// Returns how many replicas each member has that may run the service; `None` if one does not run,
/// or stands where it may be about to go: that is Swarm's business first.
fn placed<'a>(
    wish: &Wish,
    id: &ServiceId,
    manager: &'a ManagerState,
) -> Option<Vec<(&'a Member, u32)>> {
    let ready = |member: &&Member| member.ready && member.availability == Availability::Active;
    let members: Vec<&Member> = manager.members.iter().filter(ready).collect();
    let mut nodes: Vec<(&Member, u32)> = eligible(wish, &members)?
        .into_iter()
        .map(|member| (member, 0))
        .collect();
    let wanted = |task: &&SwarmTask| task.service == *id && task.wanted;
    for task in manager.tasks.iter().filter(wanted) {
        let at = nodes
            .iter_mut()
            .find(|(member, _)| task.member.as_ref() == Some(&member.id));
        at.filter(|_| task.running)?.1 += 1;
    }
    Some(nodes)
}

fn by_site<'a>(nodes: impl Iterator<Item = &'a (&'a Member, u32)>) -> BTreeMap<&'a str, Vec<u32>> {
    let mut sites: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (member, count) in nodes {
        let site = member.labels.get(SITE_LABEL).map_or("", String::as_str);
        sites.entry(site).or_default().push(*count);
    }
    sites
}

/// Returns whether moving one replica would even out the sites, or the nodes within one.
fn is_skewed(sites: &BTreeMap<&str, Vec<u32>>) -> bool {
    let uneven = |counts: &[u32]| {
        let (least, most) = (counts.iter().min(), counts.iter().max());
        least
            .zip(most)
            .is_some_and(|(least, most)| least + 2 <= *most)
    };
    let sums: Vec<u32> = sites.values().map(|nodes| nodes.iter().sum()).collect();
    uneven(&sums) || sites.values().any(|nodes| uneven(nodes))
}

/// Returns how many more replicas even out sites with so many each, or the nodes within one of them
/// if the sites are even; `None` if that would take too many.
///
/// Of `n` more, each site is filled up to a share of `(all + n) / sites`, and the rest of that
/// division is given to sites that have just that share, one each. So `n` must exceed the number of
/// those that are not among the emptiest.
fn surge(sites: &[u32]) -> Option<u32> {
    let count = u32::try_from(sites.len()).ok()?;
    let all: u32 = sites.iter().sum();
    let (least, most) = (sites.iter().min()?, sites.iter().max()?);
    if least == most {
        // One for each site, so that the one with uneven nodes has its own.
        return Some(count).filter(|count| *count <= SURGE_REPLICAS_MAX);
    }
    (1..=SURGE_REPLICAS_MAX).find(|more| {
        let (share, rest) = ((all + more) / count, (all + more) % count);
        let astray = sites
            .iter()
            .filter(|has| **has == share && share != *least)
            .count();
        rest == 0 || astray < usize::try_from(*more).unwrap_or(0)
    })
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
