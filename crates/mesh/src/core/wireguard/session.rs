//! An established session: two keys and two counters. It knows nothing of peers, addresses or
//! timers, so that its halves can be given to lanes that seal and open on their own.

use std::ops::Range;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::event::Discard;
use super::message::{DATA_HEADER_LEN, Message, TAG_LEN, write_head};
use super::noise::{SessionKeys, aead_key, nonce};
use super::replay::ReplayWindow;

/// "Rekey-After-Messages 2^60 messages" (whitepaper, 6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// "Reject-After-Messages 2^64 - 2^13 - 1 messages".
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// "Rekey-After-Time 120 seconds".
pub const REKEY_AFTER_TIME: Duration = Duration::from_mins(2);
/// "Reject-After-Time 180 seconds".
pub const REJECT_AFTER_TIME: Duration = Duration::from_mins(3);

/// Packets are padded to a multiple of this, so that their length tells less.
const PADDING: usize = 16;

/// The sending half.
pub struct Sealer {
    key: LessSafeKey,
    /// The index that the peer chose: our messages name it.
    pub receiver: u32,
    counter: u64,
}

impl Sealer {
    /// Seals `packet` within `buffer`: header before it, padding and tag behind it. Returns where
    /// the datagram lies. The padding never makes the packet longer than `mtu`.
    pub fn seal(
        &mut self,
        buffer: &mut [u8],
        packet: Range<usize>,
        mtu: usize,
    ) -> Result<Range<usize>, Discard> {
        if self.counter >= REJECT_AFTER_MESSAGES {
            return Err(Discard::Expired);
        }
        let padded = padded_len(packet.len(), mtu);
        let start = packet
            .start
            .checked_sub(DATA_HEADER_LEN)
            .ok_or(Discard::TooLong)?;
        let end = packet.start + padded + TAG_LEN;
        let datagram = buffer.get_mut(start..end).ok_or(Discard::TooLong)?;

        write_head(
            datagram,
            Message::Data {
                receiver: self.receiver,
            },
        );
        datagram[8..DATA_HEADER_LEN].copy_from_slice(&self.counter.to_le_bytes());
        let (sealed, tag) = datagram[DATA_HEADER_LEN..].split_at_mut(padded);
        sealed[packet.len()..].fill(0);
        let sealed_tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.counter), Aad::empty(), sealed)
            .expect("a packet is far below the cipher's limit");
        tag.copy_from_slice(sealed_tag.as_ref());
        self.counter += 1;
        Ok(start..end)
    }
}

/// The receiving half.
pub struct Opener {
    key: LessSafeKey,
    window: ReplayWindow,
}

impl Opener {
    /// Opens a data message in place and returns where the padded packet lies.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<Range<usize>, Discard> {
        let header = datagram.get(8..DATA_HEADER_LEN).ok_or(Discard::Data)?;
        let counter = u64::from_le_bytes(header.try_into().expect("8 bytes"));
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(Discard::Expired);
        }
        // Only saves work: what counts is `accept`, after the tag was checked.
        if !self.window.would_accept(counter) {
            return Err(Discard::Replay);
        }
        let opened = self
            .key
            .open_in_place(
                nonce(counter),
                Aad::empty(),
                &mut datagram[DATA_HEADER_LEN..],
            )
            .map_err(|_| Discard::Data)?
            .len();
        if !self.window.accept(counter) {
            return Err(Discard::Replay);
        }
        Ok(DATA_HEADER_LEN..DATA_HEADER_LEN + opened)
    }
}

/// Both halves, and what the rules about age need to know.
pub struct Session {
    /// The index that we chose: the peer's messages name it.
    pub local_index: u32,
    /// Whether we began the handshake; only the initiator renews by age.
    pub initiator: bool,
    /// When the keys were derived.
    pub created: Instant,
    /// The sending half.
    pub sealer: Sealer,
    /// The receiving half.
    pub opener: Opener,
}

impl Session {
    /// Makes a session of a handshake's keys. `receiver` is the index that the peer chose.
    pub fn new(
        now: Instant,
        keys: &SessionKeys,
        local_index: u32,
        receiver: u32,
        initiator: bool,
    ) -> Self {
        Self {
            local_index,
            initiator,
            created: now,
            sealer: Sealer {
                key: aead_key(keys.send.expose()),
                receiver,
                counter: 0,
            },
            opener: Opener {
                key: aead_key(keys.receive.expose()),
                window: ReplayWindow::new(),
            },
        }
    }

    /// Returns how old the keys are.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    /// "After Reject-After-Messages transport data messages or Reject-After-Time, WireGuard will
    /// refuse to send or receive any more" (6.2).
    pub fn is_usable(&self, now: Instant) -> bool {
        self.age(now) < REJECT_AFTER_TIME && self.sealer.counter < REJECT_AFTER_MESSAGES
    }

    /// Whether sending now should also begin the next handshake (6.2).
    pub fn wants_rekey_on_send(&self, now: Instant) -> bool {
        self.sealer.counter >= REKEY_AFTER_MESSAGES
            || self.initiator && self.age(now) >= REKEY_AFTER_TIME
    }
}

/// The length of a packet with its padding: a multiple of 16, but never beyond the MTU.
pub fn padded_len(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu).max(len)
}

#[cfg(test)]
mod tests;
