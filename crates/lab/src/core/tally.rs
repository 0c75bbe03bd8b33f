//! Counts what was seen on a wire.

use ipnet::IpNet;

use super::frame::{self, Layer, LinkKind};

/// Bytes of a canary.
pub const CANARY_BYTES: usize = 32;

/// A random text that stands in the payload of a flow: seen on a wire, the flow was not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary(pub [u8; CANARY_BYTES]);

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Texts that must not, or must, appear in a frame.
    pub canaries: Vec<Canary>,
    /// Subnets whose addresses are inner ones.
    pub inner: Vec<IpNet>,
}

/// How many frames of which kind were seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that hold one of the canaries, anywhere.
    pub canary: u64,
    /// Datagrams of WireGuard.
    pub wireguard: u64,
    /// Frames with a VXLAN header.
    pub vxlan: u64,
    /// Frames with an inner address in an IP or ARP header, at any encapsulation.
    pub inner: u64,
    /// Frames that the kernel dropped before they could be counted, or cut short. While this is not
    /// zero, a zero elsewhere proves nothing.
    pub missed: u64,
}

/// Counts frames by [`Filters`].
#[derive(Debug, Clone)]
pub struct Tally {
    needles: Vec<Needle>,
    inner: Vec<IpNet>,
    counts: Counts,
}

impl Tally {
    /// Begins at zero.
    pub fn new(filters: &Filters) -> Self {
        Self {
            needles: filters.canaries.iter().map(Needle::new).collect(),
            inner: filters.inner.clone(),
            counts: Counts::default(),
        }
    }

    /// Counts a frame.
    pub fn add(&mut self, kind: LinkKind, bytes: &[u8]) {
        let (mut wireguard, mut vxlan, mut inner) = (false, false, false);
        let subnets = &self.inner;
        let is_inner = |address| subnets.iter().any(|net| net.contains(&address));
        frame::read(kind, bytes, &mut |layer| match layer {
            Layer::Arp {
                source,
                destination,
            } => {
                inner |= is_inner(source.into()) || is_inner(destination.into());
            }
            Layer::Ip {
                source,
                destination,
                ..
            } => {
                inner |= is_inner(source) || is_inner(destination);
            }
            Layer::Vxlan { .. } => vxlan = true,
            Layer::WireGuard(_) => wireguard = true,
            Layer::Udp { .. } | Layer::Tcp { .. } => {}
        });
        let canary = self.needles.iter().any(|needle| needle.is_in(bytes));
        let counts = &mut self.counts;
        counts.frames += 1;
        counts.bytes += bytes.len() as u64;
        counts.canary += u64::from(canary);
        counts.wireguard += u64::from(wireguard);
        counts.vxlan += u64::from(vxlan);
        counts.inner += u64::from(inner);
    }

    /// Notes frames that were not seen whole.
    pub fn add_missed(&mut self, frames: u64) {
        self.counts.missed += frames;
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// A canary prepared for searching by Horspool's method: a random text of 32 bytes is compared at
/// about every thirtieth place only.
#[derive(Debug, Clone)]
struct Needle {
    text: [u8; CANARY_BYTES],
    skip: [usize; 256],
}

impl Needle {
    fn new(canary: &Canary) -> Self {
        let mut skip = [CANARY_BYTES; 256];
        for (at, &byte) in canary.0[..CANARY_BYTES - 1].iter().enumerate() {
            skip[usize::from(byte)] = CANARY_BYTES - 1 - at;
        }
        Self {
            text: canary.0,
            skip,
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + CANARY_BYTES) {
            if window == self.text {
                return true;
            }
            at += self.skip[usize::from(window[CANARY_BYTES - 1])];
        }
        false
    }
}

#[cfg(test)]
mod tests;
