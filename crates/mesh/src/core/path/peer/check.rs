//! Is the selected way still good? Asked every few seconds, and given up when nothing answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::NodeId;
use bastide_api::paths::{CandidateOrigin, PathReason};

use super::super::finder::{PATIENCE, PING_ACTIVE, PING_IDLE, PING_RELAYED, TRUST};
use super::history::Losses;
use super::{Peer, Shared, Way};

/// How long after an unanswered question the next is sent.
const RETRY: Duration = Duration::from_secs(1);
/// The same, after the host's addresses changed: the way is probably gone.
const HURRIED_RETRY: Duration = Duration::from_millis(250);
const HURRIED_PATIENCE: Duration = Duration::from_secs(1);
/// The same, by a relay: nobody tells of its death, and another may stand by. Never below one and a
/// half round trips.
const RELAYED_RETRY: Duration = Duration::from_millis(300);
/// So many questions by a relay may stay unanswered before one that answers is taken instead.
const RELAYED_TRIES: u32 = 4;
/// How long a relay that failed is not believed: while another serves, and while none does.
const FAILED_FOR: Duration = Duration::from_secs(10);
const FAILED_ALONE_FOR: Duration = Duration::from_secs(1);
/// How long a direct way that loses too much is left alone while a relay serves.
const LOSSY_FOR: Duration = Duration::from_mins(2);

/// The check of the selected way.
pub struct Check {
    /// When to ask next.
    due: Instant,
    last_asked: Option<Instant>,
    /// Since when questions are unanswered.
    unanswered: Option<Instant>,
    is_hurried: bool,
    /// Between two questions while there is no answer.
    retry: Duration,
    /// What became of the last questions.
    pub losses: Losses,
}

impl Check {
    /// Asks at once; with the round trip in microseconds if the way is by a relay.
    pub fn new(now: Instant, relayed_us: Option<u32>) -> Self {
        let retry = relayed_us.map_or(RETRY, |rtt_us| {
            let rtt = Duration::from_micros(rtt_us.into());
            (rtt * 3 / 2).clamp(RELAYED_RETRY, RETRY)
        });
        Self {
            due: now,
            last_asked: None,
            unanswered: None,
            is_hurried: false,
            retry,
            losses: Losses::default(),
        }
    }

    /// Asks now, unless that was done within the last retry time.
    pub fn hasten(&mut self, now: Instant) {
        let earliest = self.last_asked.map_or(now, |asked| asked + self.retry());
        self.due = self.due.min(earliest.max(now));
    }

    /// Asks now, whenever that was done last.
    pub fn ask_now(&mut self, now: Instant) {
        self.due = now;
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
        self.losses.answered();
        if let Some(asked) = self.last_asked {
            self.due = asked + interval;
        }
    }

    fn is_given_up(&self, now: Instant) -> bool {
        self.unanswered
            .is_some_and(|since| now.saturating_duration_since(since) >= self.patience())
    }

    fn asked(&mut self, now: Instant) {
        self.losses.asked();
        self.last_asked = Some(now);
        self.unanswered.get_or_insert(now);
        self.due = now + self.retry();
    }

    fn retry(&self) -> Duration {
        if self.is_hurried {
            HURRIED_RETRY
        } else {
            self.retry
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
            self.lose(now, shared, PathReason::RelayLost);
            return;
        }
        if self.check.is_given_up(now) {
            self.lose(now, shared, PathReason::NoAnswer);
            return;
        }
        if self.check.due <= now {
            self.ask_selected(now, shared, way);
        }
        let is_doubtful = self.check.is_doubtful(now);
        if is_doubtful && let Some(address) = self.answered_meanwhile(way) {
            self.select(now, shared, Way::Direct(address), PathReason::NoAnswer);
            return;
        }
        if let Way::Via(used) = way
            && let Some(relay) = self.relay_meanwhile(now, shared, used)
        {
            self.fail(now, shared, used, FAILED_FOR);
            self.select(now, shared, Way::Via(relay), PathReason::NoAnswer);
            return;
        }
        if self.is_direct() && self.check.losses.are_too_many() {
            self.leave_lossy(now, shared);
        }
        if let Some(reach) = shared.reach.get_mut(&self.id) {
            reach.is_doubtful = is_doubtful;
        }
    }

