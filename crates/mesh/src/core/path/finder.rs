//! The machine: who the peers are, what this node looks like from outside, and the order in which
//! peers do what is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::paths::{NatMapping, NotDirect, PathEvent, PathStory};
use bastide_api::v1::PathFact;
use bastide_api::{DiscoveryKey, NodeId};

use super::event::{BindAsked, Discard, Event};
use super::message::{Message, Transaction, Verdict};
use super::observers::Observers;
use super::options::{FinderOptions, PeerOptions};
use super::peer::answer::CallMe;
use super::peer::{Peer, Shared, Wish};
use super::seal::{self, OwnKey, PairKeys, Passage};
use crate::core::wireguard::{Entropy, PEERS_MAX, Transmit};

/// Between two questions to a peer with traffic.
pub const PING_ACTIVE: Duration = Duration::from_secs(3);
/// The same, where a relay carries it: the relay may die without a word, and its death must be noticed
/// and mended within 3 s.
pub const PING_RELAYED: Duration = Duration::from_secs(1);
/// Between two questions to a peer without: NATs keep mappings for 30 s or longer, and 20 s leaves
/// room for one that is lost.
pub const PING_IDLE: Duration = Duration::from_secs(15);
/// How long the selected way may leave questions unanswered.
pub const PATIENCE: Duration = Duration::from_millis(3500);
/// How long an answer makes a way trusted: one interval and the patience after it.
pub const TRUST: Duration = PING_ACTIVE.saturating_add(PATIENCE);

/// Reflexive addresses that are published: a NAT that varies has one for each observer.
const REFLEXIVE_MAX: usize = 2;
/// Addresses that are published at all.
const ENDPOINTS_MAX: usize = super::message::CANDIDATES_MAX;
/// Binds under way.
const BINDS_MAX: usize = 4096;
const BIND_ANSWER_LIFE: Duration = Duration::from_secs(5);

/// The path finder of one node.
pub struct PathFinder {
    shared: Shared,
    first_stamp: u64,
    public: Vec<SocketAddr>,
    interfaces: Vec<SocketAddr>,
    observers: Observers,
    peers: BTreeMap<NodeId, Peer>,
    /// Binds under way: which relay, for whom, since when.
    binds: BTreeMap<Transaction, (NodeId, NodeId, Instant)>,
    wakes: BTreeSet<(Instant, NodeId)>,
    discards: BTreeMap<Discard, u64>,
    last_now: Instant,
}

impl PathFinder {
    /// Makes a finder without peers.
    pub fn new(now: Instant, options: FinderOptions, entropy: Box<dyn Entropy>) -> Self {
        let own = OwnKey::new(options.node, &options.discovery_key);
        let mut finder = Self {
            shared: Shared {
                own,
                entropy,
                exclude: options.exclude,
                endpoints: Vec::new(),
                varies: None,
                reach: BTreeMap::new(),
                reach_changed: BTreeSet::new(),
                doubts: BTreeSet::new(),
                is_back: false,
                mtu: options.mtu,
                wishes: VecDeque::new(),
                transmits: VecDeque::new(),
                events: VecDeque::new(),
            },
            first_stamp: options.first_stamp,
            public: options.public,
            interfaces: Vec::new(),
            observers: Observers::default(),
            peers: BTreeMap::new(),
            binds: BTreeMap::new(),
            wakes: BTreeSet::new(),
            discards: BTreeMap::new(),
            last_now: now,
        };
        finder.review_endpoints(now);
        finder
    }

