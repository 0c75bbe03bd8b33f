//! One peer: its candidates, the way that is used, and the search for a better one.

pub mod answer;
mod check;
mod relays;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::v1::{PathFact, PathKind};
use bastide_api::{DiscoveryKey, NodeId};

use super::address::Exclude;
use super::budget::Budget;
use super::finder::{Event, Why};
use super::message::{CANDIDATES_MAX, Message, Transaction, encode};
use super::seal::{OwnKey, PairKeys};
use super::window::Window;
use crate::core::wireguard::{Entropy, Transmit};

use check::Check;
use relays::Binding;
use search::Search;

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

/// Where a candidate is from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It worked before a restart.
    LastGood,
    /// The view or the peer's report has it.
    Published,
    /// The peer told it in a call-me.
    Told,
    /// A message of the peer came from it.
    Heard,
}

/// An address that a peer may have.
struct Candidate {
    origin: Origin,
    added: Instant,
    /// Questions sent to it.
    asked: u32,
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
    budget: Budget,
    indices: Vec<u32>,
    varies: Option<bool>,
    /// When the finder's queue will look at this peer.
    pub wake: Option<Instant>,
}

impl Peer {
    /// Makes a peer without any path. Its messages are numbered from `stamp`.
    pub fn new(now: Instant, id: NodeId, public: DiscoveryKey, keys: PairKeys, stamp: u64) -> Self {
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
            check: Check::new(now),
            search: Search::new(now),
            bindings: BTreeMap::new(),
            active_until: None,
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
                candidate.origin != Origin::Published
                    || wanted.contains(address)
                    || selected == Some(Way::Direct(*address))
            });
            for address in &wanted {
                is_new |= self.add(now, shared, *address, Origin::Published);
            }
            self.published = wanted;
        }
        if let Some(address) = last_good {
            is_new |= self.add(now, shared, address, Origin::LastGood);
        }
        if is_new {
            self.search.begin(now);
        }
    }

    /// Adds a candidate; true if it is new.
    fn add(&mut self, now: Instant, shared: &Shared, address: SocketAddr, origin: Origin) -> bool {
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
                    candidate.origin >= Origin::Told
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
    }

    /// Returns when to step next.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let check = self.selected.map(|_| self.check.next());
        let relay = self
            .wants_relay(now)
            .then(|| self.bindings.values().map(|binding| binding.due).min())
            .flatten();
        [check, relay, self.search.due].into_iter().flatten().min()
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

    /// Returns how the peer is reached.
    pub fn fact(&self) -> PathFact {
        let (kind, rtt_us) = match self.selected {
            None => (PathKind::None, None),
            Some(Way::Direct(to)) => {
                let good = self.candidates.get(&to).and_then(|known| known.good);
                (PathKind::Direct { to }, good.map(|(rtt, _)| rtt))
            }
            Some(Way::Via(via)) => {
                let rtt = self.bindings.get(&via).and_then(|binding| binding.rtt_us);
                (PathKind::Relayed { via }, rtt)
            }
        };
        PathFact { kind, rtt_us }
    }

    /// Returns why the peer is not reached directly; `None` if it is.
    pub fn why(&self, shared: &Shared) -> Option<Why> {
        match self.selected {
            Some(Way::Direct(_)) => None,
            None => Some(if self.candidates.is_empty() {
                Why::NoCandidate
            } else {
                Why::NoAnswer
            }),
            Some(Way::Via(_)) if self.search.is_first_round() => Some(Why::Searching),
            Some(Way::Via(_)) => Some(match (shared.varies, self.varies) {
                (Some(true), Some(true)) => Why::BothNatsVary,
                (Some(true), _) => Why::OwnNatVaries,
                (_, Some(true)) => Why::PeerNatVaries,
                (_, _) => Why::NoAnswer,
            }),
        }
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
    fn select(&mut self, now: Instant, shared: &mut Shared, way: Way) {
        if self.selected == Some(way) {
            return;
        }
        self.selected = Some(way);
        self.selected_since = now;
        // The first question on the new way tells the peer, and a relay, where we are.
        self.check = Check::new(now);
        match way {
            Way::Direct(_) => self.bindings.clear(),
            Way::Via(_) => self.search.begin(now),
        }
        self.announce(shared);
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
            kind: self.fact().kind,
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
        let Some(to) = address_of(shared, way) else {
            return true;
        };
        let granted = match way {
            Way::Direct(to) => self.budget.take_to(now, to),
            Way::Via(_) => self.budget.take(now),
        };
        if !granted {
            return false;
        }
        if self.pings.len() >= PINGS_MAX {
            self.pings
                .retain(|_, ping| now.saturating_duration_since(ping.at) < PING_LIFE);
        }
        let transaction = shared.transaction();
        if self.pings.len() < PINGS_MAX {
            self.pings
                .insert(transaction, SentPing { way, to, at: now });
        }
        let via = match way {
            Way::Direct(to) => {
                if let Some(candidate) = self.candidates.get_mut(&to) {
                    candidate.asked = candidate.asked.saturating_add(1);
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
        };
        self.send(shared, to, &message);
        true
    }

    /// Seals a message for the peer and sends it.
    pub fn send(&mut self, shared: &mut Shared, to: SocketAddr, message: &Message) {
        let mut nonce = [0; 12];
        shared.entropy.fill(&mut nonce);
        let body = encode(self.stamp, message);
        self.stamp += 1;
        let datagram = self.keys.seal(nonce, &body);
        shared.transmits.push_back(Transmit { to, datagram });
    }
}

/// Returns where datagrams for a way are sent; `None` if its relay is not reached.
fn address_of(shared: &Shared, way: Way) -> Option<SocketAddr> {
    match way {
        Way::Direct(to) => Some(to),
        Way::Via(relay) => shared.reach.get(&relay).map(|reach| reach.address),
    }
}
