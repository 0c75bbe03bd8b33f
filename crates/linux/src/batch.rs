//! Memory for many packets at once: arrays in, arrays out.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Packets that one call reads or sends at most. More gains nothing: at 64 the price of the call is
/// some 3 % of a packet's.
pub const BATCH_MAX: usize = 64;

/// Slots of equal size in one piece of memory, each with room before its packet, where a header can
/// be written, and behind it.
///
/// The pages of a slot are touched only as far as packets reach, so slots for the largest datagram
/// cost no more memory than small ones.
pub struct Slots {
    memory: Box<[u8]>,
    stride: usize,
    before: usize,
    after: usize,
    count: usize,
}

impl Slots {
    /// Makes `count` slots (1 to [`BATCH_MAX`]) for packets of up to `len` bytes with so much room
    /// `before` and `after`.
    pub fn new(count: usize, before: usize, len: usize, after: usize) -> Self {
        assert!((1..=BATCH_MAX).contains(&count), "1 to BATCH_MAX slots");
        // An odd number of cache lines, so that the slots do not all fall on the same lines of L1.
        let stride = ((before + len + after).div_ceil(64) | 1) * 64;
        Self {
            memory: vec![0; stride * count].into_boxed_slice(),
            stride,
            before,
            after,
            count,
        }
    }

    /// Returns how many slots there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns where in a slot a packet is read to.
    pub fn start(&self) -> usize {
        self.before
    }

    /// Returns a whole slot: room, packet, room.
    pub fn slot(&mut self, index: usize) -> &mut [u8] {
        let at = index * self.stride;
        &mut self.memory[at..at + self.stride]
    }

    /// Returns a range of a slot.
    pub fn bytes(&self, index: usize, range: Range<usize>) -> &[u8] {
        let at = index * self.stride;
        &self.memory[at..at + self.stride][range]
    }

    /// Returns the part of a slot that a packet can be read into.
    pub(crate) fn space(&mut self, index: usize) -> &mut [u8] {
        let (start, end) = (self.before, self.stride - self.after);
        &mut self.slot(index)[start..end]
    }
}

/// A datagram that was read into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Which slot.
    pub slot: usize,
    /// Where in the slot.
    pub range: Range<usize>,
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it was sent to.
    pub local: Option<IpAddr>,
}

/// A datagram that lies in a slot and is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Which slot.
    pub slot: usize,
    /// Where in the slot.
    pub range: Range<usize>,
    /// Where to.
    pub to: SocketAddr,
    /// From which of our addresses; the kernel chooses if `None`.
    pub local: Option<IpAddr>,
}

/// A packet that was read from a TUN device into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Which slot.
    pub slot: usize,
    /// Where in the slot.
    pub range: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_leave_room() {
        let mut slots = Slots::new(3, 16, 100, 32);
        for index in 0..3 {
            slots.slot(index).fill(u8::try_from(index).unwrap());
            assert!(slots.space(index).len() >= 100);
            assert_eq!(slots.start(), 16);
        }
        for index in 0..3 {
            let slot = slots.slot(index);
            assert!(slot.len() >= 148);
            assert!(slot.iter().all(|byte| usize::from(*byte) == index));
        }
    }
}