    /// Makes the peers exactly these. What is known of those that stay is kept.
    pub fn set_peers(&mut self, now: Instant, peers: &[PeerOptions]) {
        self.last_now = now;
        let wanted: BTreeMap<NodeId, &PeerOptions> = peers
            .iter()
            .filter(|peer| peer.node != self.shared.own.node())
            .take(PEERS_MAX)
            .map(|peer| (peer.node, peer))
            .collect();
        let stale = |peer: &Peer| {
            let spec = wanted.get(&peer.id());
            spec.is_none_or(|spec| spec.discovery != *peer.public())
        };
        let gone: Vec<NodeId> = self
            .peers
            .values()
            .filter(|peer| stale(peer))
            .map(Peer::id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        for (id, spec) in wanted {
            let shared = &mut self.shared;
            if !self.peers.contains_key(&id) {
                let Some(keys) = PairKeys::new(&shared.own, id, &spec.discovery) else {
                    tracing::debug!(node = %id, "discovery key of low order");
                    continue;
                };
                let start = (self.first_stamp, shared.mtu);
                let peer = Peer::new(now, id, spec.discovery, keys, start);
                self.peers.insert(id, peer);
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                let (candidates, last_good) = (&spec.candidates, spec.last_good);
                peer.publish(now, shared, candidates, last_good, spec.is_public);
            }
            self.run(now, id);
        }
        self.settle(now);
    }

    /// The host's network may have changed: these are its addresses, with the mesh's port.
    pub fn handle_network_change(&mut self, now: Instant, mut interfaces: Vec<SocketAddr>) {
        self.last_now = now;
        interfaces.retain(|address| self.shared.exclude.allows(*address));
        interfaces.dedup();
        let is_moved = interfaces != self.interfaces;
        if is_moved {
            self.observers.clear();
            self.interfaces = interfaces;
            self.review_endpoints(now);
        }
        self.for_all(now, |peer| peer.handle_network_change(now, is_moved));
    }

    /// Handles a datagram that [`seal::is_discovery`] and is for this node.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        self.last_now = now;
        let result = self.receive(now, from, datagram);
        if let Err(reason) = result {
            *self.discards.entry(reason).or_default() += 1;
        }
        result
    }

    /// There is traffic for or from a peer.
    pub fn handle_traffic(&mut self, now: Instant, peer: NodeId) {
        self.with(now, peer, |peer, _| peer.handle_traffic(now));
    }

    /// An authenticated WireGuard message of a peer came from this address.
    pub fn handle_source(&mut self, now: Instant, peer: NodeId, from: SocketAddr) {
        let is_relay = self
            .shared
            .reach
            .iter()
            .any(|(node, reach)| *node != peer && reach.address == from);
        if !is_relay {
            self.with(now, peer, |peer, shared| {
                peer.heard_at(now, shared, from, false);
            });
        }
    }

    /// WireGuard gets no answer from a peer.
    pub fn handle_silence(&mut self, now: Instant, peer: NodeId) {
        self.with(now, peer, |peer, _| peer.handle_silence(now));
    }

    /// Sets the receiver indices that WireGuard puts into data for a peer.
    pub fn handle_indices(&mut self, now: Instant, peer: NodeId, indices: Vec<u32>) {
        self.with(now, peer, |peer, _| peer.set_indices(now, indices));
    }

