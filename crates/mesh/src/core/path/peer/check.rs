//! Is the selected way still good? Asked every few seconds, and given up when nothing answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::finder::{PATIENCE, PING_ACTIVE, PING_IDLE, TRUST};
use super::{Origin, Peer, Shared, Way};

/// How long after an unanswered question the next is sent.
const RETRY: Duration = Duration::from_secs(1);
/// The same, after the host's addresses changed: the way is probably gone.
const HURRIED_RETRY: Duration = Duration::from_millis(250);
const HURRIED_PATIENCE: Duration = Duration::from_secs(1);
/// How long a way that failed is not taken again without a fresh answer.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// The check of the selected way.
pub struct Check {
    /// When to ask next.
    due: Instant,
    last_asked: Option<Instant>,
    /// Since when questions are unanswered.
    unanswered: Option<Instant>,
    is_hurried: bool,
}

impl Check {
    /// Asks at once.
    pub fn new(now: Instant) -> Self {
        Self {
            due: now,
            last_asked: None,
            unanswered: None,
            is_hurried: false,
        }
    }

    /// Asks now, unless that was done within the last retry time.
    pub fn hasten(&mut self, now: Instant) {
        let earliest = self.last_asked.map_or(now, |asked| asked + self.retry());
        self.due = self.due.min(earliest.max(now));
    }

    /// Gives up soon if nothing answers.
    pub fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Returns when to look again.
    pub fn next(&self) -> Instant {
        self.unanswered
            .map_or(self.due, |since| self.due.min(since + self.patience()))
    }

    /// Tells whether an answer is overdue.
    pub fn is_doubtful(&self, now: Instant) -> bool {
        self.unanswered
            .is_some_and(|since| now.saturating_duration_since(since) >= self.retry())
    }

    /// The way answered.
    pub fn answered(&mut self, interval: Duration) {
        self.unanswered = None;
        self.is_hurried = false;
        if let Some(asked) = self.last_asked {
            self.due = asked + interval;
        }
    }

    fn is_given_up(&self, now: Instant) -> bool {
        self.unanswered
            .is_some_and(|since| now.saturating_duration_since(since) >= self.patience())
    }

    fn asked(&mut self, now: Instant) {
        self.last_asked = Some(now);
        self.unanswered.get_or_insert(now);
        self.due = now + self.retry();
    }

    fn retry(&self) -> Duration {
        if self.is_hurried {
            HURRIED_RETRY
        } else {
            RETRY
        }
    }

    fn patience(&self) -> Duration {
        if self.is_hurried {
            HURRIED_PATIENCE
        } else {
            PATIENCE
        }
    }
}

impl Peer {
    pub(super) fn check_selected(&mut self, now: Instant, shared: &mut Shared) {
        let Some(way) = self.selected else {
            return;
        };
        if let Way::Via(relay) = way
            && !shared.reach.contains_key(&relay)
        {
            self.lose(now, shared);
            return;
        }
        if self.check.is_given_up(now) {
            self.lose(now, shared);
            return;
        }
        if self.check.due <= now {
            if self.ping(now, shared, way) {
                self.check.asked(now);
            } else {
                self.check.due = self.budget.next(now).max(now + Duration::from_millis(50));
            }
        }
        let is_doubtful = self.check.is_doubtful(now);
        if is_doubtful && let Some(address) = self.answered_meanwhile(way) {
            self.select(now, shared, Way::Direct(address));
            return;
        }
        if let Some(reach) = shared.reach.get_mut(&self.id) {
            reach.is_doubtful = is_doubtful;
        }
    }

    /// Returns the nearest address that has answered since the selected way has not.
    fn answered_meanwhile(&self, way: Way) -> Option<SocketAddr> {
        let since = self.check.unanswered?;
        let answered = self.candidates.iter().filter_map(|(address, candidate)| {
            let (rtt, at) = candidate.good?;
            (way != Way::Direct(*address) && since <= at).then_some((rtt, *address))
        });
        answered.min().map(|(_, address)| address)
    }

    /// How long between two questions on the selected way.
    pub(super) fn interval(&self, now: Instant) -> Duration {
        if self.is_active(now) {
            PING_ACTIVE
        } else {
            PING_IDLE
        }
    }

    /// The selected way is gone: takes the next best, and searches.
    pub(super) fn lose(&mut self, now: Instant, shared: &mut Shared) {
        match self.selected.take() {
            Some(Way::Direct(address)) => {
                if let Some(candidate) = self.candidates.get_mut(&address) {
                    candidate.good = None;
                    candidate.origin = candidate.origin.max(Origin::Published);
                }
            }
            Some(Way::Via(relay)) => {
                shared.doubts.insert(relay);
                if let Some(binding) = self.bindings.get_mut(&relay) {
                    binding.break_off(now, FAILED_FOR);
                }
            }
            None => {}
        }
        self.search.begin(now);
        let fresh = self
            .candidates
            .iter()
            .filter_map(|(address, candidate)| {
                let (rtt, at) = candidate.good?;
                let is_fresh = now.saturating_duration_since(at) < TRUST;
                is_fresh.then_some((rtt, *address))
            })
            .min();
        match (fresh, self.bound_relay(shared)) {
            (Some((_, address)), _) => self.select(now, shared, Way::Direct(address)),
            (None, Some(relay)) => self.select(now, shared, Way::Via(relay)),
            (None, None) => self.announce(shared),
        }
    }
}
