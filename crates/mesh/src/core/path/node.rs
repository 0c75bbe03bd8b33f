//! A node's cores beside its WireGuard machine: path finder and relay, and how the three work
//! together. Pure, so that whole networks of nodes run in one thread and virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::v1::{PathFact, PathKind};
use bastide_api::{DiscoveryKey, NodeId, WireGuardKey};
use ipnet::{IpNet, Ipv4Net};

use super::event::Event;
use super::finder::PathFinder;
use super::message::Verdict;
use super::options::{FinderOptions, PeerOptions};
use super::seal::{self, Passage};
use crate::core::relay::{MemberKey, Quota, Relay, Unbound};
use crate::core::wireguard::{self, Entropy, Machine, Transmit};

/// How often it is looked at which peers have traffic.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a node starts from.
pub struct NodeOptions {
    /// For the path finder.
    pub finder: FinderOptions,
    /// What the relay gives.
    pub quota: Quota,
}

/// A peer of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    /// Its id.
    pub node: NodeId,
    /// Its WireGuard key.
    pub wireguard: WireGuardKey,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<Ipv4Net>,
    /// Where it may be reached, best first.
    pub candidates: Vec<SocketAddr>,
    /// Where it was reached before a restart.
    pub last_good: Option<SocketAddr>,
    /// Whether its operator declared it reachable from everywhere.
    pub is_public: bool,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It was taken, or is to be dropped.
    Done,
    /// As it is, it goes to this address.
    Forward(SocketAddr),
}

/// What the caller may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A peer is reached in another way.
    Path {
        /// Which peer.
        peer: NodeId,
        /// How.
        kind: PathKind,
    },
    /// Where this node may be reached has changed.
    Endpoints,
}

/// Path finder and relay of one node.
pub struct Node {
    me: NodeId,
    finder: PathFinder,
    relay: Relay,
    keys: BTreeMap<NodeId, WireGuardKey>,
    nodes: BTreeMap<WireGuardKey, NodeId>,
    /// Prefixes that were given to a peer.
    allowed: BTreeMap<NodeId, BTreeSet<Ipv4Net>>,
    /// Bytes from and to each peer, as last seen.
    traffic: BTreeMap<NodeId, (u64, u64)>,
    next_look: Instant,
    /// Peers with new sessions: the machine knows the indices.
    renewed: BTreeSet<NodeId>,
    /// Endpoints that the machine is to be told.
    decided: VecDeque<(NodeId, Option<SocketAddr>)>,
    notes: VecDeque<Note>,
}

impl Node {
    /// Makes a node without peers.
    pub fn new(now: Instant, options: NodeOptions, entropy: Box<dyn Entropy>) -> Self {
        let me = options.finder.node;
        Self {
            me,
            finder: PathFinder::new(now, options.finder, entropy),
            relay: Relay::new(now, me, options.quota),
            keys: BTreeMap::new(),
            nodes: BTreeMap::new(),
            allowed: BTreeMap::new(),
            traffic: BTreeMap::new(),
            next_look: now,
            renewed: BTreeSet::new(),
            decided: VecDeque::new(),
            notes: VecDeque::new(),
        }
    }

    /// Makes the peers exactly these, in the machine as well.
    pub fn set_peers(&mut self, now: Instant, machine: &mut Machine, peers: &[PeerRecord]) {
        let wanted: BTreeMap<NodeId, &PeerRecord> = peers
            .iter()
            .filter(|peer| peer.node != self.me)
            .map(|peer| (peer.node, peer))
            .collect();
        let gone: Vec<(NodeId, WireGuardKey)> = self
            .keys
            .iter()
            .filter(|(node, key)| wanted.get(node).is_none_or(|peer| peer.wireguard != **key))
            .map(|(node, key)| (*node, *key))
            .collect();
        for (node, key) in gone {
            machine.remove_peer(&key);
            self.keys.remove(&node);
            self.nodes.remove(&key);
            self.allowed.remove(&node);
            self.traffic.remove(&node);
        }
        let mut members = Vec::new();
        let mut sought = Vec::new();
        for peer in wanted.values() {
            if !self.configure(machine, peer) {
                continue;
            }
            members.push(MemberKey {
                node: peer.node,
                wireguard: peer.wireguard,
            });
            sought.push(PeerOptions {
                node: peer.node,
                discovery: peer.discovery,
                candidates: peer.candidates.clone(),
                last_good: peer.last_good,
                is_public: peer.is_public,
            });
        }
        self.relay.set_members(now, &members);
        self.finder.set_peers(now, &sought);
        self.drain(now);
    }

    /// Gives a peer to the machine; false if the machine refuses it.
    fn configure(&mut self, machine: &mut Machine, peer: &PeerRecord) -> bool {
        let key = peer.wireguard;
        if let Err(reason) = machine.add_peer(key) {
            tracing::debug!(node = %peer.node, %reason, "a peer was refused");
            return false;
        }
        self.keys.insert(peer.node, key);
        self.nodes.insert(key, peer.node);
        let wanted: BTreeSet<Ipv4Net> = peer.allowed.iter().map(Ipv4Net::trunc).collect();
        let held = self.allowed.entry(peer.node).or_default();
        for net in held.difference(&wanted) {
            // A prefix that another peer has taken over is not there any more.
            let _ = machine.disallow(&key, IpNet::V4(*net));
        }
        for net in wanted.difference(held) {
            if let Err(reason) = machine.allow(&key, IpNet::V4(*net)) {
                tracing::debug!(node = %peer.node, %net, %reason, "a prefix was refused");
            }
        }
        *held = wanted;
        true
    }

