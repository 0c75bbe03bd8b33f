//! A token bucket, with the time passed in.

use std::time::{Duration, Instant};

/// Lets `rate` tokens through each second, and as many at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: u64,
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    /// Makes a full bucket.
    pub fn new(now: Instant, rate: u64) -> Self {
        Self {
            rate,
            tokens: rate,
            filled: now,
        }
    }

    /// Tells whether `tokens` are there.
    pub fn has(&mut self, now: Instant, tokens: u64) -> bool {
        self.fill(now);
        tokens <= self.tokens
    }

    /// Takes `tokens`, or none if there are fewer.
    pub fn take(&mut self, now: Instant, tokens: u64) -> bool {
        if !self.has(now, tokens) {
            return false;
        }
        self.tokens -= tokens;
        true
    }

    fn fill(&mut self, now: Instant) {
        let idle = now.saturating_duration_since(self.filled);
        if idle >= Duration::from_secs(1) {
            self.tokens = self.rate;
            self.filled = now;
            return;
        }
        let idle_ns = u64::try_from(idle.as_nanos()).expect("less than a second");
        let earned = u128::from(idle_ns) * u128::from(self.rate) / 1_000_000_000;
        let earned = u64::try_from(earned).expect("less than the rate");
        if earned == 0 {
            return;
        }
        self.tokens = self.tokens.saturating_add(earned).min(self.rate);
        // Only the time of whole tokens is used up, so that slow rates earn as well.
        let used = u128::from(earned) * 1_000_000_000 / u128::from(self.rate);
        self.filled += Duration::from_nanos(u64::try_from(used).expect("less than a second"));
    }
}

#[cfg(test)]
mod tests;
