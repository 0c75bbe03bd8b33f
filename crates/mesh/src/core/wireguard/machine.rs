//! The machine: keys, peers, and the clockwork between them. What happens to handshakes is in
//! `handshake`, to data in `data`, to deadlines in `deadlines`.

mod data;
mod deadlines;
mod handshake;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use bastide_api::{Secret, UnixTime, WireGuardKey};
use ipnet::IpNet;

use super::allowed::AllowedIps;
use super::clock::TimestampClock;
use super::cookie::CookieMaker;
use super::event::{Discard, Event, PeerId, Received, Sent, Transmit};
use super::load::Load;
use super::message::{self, Mac1Key, Message};
use super::noise::StaticKey;
use super::peer::Peer;
use super::timers::Due;
use super::timestamp::Tai64N;

/// Peers that one device holds. Four times the nodes that the address plan has room for.
pub const PEERS_MAX: usize = 1 << 14;
/// Prefixes that all peers of a device hold together.
pub const PREFIXES_MAX: usize = 1 << 17;

/// Where randomness comes from: the system in a running device, a seed in tests and simulations.
pub trait Entropy: Send {
    /// Fills `buffer` with bytes that nobody can predict.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// Whether authenticated packets move a peer's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roaming {
    /// The endpoint follows the source of authenticated packets, as standard WireGuard does.
    On,
    /// Somebody else decides ([`Machine::set_endpoint`]); a source is taken only by a peer that has
    /// no endpoint at all.
    Off,
}

/// What a machine starts from.
#[derive(Debug, Clone, Copy)]
pub struct MachineOptions {
    /// The wall-clock time at `now`.
    pub wall: UnixTime,
    /// The last [`Event::TimestampReserved`] of the machine before, or [`Tai64N::ZERO`].
    pub timestamp_floor: Tai64N,
    /// Who decides about endpoints.
    pub roaming: Roaming,
    /// The MTU of the TUN device, bytes: padding never exceeds it.
    pub mtu: u16,
}

/// Why a peer or prefix was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table is full.
    #[error("there are {max} peers already")]
    TooManyPeers {
        /// How many fit.
        max: usize,
    },
    /// The table is full.
    #[error("there are {max} allowed prefixes already")]
    TooManyPrefixes {
        /// How many fit.
        max: usize,
    },
    /// A peer with our own key would be ourselves.
    #[error("the peer's key is the device's own")]
    OwnKey,
    /// There is no such peer.
    #[error("there is no such peer")]
    NoSuchPeer,
}

/// What is known of a peer, for people and for the path finder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its public key.
    pub key: WireGuardKey,
    /// Where its datagrams go.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<IpNet>,
    /// Whether a preshared key is set.
    pub has_preshared_key: bool,
    /// Seconds between keepalives; 0 is never.
    pub keepalive_seconds: u16,
    /// Whether packets can be sealed for it right now.
    pub has_session: bool,
    /// When the last handshake was completed.
    pub last_handshake: Option<Instant>,
    /// When the last authenticated message came.
    pub last_heard: Option<Instant>,
    /// Bytes of authenticated messages from it.
    pub received_bytes: u64,
    /// Bytes of messages to it.
    pub sent_bytes: u64,
}

/// The device's key and what is derived from it.
struct Own {
    key: StaticKey,
    mac1: Mac1Key,
    cookies: CookieMaker,
}

/// One WireGuard device.
pub struct Machine {
    own: Option<Own>,
    roaming: Roaming,
    mtu: usize,
    clock: TimestampClock,
    load: Load,
    entropy: Box<dyn Entropy>,

    /// By [`PeerId`]; places of removed peers are used again.
    peers: Vec<Option<Box<Peer>>>,
    by_key: BTreeMap<WireGuardKey, PeerId>,
    /// Receiver indices that we gave out, for sessions and handshakes.
    by_index: BTreeMap<u32, PeerId>,
    allowed: AllowedIps,

