//! When is the device under load, and which addresses may still be answered then.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Handshake messages that are answered without a cookie: at once, and for each second. An answer
/// costs some 150 µs, so that a flood takes a tenth of a core at most.
const MESSAGES_BURST: u32 = 128;
const MESSAGES_PER_SECOND: u32 = 512;
/// How long the device stays under load after the last message that was too many.
const CALM: Duration = Duration::from_secs(1);

/// Under load, messages that one address may send: at once, and for each second.
const ADDRESS_BURST: u32 = 5;
const ADDRESS_PER_SECOND: u32 = 20;
/// Addresses that are remembered. With more, unknown ones are refused until older ones are idle.
const ADDRESSES_MAX: usize = 8192;

/// Judges handshake messages whose `mac1` is right.
pub struct Load {
    all: Bucket,
    under_load_until: Option<Instant>,
    addresses: BTreeMap<IpAddr, Bucket>,
}

impl Load {
    /// Nothing has come yet.
    pub fn new(now: Instant) -> Self {
        Self {
            all: Bucket::full(now, MESSAGES_BURST),
            under_load_until: None,
            addresses: BTreeMap::new(),
        }
    }

    /// Counts a message and tells whether its sender has to prove its address.
    pub fn count(&mut self, now: Instant) -> bool {
        if !self.all.take(now, MESSAGES_BURST, MESSAGES_PER_SECOND) {
            self.under_load_until = Some(now + CALM);
        }
        self.under_load_until.is_some_and(|until| now < until)
    }

    /// Tells whether one more message of an address that was proved may be answered under load.
    pub fn admits(&mut self, now: Instant, from: IpAddr) -> bool {
        let key = network(from);
        if !self.addresses.contains_key(&key) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses
                .retain(|_, bucket| !bucket.is_full(now, ADDRESS_BURST));
            if self.addresses.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        self.addresses
            .entry(key)
            .or_insert_with(|| Bucket::full(now, ADDRESS_BURST))
            .take(now, ADDRESS_BURST, ADDRESS_PER_SECOND)
    }
}

/// Whoever has an IPv6 address has its whole /64.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// A token bucket.
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    fn full(now: Instant, burst: u32) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    /// Tells whether the bucket was left alone for a second: it is full, and may be forgotten.
    fn is_full(&self, now: Instant, burst: u32) -> bool {
        self.tokens >= burst || now.saturating_duration_since(self.filled) >= Duration::from_secs(1)
    }

    fn take(&mut self, now: Instant, burst: u32, per_second: u32) -> bool {
        let each = Duration::from_secs(1) / per_second;
        let idle = now.saturating_duration_since(self.filled);
        let earned = u32::try_from(idle.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        if self.tokens.saturating_add(earned) >= burst {
            self.tokens = burst;
            self.filled = now;
        } else {
            self.tokens += earned;
            self.filled += each * earned;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
