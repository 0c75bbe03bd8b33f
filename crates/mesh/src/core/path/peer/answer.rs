//! What a peer's messages change.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::NodeId;
use bastide_api::paths::{CandidateOrigin, PathReason};

use super::super::event::Discard;
use super::super::message::{Message, Transaction, decode};
use super::{PING_LIFE, Peer, Shared, Way, passage};

/// A better way is not taken before the one in use was used this long, except while searching.
const HOLD: Duration = Duration::from_secs(5);
/// While a search is this young, answers are compared freely.
const EXPLORING: Duration = Duration::from_secs(1);
/// A way must save a quarter, and this much, to be worth a change. Microseconds.
const SAVING_US_MIN: u32 = 500;
/// A peer's word that it uses a way counts this long.
const SELECTED_LIFE: Duration = Duration::from_secs(2);
/// A way that a message came by is asked back at most this often.
const ASK_BACK: Duration = Duration::from_millis(250);

impl Peer {
    /// Opens a message, if it is authentic and new.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<Message, Discard> {
        let body = self.keys.open(datagram).ok_or(Discard::Unauthentic)?;
        let (stamp, message) = decode(body).ok_or(Discard::Shape)?;
        if self.window.accept(stamp) {
            Ok(message)
        } else {
            Err(Discard::Replayed)
        }
    }

    /// The peer asks whether we are there.
    pub fn handle_ping(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        from: SocketAddr,
        transaction: Transaction,
        via: Option<NodeId>,
        selected: bool,
    ) {
        let pong = Message::Pong {
            transaction,
            observed: from,
        };
        self.send(shared, from, &pong, passage(via));
        match via {
            Some(relay) => self.heard_via(now, shared, relay),
            None => self.heard_at(now, shared, from, selected),
        }
    }

    /// An authentic message of the peer came straight from this address.
    pub fn heard_at(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        from: SocketAddr,
        selected: bool,
    ) {
        if self.selected == Some(Way::Direct(from)) {
            return;
        }
        self.add(now, shared, from, CandidateOrigin::Heard);
        let is_doubtful = self.check.is_doubtful(now);
        let is_direct = self.is_direct();
        let follows = self.id < shared.own.node();
        let Some(candidate) = self.candidates.get_mut(&from) else {
            return;
        };
        candidate.added = now;
        let is_news = selected && candidate.peer_selected.replace(now).is_none();
        if is_news && is_direct {
            // It has moved, perhaps: then what we use will not answer, and this will.
            self.check.hurry();
            self.check.hasten(now);
        }
        let wants = !is_direct || is_doubtful || (selected && follows) || candidate.asked == 0;
        let is_asked = candidate
            .last_asked
            .is_some_and(|asked| now.saturating_duration_since(asked) < ASK_BACK);
        if wants && !is_asked {
            self.ping(now, shared, Way::Direct(from));
        }
    }

    /// The peer has answered; returns what it saw us as, if it was asked straight.
    pub fn handle_pong(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        from: SocketAddr,
        transaction: Transaction,
    ) -> Result<Option<SocketAddr>, Discard> {
        let ping = self.pings.remove(&transaction).ok_or(Discard::Unasked)?;
        let took = now.saturating_duration_since(ping.at);
        if ping.to != from || took >= PING_LIFE {
            return Err(Discard::Unasked);
        }
        let rtt_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let asked = match ping.way {
            Way::Direct(address) => {
                self.answered_at(now, shared, address, rtt_us);
                Some(address)
            }
            Way::Via(relay) => {
                self.answered_via(now, shared, relay, rtt_us);
                None
            }
        };
        if self.selected == Some(ping.way) {
            self.size_answered(now, ping.size);
        }
        Ok(asked)
    }

    fn answered_at(&mut self, now: Instant, shared: &mut Shared, address: SocketAddr, rtt_us: u32) {
        let Some(candidate) = self.candidates.get_mut(&address) else {
            return;
        };
        let rtt_us = smooth(candidate.good.map(|(before, _)| before), rtt_us);
        candidate.good = Some((rtt_us, now));
        candidate.added = now;
        let is_peers_choice = candidate
            .peer_selected
            .is_some_and(|at| now.saturating_duration_since(at) < SELECTED_LIFE);
        let used = match self.selected {
            Some(Way::Direct(used)) => used,
            Some(Way::Via(_)) if self.is_lossy(now) => return,
            Some(Way::Via(_)) | None => {
                self.select(now, shared, Way::Direct(address), PathReason::Answered);
                return;
            }
        };
        if used == address {
            self.check.answered(self.interval(now));
            if let Some(reach) = shared.reach.get_mut(&self.id) {
                reach.rtt_us = rtt_us;
                reach.is_doubtful = false;
            }
            return;
        }
        let follows = self.id < shared.own.node() && is_peers_choice;
        let reason = if self.check.is_doubtful(now) {
            PathReason::NoAnswer
        } else if follows {
            PathReason::PeerMoved
        } else if self.is_worth_it(now, used, rtt_us) {
            PathReason::Nearer
        } else {
            return;
        };
        self.select(now, shared, Way::Direct(address), reason);
    }

    /// Tells whether a way with this round trip is enough better than the one in use.
    fn is_worth_it(&self, now: Instant, used: SocketAddr, rtt_us: u32) -> bool {
        let used_for = now.saturating_duration_since(self.selected_since);
        if EXPLORING < used_for && used_for < HOLD {
            return false;
        }
        let Some((used_rtt, _)) = self.candidates.get(&used).and_then(|known| known.good) else {
            return true;
        };
        rtt_us.saturating_add((used_rtt / 4).max(SAVING_US_MIN)) < used_rtt
    }

    /// The peer tells where it may be reached, and probes us now.
    pub fn handle_call_me(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        from: SocketAddr,
        call: &CallMe,
    ) {
        self.varies = Some(call.varies);
        for address in &call.candidates {
            if self.add(now, shared, *address, CandidateOrigin::Told) {
                continue;
            }
            // Told again: asked as if it were new.
            if let Some(candidate) = self.candidates.get_mut(address) {
                candidate.asked = 0;
            }
        }
        if call.answer {
            self.call_to(shared, from, false);
        }
        // It may call because our way to each other has died.
        self.check.hasten(now);
        self.search.join(now);
    }
}

/// What a call-me says.
pub struct CallMe {
    pub answer: bool,
    pub varies: bool,
    pub candidates: Vec<SocketAddr>,
}

/// Mixes a sample into a round trip.
pub(super) fn smooth(before: Option<u32>, sample: u32) -> u32 {
    before.map_or(sample, |before| {
        let mixed = (u64::from(before) * 7 + u64::from(sample)) / 8;
        u32::try_from(mixed).unwrap_or(u32::MAX)
    })
}
