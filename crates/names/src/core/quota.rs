//! How many questions a source may ask.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// Questions of one source in one window: several times what a busy program asks that resolves a
/// name for each call.
const QUESTIONS_MAX: u32 = 2_000;
/// Sources in one window; a /24 of containers and the host's own programs are far below.
const SOURCES_MAX: usize = 4_096;

/// Counts questions by source in windows of a second.
pub struct Quota {
    window: Instant,
    asked: BTreeMap<IpAddr, u32>,
}

impl Quota {
    pub fn new(now: Instant) -> Self {
        Self {
            window: now,
            asked: BTreeMap::new(),
        }
    }

    /// Whether a question of `source` may be answered; counts it.
    pub fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        if WINDOW <= now.saturating_duration_since(self.window) {
            self.window = now;
            self.asked.clear();
        }
        if SOURCES_MAX <= self.asked.len() && !self.asked.contains_key(&source) {
            return false;
        }
        let asked = self.asked.entry(source).or_default();
        *asked = asked.saturating_add(1);
        *asked <= QUESTIONS_MAX
    }
}

/// Counts what each source holds at this moment, so that one cannot hold everything.
pub struct Slots {
    per_source_max: u32,
    held: BTreeMap<IpAddr, u32>,
}

impl Slots {
    pub fn new(per_source_max: u32) -> Self {
        Self {
            per_source_max,
            held: BTreeMap::new(),
        }
    }

    /// Whether `source` may hold one more; counts it. The caller bounds the sum over all sources.
    pub fn take(&mut self, source: IpAddr) -> bool {
        let held = self.held.entry(source).or_default();
        let free = *held < self.per_source_max;
        *held += u32::from(free);
        free
    }

    /// Ends one holding of `source`.
    pub fn give_back(&mut self, source: IpAddr) {
        if let Some(held) = self.held.get_mut(&source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests;
