//! One peer: its candidates, the way that is used, and the search for a better one.

pub mod answer;
mod check;
mod history;
mod relays;
mod search;
mod size;
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::paths::{CandidateOrigin, PathChange, PathReason};
use bastide_api::{DiscoveryKey, NodeId};

use super::address::Exclude;
use super::budget::Budget;
use super::event::Event;
use super::message::{CANDIDATES_MAX, Message, Transaction, encode};
use super::seal::{OwnKey, PairKeys, Passage};
use super::window::Window;
use crate::core::wireguard::{Entropy, Transmit};

use check::Check;
use history::{History, Losses};
use relays::Binding;
use search::Search;
use size::Size;
use story::kind_of;

/// Candidates that are held of one peer; those in one message are fewer.
const HELD_MAX: usize = 2 * CANDIDATES_MAX;
/// Questions that are remembered, so that an answer can be told from a forgery.
const PINGS_MAX: usize = 128;
/// An answer later than this answers nothing.
const PING_LIFE: Duration = Duration::from_secs(5);
/// How long traffic counts as going on after the last sign of it.
const ACTIVE: Duration = Duration::from_secs(10);

/// How a datagram gets to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Straight to this address.
    Direct(SocketAddr),
    /// Through this node.
    Via(NodeId),
}

/// An address that a peer may have.
struct Candidate {
    origin: CandidateOrigin,
    added: Instant,
    /// Questions sent to it since there was news of it.
    asked: u32,
    /// Questions sent to it at all.
    asked_ever: u32,
    last_asked: Option<Instant>,
    /// Its last answer: round trip in microseconds, smoothed, and when.
    good: Option<(u32, Instant)>,
    /// When the peer last said that its own traffic takes this way.
    peer_selected: Option<Instant>,
}

/// A question under way.
struct SentPing {
    way: Way,
    to: SocketAddr,
    at: Instant,
    /// The packet that it was as long as; 0 is a short one.
    size: u16,
}

/// A peer that is reached directly, and so may be asked to relay.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Its address.
    pub address: SocketAddr,
    /// Round trip, microseconds.
    pub rtt_us: u32,
    /// Whether its operator declared it reachable from everywhere.
    pub declared: bool,
    /// Whether a question to it is overdue.
    pub is_doubtful: bool,
}

/// A bind to be sent to a relay.
pub struct Wish {
    pub relay: NodeId,
    pub target: NodeId,
    pub transaction: Transaction,
    pub indices: Vec<u32>,
}

/// What all peers of a finder share.
pub struct Shared {
    pub own: OwnKey,
    pub entropy: Box<dyn Entropy>,
    pub exclude: Exclude,
    /// Where this node may be reached, best first.
    pub endpoints: Vec<SocketAddr>,
    /// Whether this node's NAT gives each destination another port.
    pub varies: Option<bool>,
    /// Who is reached directly.
    pub reach: BTreeMap<NodeId, Reach>,
    /// Who of them changed since the last look.
    pub reach_changed: BTreeSet<NodeId>,
    /// Relays that seem dead: their own way is to be checked.
    pub doubts: BTreeSet<NodeId>,
    /// A peer is reached that was not: others may be, too.
    pub is_back: bool,
    /// MTU of the mesh device, bytes.
    pub mtu: u16,
    pub wishes: VecDeque<Wish>,
    pub transmits: VecDeque<Transmit>,
    pub events: VecDeque<Event>,
}

impl Shared {
    /// Draws a transaction.
    pub fn transaction(&mut self) -> Transaction {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        Transaction(bytes)
    }
}

/// A peer.
pub struct Peer {
    id: NodeId,
    public: DiscoveryKey,
    keys: PairKeys,
    declared: bool,
    window: Window,
    stamp: u64,
    published: Vec<SocketAddr>,
    candidates: BTreeMap<SocketAddr, Candidate>,
    pings: BTreeMap<Transaction, SentPing>,
    selected: Option<Way>,
    selected_since: Instant,
    check: Check,
    search: Search,
    bindings: BTreeMap<NodeId, Binding>,
    active_until: Option<Instant>,
    /// Until when a direct way is not taken instead of a relay, because it loses too much.
    lossy_until: Option<Instant>,
    /// What became of the last questions to the address that was used last.
    direct_losses: Option<(SocketAddr, Losses)>,
    size: Size,
    history: History,
    budget: Budget,
    indices: Vec<u32>,
    varies: Option<bool>,
    /// When the finder's queue will look at this peer.
    pub wake: Option<Instant>,
}

