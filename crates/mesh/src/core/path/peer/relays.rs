//! Relays for one peer: whom to ask, and what they said.

use std::time::{Duration, Instant};

use bastide_api::NodeId;
use bastide_api::paths::{PathReason, RelayState};

use super::super::message::Verdict;
use super::answer::smooth;
use super::{Peer, Shared, Way, Wish};

/// Relays that are asked at a time.
const ASKED_MAX: usize = 3;
/// Relays that are remembered for one peer.
const BINDINGS_MAX: usize = 16;
/// A bind is repeated this often: well within its life, and it keeps NATs open.
const REFRESH: Duration = Duration::from_secs(15);
/// An unanswered bind is repeated after this, then twice, then given up.
const RETRY: Duration = Duration::from_millis(300);
const TRIES_MAX: u32 = 3;
/// A relay that has not heard of the peer is asked again after this, ever more slowly: at the start
/// of a network everybody registers within the same moment.
const ABSENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// After so many refusals others are asked as well.
const REFUSALS_MAX: u32 = 3;
const FULL_FOR: Duration = Duration::from_mins(1);

/// What is known of one relay for one peer.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    bound: bool,
    /// Questions in a row without an answer.
    tries: u32,
    refusals: u32,
    /// Questions to the peer through it, since it was bound and before it was used.
    probes: u32,
    /// Until when it is not believed, whatever is heard through it.
    broken_until: Option<Instant>,
    /// When to ask next.
    pub due: Instant,
    /// Round trip to the peer by this relay, microseconds, once measured.
    pub rtt_us: Option<u32>,
    /// When the peer last answered by this relay.
    pub answered: Option<Instant>,
}

impl Binding {
    fn new(now: Instant) -> Self {
        Self {
            bound: false,
            tries: 0,
            refusals: 0,
            probes: 0,
            broken_until: None,
            due: now,
            rtt_us: None,
            answered: None,
        }
    }

    /// Takes it for broken, for so long.
    pub fn break_off(&mut self, now: Instant, pause: Duration) {
        self.refuse(now, pause);
        self.broken_until = Some(self.due);
    }

    /// Asks again after so long.
    fn refuse(&mut self, now: Instant, pause: Duration) {
        self.bound = false;
        self.tries = 0;
        self.refusals = self.refusals.saturating_add(1);
        self.due = now + pause;
    }

    /// Returns what it said, or did.
    pub fn state(&self, now: Instant) -> RelayState {
        if self.is_broken(now) {
            RelayState::Failed
        } else if self.bound {
            RelayState::Bound
        } else if self.refusals > 0 {
            RelayState::Refused
        } else {
            RelayState::Asked
        }
    }

    fn is_broken(&self, now: Instant) -> bool {
        self.broken_until.is_some_and(|until| now < until)
    }
}

impl Peer {
    /// Tells whether a relay is needed: there is no direct way, or it does not answer, or not well.
    pub(super) fn wants_relay(&self, now: Instant) -> bool {
        !self.is_direct() || self.check.is_doubtful(now) || self.check.losses.are_too_many()
    }

    /// Returns the nearest relay that forwards and is `fit`.
    pub(super) fn bound_relay(
        &self,
        shared: &Shared,
        fit: impl Fn(NodeId, &Binding) -> bool,
    ) -> Option<NodeId> {
        let bound = self.bindings.iter().filter(|(relay, binding)| {
            binding.bound && shared.reach.contains_key(relay) && fit(**relay, binding)
        });
        let rtt = |binding: &Binding| binding.rtt_us.unwrap_or(u32::MAX);
        bound
            .min_by_key(|(relay, binding)| (rtt(binding), **relay))
            .map(|(relay, _)| *relay)
    }

