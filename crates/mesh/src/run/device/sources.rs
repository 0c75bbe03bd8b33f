//! Which of our addresses each remote one talks to, so that it is answered from there.
//!
//! A host with several addresses would else answer from whichever the kernel likes best, and a
//! peer's NAT drops what comes from an address that was not asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an address is remembered without hearing from it: as long as a session lives.
const FRESH: Duration = Duration::from_mins(3);
/// How often the time of the last datagram is noted, to do so for batches and not for packets.
const NOTED: Duration = Duration::from_secs(1);
/// Addresses that are remembered; beyond, the kernel chooses, which is right for most hosts anyway.
const SOURCES_MAX: usize = 16_384;

/// Remote addresses, and ours that they used last.
#[derive(Debug, Default)]
pub struct Sources {
    heard: BTreeMap<SocketAddr, Heard>,
    /// The last that was noted and the last that was asked for: a batch is mostly of one peer.
    last_noted: Option<(SocketAddr, Heard)>,
    last_asked: Option<(SocketAddr, Option<IpAddr>, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    local: IpAddr,
    at: Instant,
}

impl Sources {
    /// Notes that a datagram of `from` came to one of our addresses.
    pub fn note(&mut self, now: Instant, from: SocketAddr, local: Option<IpAddr>) {
        let Some(local) = local else {
            return;
        };
        if let Some((last, heard)) = self.last_noted
            && (last, heard.local) == (from, local)
            && now.saturating_duration_since(heard.at) < NOTED
        {
            return;
        }
        if !self.heard.contains_key(&from) && self.heard.len() >= SOURCES_MAX {
            self.heard
                .retain(|_, heard| now.saturating_duration_since(heard.at) < FRESH);
            if self.heard.len() >= SOURCES_MAX {
                return;
            }
        }
        let heard = Heard { local, at: now };
        self.heard.insert(from, heard);
        self.last_noted = Some((from, heard));
        self.last_asked = None;
    }

    /// Returns the address to send to `to` from, if there is one to prefer.
    pub fn get(&mut self, now: Instant, to: SocketAddr) -> Option<IpAddr> {
        if let Some((last, local, at)) = self.last_asked
            && last == to
            && now.saturating_duration_since(at) < NOTED
        {
            return local;
        }
        let local = self
            .heard
            .get(&to)
            .filter(|heard| now.saturating_duration_since(heard.at) < FRESH)
            .map(|heard| heard.local);
        self.last_asked = Some((to, local, now));
        local
    }

    /// Forgets everything: something about the ways out of this host has changed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(host: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(host.into()), 1)
    }

    #[test]
    fn the_address_used_last_is_preferred_until_it_is_stale_or_cleared() {
        let now = Instant::now();
        let [one, two] = [1u8, 2].map(|host| IpAddr::from([192, 0, 2, host]));
        let mut sources = Sources::default();
        assert_eq!(sources.get(now, remote(9)), None);
        sources.note(now, remote(9), Some(one));
        assert_eq!(sources.get(now, remote(9)), Some(one));
        sources.note(now, remote(9), Some(two));
        assert_eq!(sources.get(now, remote(9)), Some(two));
        assert_eq!(sources.get(now + FRESH, remote(9)), None);
        assert_eq!(sources.get(now, remote(8)), None);
        sources.clear();
        assert_eq!(sources.get(now, remote(9)), None);
    }

    #[test]
    fn strangers_cannot_fill_more_than_the_table() {
        let now = Instant::now();
        let mut sources = Sources::default();
        let local = Some(IpAddr::from([192, 0, 2, 1]));
        for host in 0..20_000 {
            sources.note(now, remote(host), local);
        }
        assert_eq!(sources.heard.len(), SOURCES_MAX);
        sources.note(now + FRESH, remote(30_000), local);
        assert_eq!(sources.heard.len(), 1);
    }
}