    /// Answers a member's question to be relayed.
    pub fn answer_bind(&mut self, now: Instant, asked: &BindAsked, verdict: Verdict) {
        let rtt_us = self.peers.get(&asked.target).map_or(0, Peer::direct_rtt_us);
        let message = Message::Bound {
            transaction: asked.transaction,
            verdict,
            rtt_us,
        };
        self.with(now, asked.node, |peer, shared| {
            peer.send(shared, asked.from, &message, Passage::Straight);
        });
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_now = now;
        while let Some(&(at, id)) = self.wakes.first().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.wake = None;
            }
            self.run(now, id);
        }
        self.settle(now);
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.shared.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`]: at once while output waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.shared.transmits.is_empty() || !self.shared.events.is_empty() {
            return Some(self.last_now);
        }
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Returns how each peer is reached.
    pub fn paths(&self) -> BTreeMap<NodeId, PathFact> {
        let fact = |(id, peer): (&NodeId, &Peer)| (*id, peer.fact());
        self.peers.iter().map(fact).collect()
    }

    /// Returns why a peer is not reached directly; `None` if it is, or is unknown.
    pub fn why(&self, peer: NodeId) -> Option<NotDirect> {
        self.peers.get(&peer)?.why(self.last_now, &self.shared)
    }

    /// Returns what happened lately to the paths, oldest first.
    pub fn events(&self, now: Instant) -> BTreeMap<NodeId, Vec<PathEvent>> {
        let told = |(id, peer): (&NodeId, &Peer)| (*id, peer.events(now));
        self.peers.iter().map(told).collect()
    }

    /// Tells all that is known of the path to a peer; `None` if it is unknown.
    pub fn story(&self, now: Instant, peer: NodeId) -> Option<PathStory> {
        let peer = self.peers.get(&peer)?;
        Some(peer.story(now, &self.shared, self.nat_mapping()))
    }

    /// Returns the public half of this node's discovery key.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.shared.own.public()
    }

    /// Returns where this node may be reached, best first.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.shared.endpoints
    }

    /// Returns what is known of this node's NAT.
    pub fn nat_mapping(&self) -> NatMapping {
        match self.shared.varies {
            None => NatMapping::Unknown,
            Some(false) => NatMapping::Same,
            Some(true) => NatMapping::Varies,
        }
    }

    /// Returns what was dropped, and why.
    pub fn discards(&self) -> &BTreeMap<Discard, u64> {
        &self.discards
    }

    fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        let header = seal::header(datagram).ok_or(Discard::Shape)?;
        if header.receiver != self.shared.own.node() {
            return Err(Discard::NotOurs);
        }
        let peer = self
            .peers
            .get_mut(&header.sender)
            .ok_or(Discard::Stranger)?;
        let message = peer.open(datagram)?;
        if message.passage().is_some_and(|it| it != header.passage) {
            return Err(Discard::Shape);
        }
        self.obey(now, header.sender, from, message)?;
        self.run(now, header.sender);
        self.settle(now);
        Ok(())
    }

    /// Does what an authentic message says.
    fn obey(
        &mut self,
        now: Instant,
        id: NodeId,
        from: SocketAddr,
        message: Message,
    ) -> Result<(), Discard> {
        let shared = &mut self.shared;
        let peer = self.peers.get_mut(&id).ok_or(Discard::Stranger)?;
        match message {
            Message::Ping {
                transaction,
                via,
                selected,
                padded: _,
            } => {
                if via.is_none() {
                    shared.events.push_back(Event::Heard {
                        node: id,
                        from,
                        selected,
                    });
                }
                peer.handle_ping(now, shared, from, transaction, via, selected);
            }
            Message::Pong {
                transaction,
                observed,
            } => {
                let asked = peer.handle_pong(now, shared, from, transaction)?;
                if let Some(observer) = asked {
                    self.observe(now, id, observer, observed);
                }
            }
            Message::CallMe {
                answer,
                varies,
                candidates,
            } => {
                let call = CallMe {
                    answer,
                    varies,
                    candidates,
                };
                peer.handle_call_me(now, shared, from, &call);
            }
            Message::Bind {
                transaction,
                target,
                indices,
            } => shared.events.push_back(Event::BindAsked(BindAsked {
                node: id,
                from,
                target,
                indices,
                transaction,
            })),
            Message::Bound {
                transaction,
                verdict,
                rtt_us,
            } => {
                let (relay, target, _) = self.binds.remove(&transaction).ok_or(Discard::Unasked)?;
                if relay != id {
                    return Err(Discard::Unasked);
                }
                if let Some(target_peer) = self.peers.get_mut(&target) {
                    target_peer.handle_bound(now, &mut self.shared, relay, verdict, rtt_us);
                    self.run(now, target);
                }
            }
        }
        Ok(())
    }

    /// A peer tells what address it saw us under.
    fn observe(&mut self, now: Instant, id: NodeId, observer: SocketAddr, seen: SocketAddr) {
        if self.shared.exclude.allows(seen) {
            self.observers.put(now, id, observer, seen);
            self.review_endpoints(now);
        }
    }

    /// Works out where this node may be reached, and what its NAT does.
    fn review_endpoints(&mut self, now: Instant) {
        self.observers.expire(now);
        self.shared.varies = self.observers.varies();
        let told = &self.shared.endpoints;
        let reflexive = self.observers.reflexive(&self.interfaces, told);
        let mut endpoints: Vec<SocketAddr> = Vec::new();
        let all = self
            .public
            .iter()
            .copied()
            .chain(reflexive.into_iter().take(REFLEXIVE_MAX))
            .chain(self.interfaces.iter().copied());
        for address in all {
            if endpoints.len() < ENDPOINTS_MAX && !endpoints.contains(&address) {
                endpoints.push(address);
            }
        }
        if endpoints != self.shared.endpoints {
            self.shared.endpoints = endpoints;
            self.shared.events.push_back(Event::Endpoints);
            self.for_all(now, |peer| peer.handle_endpoints(now));
        }
    }

    fn with(&mut self, now: Instant, id: NodeId, change: impl FnOnce(&mut Peer, &mut Shared)) {
        self.last_now = now;
        if let Some(peer) = self.peers.get_mut(&id) {
            change(peer, &mut self.shared);
            self.run(now, id);
            self.settle(now);
        }
    }

    fn for_all(&mut self, now: Instant, mut change: impl FnMut(&mut Peer)) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id) {
                change(peer);
                self.run(now, id);
            }
        }
        self.settle(now);
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(mut peer) = self.peers.remove(&id) {
            peer.retire(&mut self.shared);
            // If the peer comes back, it may remember what it has seen of us.
            self.first_stamp = self.first_stamp.max(peer.stamp());
            if let Some(wake) = peer.wake {
                self.wakes.remove(&(wake, id));
            }
        }
        self.observers.forget(id);
    }

    /// Lets a peer do what is due and sets its next wake.
    fn run(&mut self, now: Instant, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.step(now, &mut self.shared);
        let next = peer.next(now).map(|at| at.max(now + WAKE_GAP));
        if peer.wake == next {
            return;
        }
        if let Some(wake) = std::mem::replace(&mut peer.wake, next) {
            self.wakes.remove(&(wake, id));
        }
        if let Some(next) = next {
            self.wakes.insert((next, id));
        }
    }

    /// Does what peers want of each other, until nobody wants anything.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(wish) = self.shared.wishes.pop_front() {
                self.ask_relay(now, wish);
            } else if let Some(doubted) = self.shared.doubts.pop_first() {
                if let Some(peer) = self.peers.get_mut(&doubted) {
                    peer.handle_silence(now);
                }
                self.run(now, doubted);
            } else if let Some(relay) = self.shared.reach_changed.pop_first() {
                let concerned: Vec<NodeId> = self
                    .peers
                    .values()
                    .filter(|peer| peer.concerns(now, relay))
                    .map(Peer::id)
                    .collect();
                for id in concerned {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.relay_moved(&mut self.shared, relay);
                    }
                    self.run(now, id);
                }
            } else if std::mem::take(&mut self.shared.is_back) {
                let all: Vec<NodeId> = self.peers.keys().copied().collect();
                for id in all {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.handle_return(now);
                    }
                    self.run(now, id);
                }
            } else {
                return;
            }
        }
    }

    fn ask_relay(&mut self, now: Instant, wish: Wish) {
        let to = self.shared.reach.get(&wish.relay).map(|it| it.address);
        let (Some(to), Some(relay)) = (to, self.peers.get_mut(&wish.relay)) else {
            return;
        };
        if self.binds.len() >= BINDS_MAX {
            self.binds
                .retain(|_, (_, _, at)| now.saturating_duration_since(*at) < BIND_ANSWER_LIFE);
            if self.binds.len() >= BINDS_MAX {
                return;
            }
        }
        self.binds
            .insert(wish.transaction, (wish.relay, wish.target, now));
        let message = Message::Bind {
            transaction: wish.transaction,
            target: wish.target,
            indices: wish.indices,
        };
        relay.send(&mut self.shared, to, &message, Passage::Straight);
    }
}

/// A peer is not looked at more often than this by its own wish.
const WAKE_GAP: Duration = Duration::from_millis(1);