    pub(super) fn seek_relay(&mut self, now: Instant, shared: &mut Shared) {
        if !self.wants_relay(now) {
            self.bindings.clear();
            return;
        }
        self.bindings
            .retain(|relay, _| shared.reach.contains_key(relay));
        self.choose(now, shared);
        let due: Vec<NodeId> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.due <= now)
            .map(|(relay, _)| *relay)
            .collect();
        for relay in due {
            self.bind(now, shared, relay);
        }
    }

    /// Decides whom to ask: nobody else once one forwards and answers, else the best few.
    fn choose(&mut self, now: Instant, shared: &Shared) {
        if let Some(Way::Via(used)) = self.selected
            && !self.check.is_doubtful(now)
            && self
                .bindings
                .get(&used)
                .is_some_and(|binding| binding.bound)
        {
            self.bindings
                .retain(|relay, binding| *relay == used || binding.is_broken(now));
            return;
        }
        let hopeful = |binding: &&Binding| binding.refusals < REFUSALS_MAX;
        let mut room = ASKED_MAX.saturating_sub(self.bindings.values().filter(hopeful).count());
        if room == 0 {
            return;
        }
        let mut offers: Vec<_> = shared
            .reach
            .iter()
            .filter(|(relay, reach)| {
                **relay != self.id && !reach.is_doubtful && !self.bindings.contains_key(relay)
            })
            .map(|(relay, reach)| (!reach.declared, reach.rtt_us, *relay))
            .collect();
        offers.sort_unstable();
        for (_, _, relay) in offers {
            if room == 0 || self.bindings.len() >= BINDINGS_MAX {
                return;
            }
            self.bindings.insert(relay, Binding::new(now));
            room -= 1;
        }
    }

    fn bind(&mut self, now: Instant, shared: &mut Shared, relay: NodeId) {
        let has_budget = self.budget.take(now);
        let later = self.budget.next(now).max(now + Duration::from_millis(50));
        let Some(binding) = self.bindings.get_mut(&relay) else {
            return;
        };
        if binding.tries >= TRIES_MAX {
            let pause = ABSENT
                .1
                .min(Duration::from_secs(2) * 2_u32.pow(binding.refusals.min(8)));
            binding.break_off(now, pause);
            shared.doubts.insert(relay);
            if self.selected == Some(Way::Via(relay)) {
                self.lose(now, shared, PathReason::NoAnswer);
            }
            return;
        }
        if !has_budget {
            binding.due = later;
            return;
        }
        binding.due = now + RETRY * 2_u32.pow(binding.tries);
        binding.tries += 1;
        let transaction = shared.transaction();
        shared.wishes.push_back(Wish {
            relay,
            target: self.id,
            transaction,
            indices: self.indices.clone(),
        });
    }

    /// A relay has answered.
    pub fn handle_bound(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        relay: NodeId,
        verdict: Verdict,
        rtt_us: u32,
    ) {
        let Some(binding) = self.bindings.get_mut(&relay) else {
            return;
        };
        binding.tries = 0;
        match verdict {
            Verdict::Bound => {
                let is_new = !std::mem::replace(&mut binding.bound, true);
                binding.refusals = 0;
                binding.due = now + REFRESH;
                let to_relay = shared.reach.get(&relay).map(|reach| reach.rtt_us);
                if binding.rtt_us.is_none() && rtt_us > 0 {
                    binding.rtt_us = to_relay.map(|here| here.saturating_add(rtt_us));
                }
                // The relay forwards; whether the peer is still there, only the peer can tell.
                if self.selected != Some(Way::Via(relay)) {
                    binding.due = now + REFRESH.min(RETRY * 2_u32.pow(binding.probes.min(8)));
                    binding.probes = binding.probes.saturating_add(1);
                    self.ping(now, shared, Way::Via(relay));
                    if is_new {
                        self.call(now, shared);
                    }
                }
            }
            Verdict::NotHere | Verdict::Full | Verdict::Refused => {
                let pause = if verdict == Verdict::NotHere {
                    ABSENT.1.min(ABSENT.0 * 2_u32.pow(binding.refusals.min(9)))
                } else {
                    FULL_FOR
                };
                binding.refuse(now, pause);
                if self.selected == Some(Way::Via(relay)) {
                    self.lose(now, shared, PathReason::RelayRefused);
                }
            }
        }
    }

    /// The peer has answered through a relay.
    pub(super) fn answered_via(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        relay: NodeId,
        rtt_us: u32,
    ) {
        let Some(binding) = self.bindings.get_mut(&relay) else {
            return;
        };
        binding.rtt_us = Some(smooth(binding.rtt_us, rtt_us));
        binding.answered = Some(now);
        binding.probes = 0;
        if self.selected == Some(Way::Via(relay)) {
            self.check.answered(self.interval(now));
        } else if self.selected.is_none() && binding.bound {
            binding.due = now + REFRESH;
            self.select(now, shared, Way::Via(relay), PathReason::Answered);
        }
    }

    /// The peer has sent something through a relay, so it is bound with us there.
    pub(super) fn heard_via(&mut self, now: Instant, shared: &mut Shared, relay: NodeId) {
        if relay == self.id || !shared.reach.contains_key(&relay) {
            return;
        }
        if self.is_direct() {
            // The peer may have lost what we still trust.
            self.check.hasten(now);
            return;
        }
        if self
            .bindings
            .get(&relay)
            .is_some_and(|binding| binding.is_broken(now))
        {
            return;
        }
        let is_known = self.bindings.contains_key(&relay);
        if !is_known && self.bindings.len() >= BINDINGS_MAX {
            return;
        }
        let binding = self
            .bindings
            .entry(relay)
            .or_insert_with(|| Binding::new(now));
        if !binding.bound {
            // Bound by the peer; our own bind tells the relay which indices we use.
            binding.bound = true;
            binding.refusals = 0;
            binding.due = now;
        }
        // Both sides use one relay in the end: that of the lower id.
        let follows = self.id < shared.own.node();
        match self.selected {
            None => self.select(now, shared, Way::Via(relay), PathReason::Answered),
            Some(Way::Via(used)) if used != relay && follows => {
                self.select(now, shared, Way::Via(relay), PathReason::PeerMoved);
            }
            Some(_) => {}
        }
    }
}
