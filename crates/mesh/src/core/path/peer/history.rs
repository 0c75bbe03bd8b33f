//! What happened to the path, and how much is lost on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bastide_api::paths::{PathChange, PathEvent, PathReason};

/// Events that are remembered of one peer.
pub const EVENTS_MAX: usize = 16;
/// Questions that a loss is worked out from.
const SAMPLES: usize = 16;
/// So many lost of [`SAMPLES`] are too many: a half.
const LOST_MAX: usize = SAMPLES / 2;

/// The last events.
#[derive(Default)]
pub struct History(VecDeque<(Instant, PathChange, PathReason)>);

impl History {
    /// Remembers an event, and forgets the oldest.
    pub fn put(&mut self, now: Instant, change: PathChange, reason: PathReason) {
        if self.0.len() >= EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, change, reason));
    }

    /// Returns the events, oldest first.
    pub fn events(&self, now: Instant) -> Vec<PathEvent> {
        let told = |(at, change, reason): &(Instant, PathChange, PathReason)| PathEvent {
            ago_ms: millis(now.saturating_duration_since(*at)),
            change: *change,
            reason: *reason,
        };
        self.0.iter().map(told).collect()
    }
}

/// The fate of the last questions by one way.
#[derive(Default)]
pub struct Losses {
    lost: VecDeque<bool>,
    is_pending: bool,
}

impl Losses {
    /// A question was sent; one before it that is unanswered is lost.
    pub fn asked(&mut self) {
        if self.is_pending {
            self.put(true);
        }
        self.is_pending = true;
    }

    /// A question was answered.
    pub fn answered(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.put(false);
        }
    }

    /// Returns how many of a hundred are lost; 0 while too few were sent to tell.
    pub fn percent(&self) -> u8 {
        if self.lost.len() < SAMPLES / 2 {
            return 0;
        }
        let percent = self.count() * 100 / self.lost.len();
        u8::try_from(percent).expect("at most 100")
    }

    /// Tells whether a half is lost.
    pub fn are_too_many(&self) -> bool {
        self.count() >= LOST_MAX
    }

    fn put(&mut self, lost: bool) {
        if self.lost.len() >= SAMPLES {
            self.lost.pop_front();
        }
        self.lost.push_back(lost);
    }

    fn count(&self) -> usize {
        self.lost.iter().filter(|lost| **lost).count()
    }
}

/// Returns a time in milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
