//! What may be spent on finding one peer. Other meshes that punched without a budget killed home
//! routers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Questions sent for one peer within any second.
pub const PER_SECOND_MAX: usize = 32;
/// Addresses probed for one peer within [`MAPPING_LIFE`]: each is a mapping in some NAT.
pub const DESTINATIONS_MAX: usize = 64;
/// How long a NAT keeps a mapping at most, as far as this budget cares.
const MAPPING_LIFE: Duration = Duration::from_mins(2);

/// The budget of one peer.
#[derive(Debug, Default)]
pub struct Budget {
    sent: VecDeque<Instant>,
    destinations: BTreeMap<SocketAddr, Instant>,
}

impl Budget {
    /// Tells whether one more question may be sent now, and counts it.
    pub fn take(&mut self, now: Instant) -> bool {
        while let Some(first) = self.sent.front()
            && now.saturating_duration_since(*first) >= Duration::from_secs(1)
        {
            self.sent.pop_front();
        }
        if self.sent.len() >= PER_SECOND_MAX {
            return false;
        }
        self.sent.push_back(now);
        true
    }

    /// As [`Self::take`], for a question to an address of the peer's.
    pub fn take_to(&mut self, now: Instant, to: SocketAddr) -> bool {
        if !self.destinations.contains_key(&to) {
            self.destinations
                .retain(|_, last| now.saturating_duration_since(*last) < MAPPING_LIFE);
            if self.destinations.len() >= DESTINATIONS_MAX {
                return false;
            }
        }
        if !self.take(now) {
            return false;
        }
        self.destinations.insert(to, now);
        true
    }

    /// Returns when the next question may be sent.
    pub fn next(&self, now: Instant) -> Instant {
        match self.sent.front() {
            Some(first) if self.sent.len() >= PER_SECOND_MAX => {
                now.max(*first + Duration::from_secs(1))
            }
            Some(_) | None => now,
        }
    }

    /// The mappings are void: the node sits behind another NAT now.
    pub fn forget_destinations(&mut self) {
        self.destinations.clear();
    }
}

#[cfg(test)]
mod tests;
