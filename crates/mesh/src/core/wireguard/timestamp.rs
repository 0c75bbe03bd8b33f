//! TAI64N labels: handshakes carry one, and each must be after the one before.

use bastide_api::UnixTime;

/// A moment as WireGuard's handshake carries it: 8 bytes of seconds with 2^62 added, 4 bytes of
/// nanoseconds, big endian, so that labels compare as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tai64N([u8; 12]);

/// "TAI64 seconds from 2^62": the label of 1970-01-01 00:00:10 TAI.
const BASE: u64 = 0x4000_0000_0000_000a;
/// Labels are rounded down to about 16 ms, so that they tell less of the sender's clock.
const GRAIN_NS: u32 = 1 << 24;
const SECOND_NS: u32 = 1_000_000_000;

impl Tai64N {
    /// Before every label that is made.
    pub const ZERO: Self = Self([0; 12]);

    /// Returns the label of `time`, rounded down to the grain.
    pub fn at(time: UnixTime) -> Self {
        let millis = u32::try_from(time.as_millis() % 1000).expect("below 1000");
        Self::compose(
            BASE.saturating_add(time.as_secs()),
            millis * 1_000_000 / GRAIN_NS * GRAIN_NS,
        )
    }

    /// Wraps the bytes of a message or a file. Any bytes are a label; they compare as they are.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// Returns the label `seconds` later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let (whole, nanos) = self.parts();
        Self::compose(whole.saturating_add(seconds), nanos)
    }

    /// Returns the next label: one grain later.
    #[must_use]
    pub fn next(self) -> Self {
        let (whole, nanos) = self.parts();
        let nanos = nanos.saturating_add(GRAIN_NS) / GRAIN_NS * GRAIN_NS;
        if nanos < SECOND_NS {
            Self::compose(whole, nanos)
        } else {
            Self::compose(whole.saturating_add(1), 0)
        }
    }

    fn compose(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    fn parts(self) -> (u64, u32) {
        let (seconds, nanos) = self.0.split_at(8);
        (
            u64::from_be_bytes(seconds.try_into().expect("8 bytes")),
            u32::from_be_bytes(nanos.try_into().expect("4 bytes")),
        )
    }
}

#[cfg(test)]
mod tests;