    /// When to look at which peer's timers.
    wakes: BTreeSet<(Instant, PeerId)>,
    /// Output that waits: the caller drains both after each `handle_*`.
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    last_now: Instant,
}

impl Machine {
    /// Makes a device without key and peers.
    pub fn new(now: Instant, options: MachineOptions, entropy: Box<dyn Entropy>) -> Self {
        Self {
            own: None,
            roaming: options.roaming,
            mtu: usize::from(options.mtu),
            clock: TimestampClock::new(now, options.wall, options.timestamp_floor),
            load: Load::new(now),
            entropy,
            peers: Vec::new(),
            by_key: BTreeMap::new(),
            by_index: BTreeMap::new(),
            allowed: AllowedIps::default(),
            wakes: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            last_now: now,
        }
    }

    /// Sets the device's key. All sessions end; a peer that has the same key is removed.
    pub fn set_private_key(&mut self, now: Instant, key: Option<Secret<[u8; 32]>>) {
        self.own = key.map(|secret| {
            let key = StaticKey::new(secret);
            let (mac1, cookies) = (Mac1Key::new(key.public()), CookieMaker::new(key.public()));
            Own { key, mac1, cookies }
        });
        if let Some(public) = self.public_key() {
            self.remove_peer(&public);
        }
        for id in self.ids() {
            self.end_sessions(id);
            // Traffic that waits must not wait for an answer to the old key.
            if !self.expect_peer(id).staged.is_empty() {
                self.begin_attempt(now, id);
            }
        }
    }

    /// Returns the device's public key.
    pub fn public_key(&self) -> Option<WireGuardKey> {
        self.own.as_ref().map(|own| *own.key.public())
    }

    /// Returns the device's private key. Each use is a place to review.
    pub fn private_key(&self) -> Option<&Secret<[u8; 32]>> {
        self.own.as_ref().map(|own| own.key.secret())
    }