impl Peer {
    /// Makes a peer without any path. Its messages are numbered from `stamp`.
    pub fn new(
        now: Instant,
        id: NodeId,
        public: DiscoveryKey,
        keys: PairKeys,
        (stamp, mtu): (u64, u16),
    ) -> Self {
        Self {
            id,
            public,
            keys,
            declared: false,
            window: Window::default(),
            stamp,
            published: Vec::new(),
            candidates: BTreeMap::new(),
            pings: BTreeMap::new(),
            selected: None,
            selected_since: now,
            check: Check::new(now, None),
            search: Search::new(now),
            bindings: BTreeMap::new(),
            active_until: None,
            lossy_until: None,
            direct_losses: None,
            size: Size::new(now, mtu),
            history: History::default(),
            budget: Budget::default(),
            indices: Vec::new(),
            varies: None,
            wake: None,
        }
    }

    /// Returns who it is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the number of the next message to it.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Returns the key that its messages are sealed with.
    pub fn public(&self) -> &DiscoveryKey {
        &self.public
    }

    /// Takes over what the view and the peer's report say.
    pub fn publish(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        candidates: &[SocketAddr],
        last_good: Option<SocketAddr>,
        declared: bool,
    ) {
        if self.declared != declared {
            self.declared = declared;
            if let Some(reach) = shared.reach.get_mut(&self.id) {
                reach.declared = declared;
            }
        }
        let wanted: Vec<SocketAddr> = candidates.iter().take(CANDIDATES_MAX).copied().collect();
        let mut is_new = false;
        if wanted != self.published {
            let selected = self.selected;
            self.candidates.retain(|address, candidate| {
                candidate.origin != CandidateOrigin::Published
                    || wanted.contains(address)
                    || selected == Some(Way::Direct(*address))
            });
            for address in &wanted {
                is_new |= self.add(now, shared, *address, CandidateOrigin::Published);
            }
            self.published = wanted;
        }
        if let Some(address) = last_good {
            is_new |= self.add(now, shared, address, CandidateOrigin::LastGood);
        }
        if is_new {
            self.search.begin(now);
        }
    }

    /// Adds a candidate; true if it is new.
    fn add(
        &mut self,
        now: Instant,
        shared: &Shared,
        address: SocketAddr,
        origin: CandidateOrigin,
    ) -> bool {
        if let Some(known) = self.candidates.get_mut(&address) {
            known.origin = known.origin.min(origin);
            known.added = now;
            return false;
        }
        if !shared.exclude.allows(address) || shared.endpoints.contains(&address) {
            return false;
        }
        if self.candidates.len() >= HELD_MAX {
            let oldest = self
                .candidates
                .iter()
                .filter(|(address, candidate)| {
                    candidate.origin >= CandidateOrigin::Told
                        && self.selected != Some(Way::Direct(**address))
                })
                .min_by_key(|(_, candidate)| candidate.added)
                .map(|(address, _)| *address);
            let Some(oldest) = oldest else {
                return false;
            };
            self.candidates.remove(&oldest);
        }
        let candidate = Candidate {
            origin,
            added: now,
            asked: 0,
            asked_ever: 0,
            last_asked: None,
            good: None,
            peer_selected: None,
        };
        self.candidates.insert(address, candidate);
        true
    }

    /// Does what is due.
    pub fn step(&mut self, now: Instant, shared: &mut Shared) {
        self.check_selected(now, shared);
        self.seek_relay(now, shared);
        self.run_search(now, shared);
        self.measure(now, shared);
    }

