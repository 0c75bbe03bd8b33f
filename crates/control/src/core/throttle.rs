//! How much one source address may ask of the door that faces the world.
//!
//! An address means nothing about who asks, and many nodes may share one: so it is a brake on
//! strangers who guess and flood, never a proof, and generous to a site behind one router.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Refused joins that an address has in stock, and how long one takes to come back.
const REFUSALS_MAX: u32 = 64;
const REFUSAL_EVERY: Duration = Duration::from_secs(2);
/// Most addresses that are remembered; the one that behaved longest is forgotten first.
const SOURCES_MAX: usize = 16_384;

/// Counts refused joins by source: a bucket of [`REFUSALS_MAX`] each, filled again over time.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When each source's bucket will be full again.
    full_at: BTreeMap<IpAddr, Instant>,
}

impl Throttle {
    /// Returns for how long a source must wait; zero if it need not.
    pub fn wait(&self, now: Instant, source: IpAddr) -> Duration {
        let Some(full_at) = self.full_at.get(&whole(source)) else {
            return Duration::ZERO;
        };
        let debt = full_at.saturating_duration_since(now);
        let stock = REFUSAL_EVERY * REFUSALS_MAX;
        match debt.checked_sub(stock) {
            Some(over) if !over.is_zero() => over,
            // All is spent: the next one is back in a while.
            Some(_) => REFUSAL_EVERY,
            None => Duration::ZERO,
        }
    }

    /// Notes that a source was refused.
    pub fn refused(&mut self, now: Instant, source: IpAddr) {
        let source = whole(source);
        if SOURCES_MAX <= self.full_at.len() && !self.full_at.contains_key(&source) {
            self.full_at.retain(|_, full_at| now < *full_at);
            if SOURCES_MAX <= self.full_at.len() {
                let first = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
                if let Some(first) = first.map(|(source, _)| *source) {
                    self.full_at.remove(&first);
                }
            }
        }
        let full_at = self.full_at.entry(source).or_insert(now);
        *full_at = (*full_at).max(now) + REFUSAL_EVERY;
    }
}

/// Counts open connections by source.
#[derive(Debug)]
pub struct Connections {
    open: BTreeMap<IpAddr, usize>,
    most: usize,
}

impl Connections {
    /// Counts up to `most` of one source.
    pub fn up_to(most: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            most,
        }
    }

    /// Notes a connection; `false` if the source has too many.
    pub fn opened(&mut self, source: IpAddr) -> bool {
        let open = self.open.entry(whole(source)).or_insert(0);
        if self.most <= *open {
            return false;
        }
        *open += 1;
        true
    }

    /// Notes that one of a source's connections ended.
    pub fn closed(&mut self, source: IpAddr) {
        let source = whole(source);
        if let Some(open) = self.open.get_mut(&source) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }
}

/// Counts bytes that are held for requests on their way, of all sources together and of each.
#[derive(Debug)]
pub struct Held {
    by_source: BTreeMap<IpAddr, usize>,
    all: usize,
    most: usize,
}

impl Held {
    /// Counts up to `most` bytes of all, and half as many of one source.
    pub const fn up_to(most: usize) -> Self {
        Self {
            by_source: BTreeMap::new(),
            all: 0,
            most,
        }
    }

    /// Notes bytes; `false`, and nothing is noted, if there are too many. Requests from within this
    /// host have no source.
    pub fn take(&mut self, source: Option<IpAddr>, bytes: usize) -> bool {
        let all = self.all.saturating_add(bytes);
        if self.most < all {
            return false;
        }
        if let Some(source) = source {
            let source = whole(source);
            let its = self.by_source.get(&source).copied().unwrap_or(0);
            let its = its.saturating_add(bytes);
            if self.most / 2 < its {
                return false;
            }
            self.by_source.insert(source, its);
        }
        self.all = all;
        true
    }

    /// Notes that bytes are held no more.
    pub fn give_back(&mut self, source: Option<IpAddr>, bytes: usize) {
        self.all = self.all.saturating_sub(bytes);
        let Some(source) = source.map(whole) else {
            return;
        };
        if let Some(its) = self.by_source.get_mut(&source) {
            *its = its.saturating_sub(bytes);
            if *its == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// Folds an address into what one subscriber has: an IPv4 address, or a /64 of IPv6.
pub(crate) fn whole(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let upper = u128::from(v6) >> 64 << 64;
            IpAddr::V6(upper.into())
        }
    }
}

#[cfg(test)]
mod tests;