    /// Sets the MTU of the TUN device.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = usize::from(mtu);
    }

    /// Adds a peer, if it is not there.
    pub fn add_peer(&mut self, key: WireGuardKey) -> Result<(), Refusal> {
        if self.by_key.contains_key(&key) {
            return Ok(());
        }
        if self.public_key() == Some(key) {
            return Err(Refusal::OwnKey);
        }
        if self.by_key.len() >= PEERS_MAX {
            return Err(Refusal::TooManyPeers { max: PEERS_MAX });
        }
        let place = self
            .peers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.peers.len());
        if place == self.peers.len() {
            self.peers.push(None);
        }
        self.peers[place] = Some(Box::new(Peer::new(key)));
        let id = PeerId(u32::try_from(place).expect("below PEERS_MAX"));
        self.by_key.insert(key, id);
        Ok(())
    }

    /// Removes a peer with its sessions and prefixes.
    pub fn remove_peer(&mut self, key: &WireGuardKey) {
        let Some(id) = self.by_key.remove(key) else {
            return;
        };
        self.end_sessions(id);
        let peer = self.peers[id.place()]
            .take()
            .expect("a peer that is listed is there");
        for prefix in &peer.allowed {
            self.allowed.remove(*prefix);
        }
        if let Some(wake) = peer.wake {
            self.wakes.remove(&(wake, id));
        }
    }

    /// Sets where a peer's datagrams go; `None` holds handshakes back and drops data. A handshake
    /// that waits for an endpoint is sent at once; one that was sent elsewhere and is unanswered,
    /// after a quarter of a second.
    pub fn set_endpoint(
        &mut self,
        now: Instant,
        peer: &WireGuardKey,
        endpoint: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        self.expect_peer(id).endpoint = endpoint;
        if endpoint.is_some() {
            self.endpoint_changed(now, id);
        }
        Ok(())
    }

    /// Sets the preshared key; `None` or all zeros is none. Sessions stay; the next handshake, and
    /// one that is under way, use it.
    pub fn set_preshared_key(
        &mut self,
        peer: &WireGuardKey,
        key: Option<Secret<[u8; 32]>>,
    ) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        let key = key.unwrap_or_else(|| Secret::new([0; 32]));
        let peer = self.expect_peer(id);
        peer.has_preshared = key.expose() != &[0; 32];
        peer.preshared = key;
        Ok(())
    }

    /// Returns a peer's preshared key. Each use is a place to review.
    pub fn preshared_key(&self, peer: &WireGuardKey) -> Option<&Secret<[u8; 32]>> {
        let id = self.by_key.get(peer)?;
        self.peers[id.place()].as_ref().map(|peer| &peer.preshared)
    }

    /// Sets how often a keepalive is sent when nothing else is, in seconds; 0 is never. A keepalive
    /// is sent at once when this is switched on.
    pub fn set_keepalive(
        &mut self,
        now: Instant,
        peer: &WireGuardKey,
        seconds: u16,
    ) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        let peer = self.expect_peer(id);
        let before = std::mem::replace(&mut peer.keepalive_seconds, seconds);
        if seconds == 0 {
            peer.timers.clear(Due::Persistent);
        } else if before != seconds {
            peer.timers.set(Due::Persistent, now);
            self.schedule(id);
        }
        Ok(())
    }

    /// Gives a prefix to a peer, taking it from whoever had it.
    pub fn allow(&mut self, peer: &WireGuardKey, prefix: IpNet) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        let prefix = prefix.trunc();
        if self.allowed.len() >= PREFIXES_MAX && !self.expect_peer(id).allowed.contains(&prefix) {
            return Err(Refusal::TooManyPrefixes { max: PREFIXES_MAX });
        }
        if let Some(before) = self.allowed.insert(prefix, id) {
            self.expect_peer(before).allowed.remove(&prefix);
        }
        self.expect_peer(id).allowed.insert(prefix);
        Ok(())
    }

    /// Takes a prefix from a peer, if it has it.
    pub fn disallow(&mut self, peer: &WireGuardKey, prefix: IpNet) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        let prefix = prefix.trunc();
        if self.expect_peer(id).allowed.remove(&prefix) {
            self.allowed.remove(prefix);
        }
        Ok(())
    }

    /// Takes all prefixes from a peer.
    pub fn disallow_all(&mut self, peer: &WireGuardKey) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        for prefix in std::mem::take(&mut self.expect_peer(id).allowed) {
            self.allowed.remove(prefix);
        }
        Ok(())
    }

    /// Starts a handshake with a peer now, even without traffic, unless one is under way or was
    /// sent within the last 5 s.
    pub fn start_handshake(&mut self, now: Instant, peer: &WireGuardKey) -> Result<(), Refusal> {
        let id = self.id(peer)?;
        self.begin_attempt(now, id);
        Ok(())
    }

    /// Returns what is known of one peer.
    pub fn peer(&self, key: &WireGuardKey) -> Option<PeerStatus> {
        let peer = self.peers[self.by_key.get(key)?.place()].as_ref()?;
        Some(PeerStatus {
            key: peer.key,
            endpoint: peer.endpoint,
            allowed: peer.allowed.iter().copied().collect(),
            has_preshared_key: peer.has_preshared,
            keepalive_seconds: peer.keepalive_seconds,
            has_session: peer
                .current
                .as_ref()
                .is_some_and(|it| it.is_usable(self.last_now)),
            last_handshake: peer.last_handshake,
            last_heard: peer.last_heard,
            received_bytes: peer.received_bytes,
            sent_bytes: peer.sent_bytes,
        })
    }

    /// Returns the index that the peer chose for the session in use: what a relay finds in clear in
    /// each data message to it.
    pub fn receiver_index(&self, key: &WireGuardKey) -> Option<u32> {
        let peer = self.peers[self.by_key.get(key)?.place()].as_ref()?;
        peer.current.as_ref().map(|session| session.sealer.receiver)
    }

    /// Returns the bytes received from a peer and sent to it.
    pub fn traffic(&self, key: &WireGuardKey) -> Option<(u64, u64)> {
        let peer = self.peers[self.by_key.get(key)?.place()].as_ref()?;
        Some((peer.received_bytes, peer.sent_bytes))
    }

    /// Returns how many receiver indices are given out: what a stranger could try to exhaust.
    #[cfg(any(test, bastide_fuzz))]
    pub(crate) fn indices(&self) -> usize {
        self.by_index.len()
    }

    /// Returns the keys of all peers, in order.
    pub fn peers(&self) -> impl Iterator<Item = WireGuardKey> + '_ {
        self.by_key.keys().copied()
    }

    /// Handles a datagram from the socket, opening data in place.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<Received, Discard> {
        self.last_now = now;
        match message::parse(datagram) {
            Some(Message::Data { receiver }) => self.receive_data(now, from, receiver, datagram),
            Some(Message::Initiation { sender }) => {
                self.receive_initiation(now, from, sender, datagram)
            }
            Some(Message::Response { sender, receiver }) => {
                self.receive_response(now, from, sender, receiver, datagram)
            }
            Some(Message::Cookie { receiver }) => self.receive_cookie(now, receiver, datagram),
            None => Ok(Received::NotOurs),
        }
    }

    /// Handles a packet from the TUN device, sealing it in place. `packet` is where it lies in
    /// `buffer`, which needs 16 bytes of room before it and 31 after it.
    pub fn handle_tun(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        packet: Range<usize>,
    ) -> Result<Sent, Discard> {
        self.last_now = now;
        self.send_packet(now, buffer, packet)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_now = now;
        self.run_deadlines(now);
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event. Drain these before [`Self::poll_transmit`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`]: at once while output waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.transmits.is_empty() || !self.events.is_empty() {
            return Some(self.last_now);
        }
        self.wakes.first().map(|(at, _)| *at)
    }

    fn id(&self, key: &WireGuardKey) -> Result<PeerId, Refusal> {
        self.by_key.get(key).copied().ok_or(Refusal::NoSuchPeer)
    }

    fn ids(&self) -> Vec<PeerId> {
        self.by_key.values().copied().collect()
    }

    fn expect_peer(&mut self, id: PeerId) -> &mut Peer {
        self.peers[id.place()]
            .as_mut()
            .expect("ids are forgotten with their peer")
    }

    /// Draws 32 random bytes.
    fn draw(&mut self) -> Secret<[u8; 32]> {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        Secret::new(bytes)
    }

    /// Gives out a receiver index that nobody can predict.
    fn new_index(&mut self, id: PeerId) -> u32 {
        loop {
            let mut bytes = [0; 4];
            self.entropy.fill(&mut bytes);
            let index = u32::from_le_bytes(bytes);
            if let std::collections::btree_map::Entry::Vacant(place) = self.by_index.entry(index) {
                place.insert(id);
                return index;
            }
        }
    }

    fn free_indices(&mut self, indices: impl IntoIterator<Item = Option<u32>>) {
        for index in indices.into_iter().flatten() {
            self.by_index.remove(&index);
        }
    }

    fn end_sessions(&mut self, id: PeerId) {
        let peer = self.expect_peer(id);
        peer.attempt = None;
        peer.last_handshake_sent = None;
        for what in [Due::Retransmit, Due::Keepalive, Due::Silence, Due::Forget] {
            peer.timers.clear(what);
        }
        let freed = peer.forget_sessions();
        self.free_indices(freed);
    }

    /// Makes sure that the queue looks at a peer in time. A look too early is harmless.
    fn schedule(&mut self, id: PeerId) {
        let peer = self.peers[id.place()]
            .as_mut()
            .expect("ids are forgotten with their peer");
        let Some(next) = peer.timers.next() else {
            return;
        };
        if peer.wake.is_some_and(|wake| wake <= next) {
            return;
        }
        if let Some(wake) = peer.wake.replace(next) {
            self.wakes.remove(&(wake, id));
        }
        self.wakes.insert((next, id));
    }
}

impl PeerId {
    fn place(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit")
    }
}

#[cfg(test)]
pub(super) mod tests;
