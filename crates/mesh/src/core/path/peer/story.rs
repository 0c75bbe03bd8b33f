//! What is told about a peer's path.

use std::time::Instant;

use bastide_api::paths::{
    CandidateStory, NatMapping, NotDirect, PathEvent, PathStory, RelayState, RelayStory,
};
use bastide_api::v1::{PathFact, PathKind};

use super::history::millis;
use super::{Peer, Shared, Way};

impl Peer {
    /// Returns how the peer is reached.
    pub fn fact(&self) -> PathFact {
        let rtt_us = match self.selected {
            None => None,
            Some(Way::Direct(to)) => {
                let good = self.candidates.get(&to).and_then(|known| known.good);
                good.map(|(rtt, _)| rtt)
            }
            Some(Way::Via(via)) => self.bindings.get(&via).and_then(|binding| binding.rtt_us),
        };
        PathFact {
            kind: kind_of(self.selected),
            rtt_us,
            mtu: self.selected.and_then(|_| self.size.mtu()),
            loss_percent: self.check.losses.percent(),
        }
    }

    /// Returns why the peer is not reached directly; `None` if it is.
    pub fn why(&self, now: Instant, shared: &Shared) -> Option<NotDirect> {
        match self.selected {
            Some(Way::Direct(_)) => None,
            None => Some(if self.candidates.is_empty() {
                NotDirect::NoCandidate
            } else {
                NotDirect::NoAnswer
            }),
            Some(Way::Via(_)) if self.is_lossy(now) => Some(NotDirect::Lossy),
            Some(Way::Via(_)) if self.search.is_first_round() => Some(NotDirect::Searching),
            Some(Way::Via(_)) => Some(match (shared.varies, self.varies) {
                (Some(true), Some(true)) => NotDirect::BothNatsVary,
                (Some(true), _) => NotDirect::OwnNatVaries,
                (_, Some(true)) => NotDirect::PeerNatVaries,
                (_, _) => NotDirect::NoAnswer,
            }),
        }
    }

    /// Returns what happened to the path, oldest first.
    pub fn events(&self, now: Instant) -> Vec<PathEvent> {
        self.history.events(now)
    }

    /// Tells everything.
    pub fn story(&self, now: Instant, shared: &Shared, nat: NatMapping) -> PathStory {
        let ago = |at: Instant| millis(now.saturating_duration_since(at));
        let mut candidates: Vec<_> = self
            .candidates
            .iter()
            .map(|(address, known)| CandidateStory {
                address: *address,
                origin: known.origin,
                asked: known.asked_ever,
                answered_ms: known.good.map(|(_, at)| ago(at)),
                rtt_us: known.good.map(|(rtt, _)| rtt),
            })
            .collect();
        candidates.sort_by_key(|it| (it.answered_ms.is_none(), it.rtt_us, it.origin, it.address));
        let mut relays: Vec<_> = shared
            .reach
            .iter()
            .filter(|(relay, _)| **relay != self.id)
            .map(|(relay, reach)| {
                let binding = self.bindings.get(relay);
                RelayStory {
                    relay: *relay,
                    to_relay_us: reach.rtt_us,
                    rtt_us: binding.and_then(|binding| binding.rtt_us),
                    state: binding.map_or(RelayState::Spare, |binding| binding.state(now)),
                }
            })
            .collect();
        relays.sort_by_key(|it| (it.state != RelayState::Bound, it.to_relay_us, it.relay));
        relays.truncate(RELAYS_TOLD_MAX);
        PathStory {
            peer: self.id,
            fact: self.fact(),
            since_ms: ago(self.selected_since),
            not_direct: self.why(now, shared),
            nat,
            device_mtu: self.size.device(),
            is_active: self.is_active(now),
            candidates,
            relays,
            events: self.events(now),
        }
    }
}

/// Relays that are told of.
const RELAYS_TOLD_MAX: usize = 16;

/// Returns a way as others know it.
pub fn kind_of(way: Option<Way>) -> PathKind {
    match way {
        None => PathKind::None,
        Some(Way::Direct(to)) => PathKind::Direct { to },
        Some(Way::Via(via)) => PathKind::Relayed { via },
    }
}
