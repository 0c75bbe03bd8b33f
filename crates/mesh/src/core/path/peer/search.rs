//! The search for a direct way: waves of questions to all candidates, together with a call-me, so
//! that both sides' NATs are opened at the same time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::paths::CandidateOrigin;

use super::super::message::Message;
use super::super::seal::Passage;
use super::{Peer, Shared, Way, address_of};

/// When the waves of a round go out, after its begin. Both sides send them, so that the second and
/// later ones find both NATs open.
const WAVES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];
/// The wave with which a call-me goes out again, in case the first was lost.
const CALL_AGAIN: usize = 3;
const CALLS_MAX: u8 = 2;
/// Traffic renews a search that is older than this.
const RENEW: Duration = Duration::from_secs(15);
/// A direct way was found: so many waves are finished nevertheless, because a better one may answer.
const WAVES_WHEN_DIRECT: usize = 2;
/// A candidate that answered within this time is not asked again.
const ANSWERED: Duration = Duration::from_secs(2);
/// Two questions to a candidate are not closer than this.
const GAP: Duration = Duration::from_millis(50);
/// Candidates that the peer told or used are forgotten when they have not answered for this long.
const CANDIDATE_LIFE: Duration = Duration::from_mins(1);

/// Pauses between rounds: short while there is no path at all, longer with a relay. Whoever has
/// traffic waiting, and whoever may relay for others, is asked without ever longer pauses, so that an
/// outage of hours ends as soon as one of seconds.
const PAUSE_WITHOUT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// Rounds without any path in which all waves go out; later ones are one wave, because there is no
/// relay by which both sides could begin together.
const WHOLE_ROUNDS: u32 = 2;
const PAUSE_RELAYED: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(4));

/// A search.
pub struct Search {
    began: Instant,
    wave: usize,
    round: u32,
    /// Call-mes of this round.
    calls: u8,
    /// When the next wave goes out; `None` when there is nothing to look for.
    pub due: Option<Instant>,
}

impl Search {
    /// Nothing is looked for.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            wave: 0,
            round: 0,
            calls: 0,
            due: None,
        }
    }

    /// Begins at once; one that has just begun goes on, with its next wave now.
    pub fn begin(&mut self, now: Instant) {
        let is_fresh = self.due.is_some()
            && self.round == 0
            && (1..=2).contains(&self.wave)
            && now.saturating_duration_since(self.began) < WAVES[2];
        if !is_fresh {
            self.began = now;
            self.wave = 0;
            self.round = 0;
            self.calls = 0;
        }
        self.due = Some(now);
    }

    /// Begins again because there is traffic, unless that was done lately.
    pub fn renew(&mut self, now: Instant) {
        if self.due.is_none() || now.saturating_duration_since(self.began) >= RENEW {
            self.begin(now);
        }
    }

    /// The peer has called: asks at once, together with it, and does not call back.
    pub fn join(&mut self, now: Instant) {
        let round = self.round;
        self.begin(now);
        self.round = round;
        self.calls = CALLS_MAX;
    }

    /// What the peer was told is out of date: tells it again, and asks again.
    pub fn recall(&mut self, now: Instant) {
        self.begin(now);
        self.calls = 0;
    }

    /// Tells whether the first round is not over yet.
    pub fn is_first_round(&self) -> bool {
        self.round == 0
    }
}

impl Peer {
    pub(super) fn run_search(&mut self, now: Instant, shared: &mut Shared) {
        if self.search.due.is_none_or(|due| now < due) {
            return;
        }
        if self.is_direct() && self.search.wave >= WAVES_WHEN_DIRECT {
            self.search.due = None;
            return;
        }
        if self.search.wave == 0 {
            self.search.began = now;
            self.forget_candidates(now);
        }
        let is_again = self.search.wave == CALL_AGAIN && self.search.calls < CALLS_MAX;
        if self.search.calls == 0 || is_again {
            self.call(now, shared);
        }
        self.ask_candidates(now, shared);
        self.search.wave += 1;
        let is_single = self.selected.is_none() && self.search.round >= WHOLE_ROUNDS;
        let offset = WAVES.get(self.search.wave).filter(|_| !is_single);
        let next = if let Some(offset) = offset {
            (self.search.began + *offset).max(now + GAP)
        } else {
            let (first, longest) = if self.selected.is_some() {
                PAUSE_RELAYED
            } else if self.is_active(now) || self.declared {
                (PAUSE_WITHOUT.0, PAUSE_WITHOUT.0)
            } else {
                PAUSE_WITHOUT
            };
            let pause = first * 2_u32.pow(self.search.round.min(8));
            self.search.round = self.search.round.saturating_add(1);
            self.search.wave = 0;
            self.search.calls = 0;
            now + pause.min(longest)
        };
        self.search.due = Some(next);
    }

    /// Sends this node's candidates to the peer through the relay in use, or, if a direct way has
    /// become doubtful, through one that stands by.
    pub(super) fn call(&mut self, now: Instant, shared: &mut Shared) {
        let relay = match self.selected {
            Some(Way::Via(relay)) => Some(relay),
            Some(Way::Direct(_)) | None => self.bound_relay(shared, |_, _| true),
        };
        let to = relay.and_then(|relay| address_of(shared, Way::Via(relay)));
        let Some(to) = to.filter(|_| self.budget.take(now)) else {
            return;
        };
        self.search.calls += 1;
        self.call_to(shared, to, true);
    }

    /// Sends this node's candidates to the peer, to the address of a relay.
    pub(super) fn call_to(&mut self, shared: &mut Shared, to: SocketAddr, answer: bool) {
        let message = Message::CallMe {
            answer,
            varies: shared.varies == Some(true),
            candidates: shared.endpoints.clone(),
        };
        self.send(shared, to, &message, Passage::Relayed);
    }

    /// Asks each candidate, those that were asked least first.
    fn ask_candidates(&mut self, now: Instant, shared: &mut Shared) {
        let mut order: Vec<_> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| {
                let is_good = candidate
                    .good
                    .is_some_and(|(_, at)| now.saturating_duration_since(at) < ANSWERED);
                let is_asked = candidate
                    .last_asked
                    .is_some_and(|at| now.saturating_duration_since(at) < GAP);
                !is_good && !is_asked
            })
            .map(|(address, candidate)| (candidate.asked, candidate.origin, *address))
            .collect();
        order.sort_unstable();
        for (_, _, address) in order {
            // What the budget does not allow now is first in the next wave.
            if !self.ping(now, shared, Way::Direct(address)) {
                break;
            }
        }
    }

    fn forget_candidates(&mut self, now: Instant) {
        let selected = self.selected;
        self.candidates.retain(|address, candidate| {
            let is_kept = candidate.origin <= CandidateOrigin::Published
                || selected == Some(Way::Direct(*address));
            is_kept || now.saturating_duration_since(candidate.added) < CANDIDATE_LIFE
        });
    }
}
