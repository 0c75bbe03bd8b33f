//! Handshake timestamps that only grow, over restarts and on machines without a clock.

use std::time::Instant;

use bastide_api::UnixTime;

use super::timestamp::Tai64N;

/// How far ahead timestamps are reserved: one write to disk for each this many seconds at most.
const RESERVE_SECONDS: u64 = 600;

/// Makes the timestamps of one device.
///
/// A peer refuses an initiation whose timestamp is not after the last that it saw, so a device that
/// comes back with an earlier clock would be mute. Hence the floor: what the device before us had
/// reserved.
pub struct TimestampClock {
    origin: (Instant, UnixTime),
    last: Tai64N,
    reserved: Tai64N,
}

impl TimestampClock {
    /// Starts at `wall` or `floor`, whichever is later.
    pub fn new(now: Instant, wall: UnixTime, floor: Tai64N) -> Self {
        Self {
            origin: (now, wall),
            last: floor,
            reserved: floor,
        }
    }

    /// Returns the timestamp to use, and the new reservation if one has to be written down first.
    pub fn stamp(&mut self, now: Instant) -> (Tai64N, Option<Tai64N>) {
        let (begun, wall) = self.origin;
        let wall = wall.plus(now.saturating_duration_since(begun));
        self.last = Tai64N::at(wall).max(self.last.next());
        if self.last <= self.reserved {
            return (self.last, None);
        }
        self.reserved = self.last.plus_seconds(RESERVE_SECONDS);
        (self.last, Some(self.reserved))
    }
}

#[cfg(test)]
mod tests;