    /// These are the host's addresses now, with the mesh's port.
    pub fn handle_network_change(&mut self, now: Instant, interfaces: Vec<SocketAddr>) {
        self.finder.handle_network_change(now, interfaces);
        self.drain(now);
    }

    /// Handles a datagram that the machine has no use for.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) -> Take {
        if !seal::is_discovery(datagram) {
            return take(self.relay.forward(now, from, datagram).ok());
        }
        let Some(header) = seal::header(datagram) else {
            return Take::Done;
        };
        if header.receiver == self.me {
            if let Err(reason) = self.finder.handle_datagram(now, from, datagram) {
                tracing::trace!(%from, %reason, "a discovery message was dropped");
            }
            self.drain(now);
            return Take::Done;
        }
        if header.passage == Passage::Straight {
            // It asks about an address, and must not be answered by way of another.
            return Take::Done;
        }
        let (sender, receiver) = (header.sender, header.receiver);
        let len = datagram.len();
        take(
            self.relay
                .forward_discovery(now, from, sender, receiver, len)
                .ok(),
        )
    }

    /// Handles an event of the machine.
    pub fn handle_event(&mut self, now: Instant, event: &wireguard::Event) {
        let node = |key: &WireGuardKey| self.nodes.get(key).copied();
        match event {
            wireguard::Event::WantsHandshake { peer } => {
                if let Some(node) = node(peer) {
                    self.finder.handle_traffic(now, node);
                }
            }
            wireguard::Event::PeerSilent { peer } => {
                if let Some(node) = node(peer) {
                    self.finder.handle_silence(now, node);
                }
            }
            wireguard::Event::HandshakeCompleted { peer, from } => {
                if let Some(node) = node(peer) {
                    self.renewed.insert(node);
                    self.finder.handle_source(now, node, *from);
                }
            }
            wireguard::Event::SourceChanged { peer, from } => {
                if let Some(node) = node(peer) {
                    self.finder.handle_source(now, node, *from);
                }
            }
            wireguard::Event::TimestampReserved(_) => {}
        }
        self.drain(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.finder.handle_timeout(now);
        self.relay.handle_timeout(now);
        self.drain(now);
    }

    /// Tells the machine what was decided, and looks at what it has done.
    pub fn direct(&mut self, now: Instant, machine: &mut Machine) {
        if self.next_look <= now {
            self.next_look = now + LOOK_EVERY;
            self.look(now, machine);
        }
        while let Some(node) = self.renewed.pop_first() {
            if let Some(index) = self
                .keys
                .get(&node)
                .and_then(|key| machine.receiver_index(key))
            {
                self.finder.handle_indices(now, node, vec![index]);
            }
        }
        self.drain(now);
        while let Some((node, endpoint)) = self.decided.pop_front() {
            let Some(key) = self.keys.get(&node) else {
                continue;
            };
            if let Err(reason) = machine.set_endpoint(now, key, endpoint) {
                tracing::debug!(%node, %reason, "an endpoint was refused");
            }
            // One side begins, so that two handshakes do not cross; the other's traffic may.
            let is_first = self.me < node && machine.receiver_index(key).is_none();
            if endpoint.is_some() && is_first {
                // The peer was found by now.
                let _ = machine.start_handshake(now, key);
            }
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.finder.poll_transmit()
    }

    /// Returns the next thing that the caller may want to know.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] and [`Self::direct`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = (!self.keys.is_empty()).then_some(self.next_look);
        [self.finder.poll_timeout(), self.relay.poll_timeout(), look]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns how each peer is reached.
    pub fn paths(&self) -> BTreeMap<NodeId, PathFact> {
        self.finder.paths()
    }

    /// Returns the path finder, to be looked at.
    pub fn finder(&self) -> &PathFinder {
        &self.finder
    }

    /// Returns the relay, to be looked at.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Returns the WireGuard key of a peer.
    pub fn key(&self, node: NodeId) -> Option<WireGuardKey> {
        self.keys.get(&node).copied()
    }

    /// Finds the peers that have had traffic since the last look.
    fn look(&mut self, now: Instant, machine: &Machine) {
        for (node, key) in &self.keys {
            let Some(bytes) = machine.traffic(key) else {
                continue;
            };
            let before = self.traffic.insert(*node, bytes).unwrap_or_default();
            if before != bytes {
                self.finder.handle_traffic(now, *node);
            }
        }
    }

    /// Takes what the finder has decided, and answers for the relay.
    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.finder.poll_event() {
            match event {
                Event::Path {
                    peer,
                    endpoint,
                    kind,
                } => {
                    self.decided.push_back((peer, endpoint));
                    self.notes.push_back(Note::Path { peer, kind });
                }
                Event::Endpoints => self.notes.push_back(Note::Endpoints),
                Event::Heard {
                    node,
                    from,
                    selected,
                } => self.relay.handle_heard(now, node, from, selected),
                Event::BindAsked(asked) => {
                    self.relay.handle_heard(now, asked.node, asked.from, true);
                    let (target, indices) = (asked.target, &asked.indices);
                    let verdict = match self.relay.handle_bind(now, asked.node, target, indices) {
                        Ok(()) => Verdict::Bound,
                        Err(Unbound::NotHere) => Verdict::NotHere,
                        Err(Unbound::Full) => Verdict::Full,
                        Err(Unbound::Refused) => Verdict::Refused,
                    };
                    self.finder.answer_bind(now, &asked, verdict);
                }
            }
        }
    }
}

fn take(to: Option<SocketAddr>) -> Take {
    to.map_or(Take::Done, Take::Forward)
}
