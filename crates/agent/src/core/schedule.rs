//! When the agent reports and when it renews.

use std::time::Duration;

use bastide_api::UnixTime;

/// Longest time between two reports while nothing changes. The controller calls a node silent after
/// three of them.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two reports, however often something changes.
pub const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two attempts to renew or reconnect.
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// How often the time is written down: a host that boots without a clock knows it this well.
const TIME_KEPT_EVERY: Duration = Duration::from_secs(600);

/// Returns whether to write the time down again, `kept` having been written last by this process.
pub fn is_time_due(kept: Option<UnixTime>, now: UnixTime) -> bool {
    kept.is_none_or(|kept| TIME_KEPT_EVERY <= now.since(kept))
}

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it begins.
    pub begins: UnixTime,
    /// When it ends.
    pub ends: UnixTime,
}

impl Life {
    /// Returns whether it is time to renew: from half of the life on.
    pub fn is_renewal_due(self, now: UnixTime) -> bool {
        let half = self.ends.since(self.begins) / 2;
        self.begins.plus(half) <= now
    }
}

/// Returns how long to wait before attempt number `attempt` (from 0): doubling from 100 ms up to
/// [`RETRY_MAX`], less up to a quarter by `jitter` (any number), so that a cluster whose controller
/// returns does not knock all at once.
pub fn retry_after(attempt: u32, jitter: u8) -> Duration {
    let full = Duration::from_millis(100)
        .saturating_mul(1 << attempt.min(10))
        .min(RETRY_MAX);
    full.saturating_sub(full * u32::from(jitter) / 1024)
}

#[cfg(test)]
mod tests;
