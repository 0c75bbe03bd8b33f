//! Time that does not go back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bastide_api::UnixTime;
use rustix::time::{ClockId, clock_gettime};

/// No program of this kind ran before this: 2026-01-01. Boards without a clock boot in 1970.
const FLOOR_MS: u64 = 1_767_225_600_000;

/// UTC in milliseconds: the wall clock's, but never before what was given out earlier, nor before
/// the floor plus the time since start, suspended time included. A wall clock that jumps forward is
/// followed: leases end early, not late.
pub struct Clock {
    floor: UnixTime,
    started: Duration,
    highest: AtomicU64,
}

fn since_boot() -> Duration {
    let at = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(at.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(at.tv_nsec).unwrap_or(0))
}

impl Clock {
    /// Starts at `highest`, the latest time that was ever persisted, or later.
    pub fn start(highest: Option<UnixTime>) -> Self {
        let floor = highest
            .unwrap_or(UnixTime::EPOCH)
            .max(UnixTime::from_millis(FLOOR_MS));
        Self {
            floor,
            started: since_boot(),
            highest: AtomicU64::new(floor.as_millis()),
        }
    }

    /// Returns the time.
    pub fn now(&self) -> UnixTime {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(0);
        let least = self
            .floor
            .plus(since_boot().saturating_sub(self.started))
            .as_millis();
        let now = wall.max(least);
        let before = self.highest.fetch_max(now, Ordering::Relaxed);
        UnixTime::from_millis(now.max(before))
    }
}
