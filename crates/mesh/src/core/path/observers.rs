//! What this node looks like from outside: as its peers tell, never as a stranger does.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::NodeId;

/// Nodes whose view of our address is kept.
const OBSERVERS_MAX: usize = 16;
/// What an observer saw is void after this.
const OBSERVED_LIFE: Duration = Duration::from_mins(1);

struct Observed {
    /// What the observer saw.
    seen: SocketAddr,
    /// Where the observer was asked.
    observer: SocketAddr,
    at: Instant,
}

/// What peers have seen of us.
#[derive(Default)]
pub struct Observers(BTreeMap<NodeId, Observed>);

impl Observers {
    /// A peer, asked at `observer`, saw us as `seen`. With too many, the oldest is forgotten.
    pub fn put(&mut self, now: Instant, node: NodeId, observer: SocketAddr, seen: SocketAddr) {
        if self.0.len() >= OBSERVERS_MAX && !self.0.contains_key(&node) {
            let oldest = self.0.iter().min_by_key(|(_, observed)| observed.at);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.0.remove(&oldest);
            }
        }
        let at = now;
        self.0.insert(node, Observed { seen, observer, at });
    }

    /// Forgets what a peer saw.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// Forgets everything: the node stands elsewhere now.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Instant) {
        self.0
            .retain(|_, it| now.saturating_duration_since(it.at) < OBSERVED_LIFE);
    }

    /// Returns the addresses that were seen and are not `own`, those seen by most first. Among
    /// equals, `told` ones come first, so that a list that was told stays as it is.
    pub fn reflexive(&self, own: &[SocketAddr], told: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut votes: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for observed in self.0.values() {
            if !own.contains(&observed.seen) {
                *votes.entry(observed.seen).or_default() += 1;
            }
        }
        let mut ranked: Vec<_> = votes
            .into_iter()
            .map(|(address, votes)| (Reverse(votes), !told.contains(&address), address))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, address)| address).collect()
    }

    /// Tells whether two observers at different places see different ports of one address; `None`
    /// if no two can be compared.
    pub fn varies(&self) -> Option<bool> {
        let all: Vec<&Observed> = self.0.values().collect();
        let mut is_same = None;
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                if one.seen.ip() != other.seen.ip() || one.observer == other.observer {
                    continue;
                }
                if one.seen.port() != other.seen.port() {
                    return Some(true);
                }
                is_same = Some(false);
            }
        }
        is_same
    }
}

#[cfg(test)]
mod tests;