    /// Returns when to step next.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let check = self.selected.map(|_| self.check.next());
        let relay = self
            .wants_relay(now)
            .then(|| self.bindings.values().map(|binding| binding.due).min())
            .flatten();
        [check, relay, self.search.due, self.measure_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// There is traffic for or from the peer.
    pub fn handle_traffic(&mut self, now: Instant) {
        let was_active = self.is_active(now);
        self.active_until = Some(now + ACTIVE);
        if !was_active {
            self.check.hasten(now);
            if !self.is_direct() {
                self.search.renew(now);
            }
        }
    }

    /// Another peer is reached that was not: asks this one at once, if it is not reached either.
    pub fn handle_return(&mut self, now: Instant) {
        if self.selected.is_none() && !self.search.is_first_round() {
            self.search.begin(now);
        }
    }

    /// This node's own addresses are others now.
    pub fn handle_endpoints(&mut self, now: Instant) {
        if matches!(self.selected, Some(Way::Via(_))) {
            self.search.recall(now);
        }
    }

    /// Looks at the way now, because nothing comes by it.
    pub fn handle_silence(&mut self, now: Instant) {
        self.check.hasten(now);
    }

    /// Sets the receiver indices that this node puts into data for the peer: a relay that did not
    /// see the handshake has to be told.
    pub fn set_indices(&mut self, now: Instant, indices: Vec<u32>) {
        if self.indices == indices {
            return;
        }
        self.indices = indices;
        if let Some(Way::Via(relay)) = self.selected
            && let Some(binding) = self.bindings.get_mut(&relay)
        {
            binding.due = now;
        }
    }

    /// The host's network changed; `is_moved` says that its addresses are others now.
    pub fn handle_network_change(&mut self, now: Instant, is_moved: bool) {
        if is_moved {
            self.check.hurry();
            self.direct_losses = None;
        }
        self.check.hasten(now);
        if is_moved {
            self.budget.forget_destinations();
            for candidate in self.candidates.values_mut() {
                candidate.asked = 0;
            }
            self.search.begin(now);
        } else if !self.is_direct() {
            self.search.renew(now);
        }
    }

    /// Tells whether this peer's way depends on that relay, or could.
    pub fn concerns(&self, now: Instant, relay: NodeId) -> bool {
        self.id != relay && (self.selected == Some(Way::Via(relay)) || self.wants_relay(now))
    }

    /// Returns the direct round trip in microseconds; 0 if there is none.
    pub fn direct_rtt_us(&self) -> u32 {
        match self.selected {
            Some(Way::Direct(_)) => self.fact().rtt_us.unwrap_or(0),
            Some(Way::Via(_)) | None => 0,
        }
    }

    /// Lets go of the way, because the peer is removed.
    pub fn retire(&mut self, shared: &mut Shared) {
        if shared.reach.remove(&self.id).is_some() {
            shared.reach_changed.insert(self.id);
        }
    }

    fn is_direct(&self) -> bool {
        matches!(self.selected, Some(Way::Direct(_)))
    }

    fn is_active(&self, now: Instant) -> bool {
        self.active_until.is_some_and(|until| now < until)
    }

    /// Takes a way into use.
    fn select(&mut self, now: Instant, shared: &mut Shared, way: Way, reason: PathReason) {
        if self.selected == Some(way) {
            return;
        }
        self.remember(now, Some(way), reason);
        shared.is_back |= self.selected.is_none();
        self.keep_losses();
        self.selected = Some(way);
        self.selected_since = now;
        // The first question on the new way tells the peer, and a relay, where we are.
        match way {
            Way::Direct(address) => {
                self.check = Check::new(now, None);
                // A way that comes and goes is judged by all of its questions.
                if let Some((_, losses)) = self.direct_losses.take_if(|(of, _)| *of == address) {
                    self.check.losses = losses;
                }
                self.bindings.clear();
            }
            Way::Via(relay) => {
                let rtt_us = self.bindings.get(&relay).and_then(|binding| binding.rtt_us);
                self.check = Check::new(now, Some(rtt_us.unwrap_or(0)));
                self.search.begin(now);
            }
        }
        self.size.begin(now);
        self.announce(shared);
    }

    fn keep_losses(&mut self) {
        if let Some(Way::Direct(address)) = self.selected {
            self.direct_losses = Some((address, std::mem::take(&mut self.check.losses)));
        }
    }

    /// Writes down that another way is taken than the one in use.
    fn remember(&mut self, now: Instant, to: Option<Way>, reason: PathReason) {
        let change = PathChange::Way {
            from: kind_of(self.selected),
            to: kind_of(to),
        };
        self.history.put(now, change, reason);
    }

    /// Tells whether direct ways are left alone, because they lose too much.
    fn is_lossy(&self, now: Instant) -> bool {
        self.lossy_until.is_some_and(|until| now < until)
    }

    /// Tells the rest what is selected now.
    fn announce(&mut self, shared: &mut Shared) {
        let address = self.selected.and_then(|way| address_of(shared, way));
        let reach = match self.selected {
            Some(Way::Direct(address)) => Some(Reach {
                address,
                rtt_us: self.direct_rtt_us(),
                declared: self.declared,
                is_doubtful: false,
            }),
            Some(Way::Via(_)) | None => None,
        };
        let before = shared.reach.get(&self.id).map(|reach| reach.address);
        if before != reach.map(|reach| reach.address) {
            shared.reach_changed.insert(self.id);
        }
        match reach {
            Some(reach) => shared.reach.insert(self.id, reach),
            None => shared.reach.remove(&self.id),
        };
        shared.events.push_back(Event::Path {
            peer: self.id,
            endpoint: address,
            kind: kind_of(self.selected),
        });
    }

    /// The address of the relay in use has changed.
    pub fn relay_moved(&mut self, shared: &mut Shared, relay: NodeId) {
        if self.selected == Some(Way::Via(relay)) && shared.reach.contains_key(&relay) {
            self.announce(shared);
        }
    }

    /// Asks whether the peer is there; false if the budget does not allow it now.
    fn ping(&mut self, now: Instant, shared: &mut Shared, way: Way) -> bool {
        if address_of(shared, way).is_none() {
            return true;
        }
        let granted = match way {
            Way::Direct(to) => self.budget.take_to(now, to),
            Way::Via(_) => self.budget.take(now),
        };
        if !granted {
            return false;
        }
        self.ask(now, shared, way, 0);
        true
    }

    /// As [`Self::ping`] without a look at the budget; with a `size`, by a question that is as long
    /// as a data message with such a packet, and that nobody may cut into pieces.
    fn ask(&mut self, now: Instant, shared: &mut Shared, way: Way, size: u16) {
        let Some(to) = address_of(shared, way) else {
            return;
        };
        if self.pings.len() >= PINGS_MAX {
            self.pings
                .retain(|_, ping| now.saturating_duration_since(ping.at) < PING_LIFE);
        }
        let transaction = shared.transaction();
        if self.pings.len() < PINGS_MAX {
            let at = now;
            let ping = SentPing { way, to, at, size };
            self.pings.insert(transaction, ping);
        }
        let via = match way {
            Way::Direct(to) => {
                if let Some(candidate) = self.candidates.get_mut(&to) {
                    candidate.asked = candidate.asked.saturating_add(1);
                    candidate.asked_ever = candidate.asked_ever.saturating_add(1);
                    candidate.last_asked = Some(now);
                }
                None
            }
            Way::Via(relay) => Some(relay),
        };
        let message = Message::Ping {
            transaction,
            via,
            selected: self.selected == Some(way),
            padded: size::body_len(size),
        };
        self.send(shared, to, &message, passage(via));
        if size > 0
            && let Some(sent) = shared.transmits.back_mut()
        {
            sent.whole = true;
        }
    }

    /// Seals a message for the peer and sends it.
    pub fn send(
        &mut self,
        shared: &mut Shared,
        to: SocketAddr,
        message: &Message,
        passage: Passage,
    ) {
        let mut nonce = [0; 12];
        shared.entropy.fill(&mut nonce);
        let body = encode(self.stamp, message);
        self.stamp += 1;
        let datagram = self.keys.seal(nonce, passage, &body);
        shared.transmits.push_back(Transmit {
            to,
            datagram,
            whole: false,
        });
    }
}

/// Returns how messages by a relay, or without one, travel.
fn passage(via: Option<NodeId>) -> Passage {
    match via {
        Some(_) => Passage::Relayed,
        None => Passage::Straight,
    }
}

/// Returns where datagrams for a way are sent; `None` if its relay is not reached.
fn address_of(shared: &Shared, way: Way) -> Option<SocketAddr> {
    match way {
        Way::Direct(to) => Some(to),
        Way::Via(relay) => shared.reach.get(&relay).map(|reach| reach.address),
    }
}