    fn ask_selected(&mut self, now: Instant, shared: &mut Shared, way: Way) {
        let is_first = self.check.unanswered.is_none();
        let granted = match way {
            Way::Direct(to) => self.budget.take_to(now, to),
            Way::Via(_) => self.budget.take(now),
        };
        if !granted {
            self.check.due = self.budget.next(now).max(now + Duration::from_millis(50));
            return;
        }
        self.raise_size(now);
        // A question as long as the longest packet serves for two; if it is lost, a short one follows.
        let size = is_first.then(|| self.confirm_size(now)).flatten();
        self.ask(now, shared, way, size.unwrap_or(0));
        self.check.asked(now);
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

    /// Returns the nearest relay by which the peer has answered since the one in use has been silent
    /// for several questions.
    fn relay_meanwhile(&self, now: Instant, shared: &Shared, used: NodeId) -> Option<NodeId> {
        let since = self.check.unanswered?;
        if now.saturating_duration_since(since) < self.check.retry() * RELAYED_TRIES {
            return None;
        }
        self.bound_relay(shared, |relay, binding| {
            relay != used && binding.answered.is_some_and(|at| since <= at)
        })
    }

    /// A half of what is sent straight is lost: leaves it to a relay that answers, if there is one.
    fn leave_lossy(&mut self, now: Instant, shared: &mut Shared) {
        if let Some(relay) = self.proven_relay(now, shared) {
            self.lossy_until = Some(now + LOSSY_FOR);
            self.select(now, shared, Way::Via(relay), PathReason::Lossy);
            // When it is tried again, then without prejudice.
            self.direct_losses = None;
        }
    }

    /// Returns the nearest relay by which the peer has answered lately.
    fn proven_relay(&self, now: Instant, shared: &Shared) -> Option<NodeId> {
        self.bound_relay(shared, |_, binding| {
            let answered = binding.answered;
            answered.is_some_and(|at| now.saturating_duration_since(at) < TRUST)
        })
    }

    /// How long between two questions on the selected way.
    pub(super) fn interval(&self, now: Instant) -> Duration {
        match self.selected {
            _ if !self.is_active(now) => PING_IDLE,
            Some(Way::Via(_)) => PING_RELAYED,
            Some(Way::Direct(_)) | None => PING_ACTIVE,
        }
    }

    /// A relay has failed.
    fn fail(&mut self, now: Instant, shared: &mut Shared, relay: NodeId, pause: Duration) {
        shared.doubts.insert(relay);
        if let Some(binding) = self.bindings.get_mut(&relay) {
            binding.break_off(now, pause);
        }
    }

    /// The selected way is gone: takes the next best, and searches.
    pub(super) fn lose(&mut self, now: Instant, shared: &mut Shared, reason: PathReason) {
        match self.selected {
            Some(Way::Direct(address)) => {
                if let Some(candidate) = self.candidates.get_mut(&address) {
                    candidate.good = None;
                    candidate.origin = candidate.origin.max(CandidateOrigin::Published);
                }
            }
            Some(Way::Via(relay)) => self.fail(now, shared, relay, FAILED_FOR),
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
        match (fresh, self.proven_relay(now, shared)) {
            (Some((_, address)), _) => self.select(now, shared, Way::Direct(address), reason),
            (None, Some(relay)) => self.select(now, shared, Way::Via(relay), reason),
            (None, None) => {
                if let Some(Way::Via(relay)) = self.selected {
                    self.fail(now, shared, relay, FAILED_ALONE_FOR);
                }
                if self.selected.is_some() {
                    self.remember(now, None, reason);
                }
                self.keep_losses();
                self.selected = None;
                self.selected_since = now;
                self.size.end();
                self.announce(shared);
            }
        }
    }
}
