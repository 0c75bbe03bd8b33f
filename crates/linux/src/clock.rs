//! The two clocks that are used.

use std::time::Duration;

use bastide_api::UnixTime;
use rustix::time::{ClockId, clock_gettime};

/// Returns the wall clock's time. It may jump, also backwards.
pub fn wall() -> UnixTime {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    UnixTime::from_millis(seconds.saturating_mul(1000).saturating_add(millis))
}

/// Returns the time since the machine started, sleep included. It never jumps.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
