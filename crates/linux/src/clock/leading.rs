//! The controller's time, which decides when things end.

use std::time::Duration;

use bastide_api::UnixTime;

use super::Reading;

/// How far the wall clock may be ahead to be followed at once. A certificate is renewed at half of
/// its 24 hours: a jump of an hour ends none.
const STEP_MAX: Duration = Duration::from_secs(3600);
/// How far the wall clock may be ahead of what was known when it was seen last, or known to be
/// wrong: 30 days.
pub const AHEAD_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How far a wall clock may be behind and still count as right.
const BEHIND_MAX: Duration = Duration::from_secs(5 * 60);

/// Returns whether a wall clock shows so much more than the highest time that was ever persisted
/// that a human should say which of the two is wrong.
pub fn is_far_ahead(wall: UnixTime, highest: UnixTime) -> bool {
    AHEAD_MAX < wall.since(highest)
}

/// Time that goes on with the time since boot, is set forward by the wall clock, and never back.
///
/// A wall clock that jumps by more than [`STEP_MAX`] is not followed: following it for a moment
/// would end every membership, and cannot be undone. One that was behind, and so was wrong, may be
/// set forward by up to [`AHEAD_MAX`]: a board without a clock that has found the network's time.
#[derive(Debug)]
pub struct Leading {
    /// The time at a time since boot.
    anchor: (Duration, UnixTime),
    was_behind: bool,
    refused: Option<Duration>,
}

impl Leading {
    /// Starts at the wall clock's time, but not before `floor`.
    pub fn start(floor: UnixTime, reading: Reading) -> Self {
        Self {
            anchor: (reading.since_boot, reading.wall.max(floor)),
            was_behind: BEHIND_MAX < floor.since(reading.wall),
            refused: None,
        }
    }

    /// Returns the time.
    pub fn now(&mut self, reading: Reading) -> UnixTime {
        let (since, at) = self.anchor;
        let now = at.plus(reading.since_boot.saturating_sub(since));
        let ahead = reading.wall.since(now);
        let step_max = if self.was_behind { AHEAD_MAX } else { STEP_MAX };
        if step_max < ahead {
            self.refused = Some(ahead);
            return now;
        }
        self.was_behind = BEHIND_MAX < now.since(reading.wall);
        self.refused = None;
        if ahead.is_zero() {
            return now;
        }
        self.anchor = (reading.since_boot, reading.wall);
        reading.wall
    }

    /// Returns by how much the wall clock is ahead, if it is not followed.
    pub fn refused(&self) -> Option<Duration> {
        self.refused
    }
}

#[cfg(test)]
mod tests;
