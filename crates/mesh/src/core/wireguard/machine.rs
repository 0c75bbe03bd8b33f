//! The machine: keys, peers, sessions, and what happens to each datagram and packet.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use bastide_api::{Secret, UnixTime, WireGuardKey};
use ipnet::IpNet;

use super::event::{Discard, Event, Received, Sent, Transmit};
use super::timestamp::Tai64N;

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
    /// When the last handshake was completed.
    pub last_handshake: Option<Instant>,
    /// When the last authenticated message came.
    pub last_heard: Option<Instant>,
    /// Bytes of authenticated messages from it.
    pub received_bytes: u64,
    /// Bytes of messages to it.
    pub sent_bytes: u64,
}

/// One WireGuard device.
pub struct Machine {
    _todo: (),
}

impl Machine {
    /// Makes a device without key and peers.
    pub fn new(_now: Instant, _options: MachineOptions, _entropy: Box<dyn Entropy>) -> Self {
        Self { _todo: () }
    }

    /// Sets the device's key. All sessions end; a peer that has the same key is removed.
    pub fn set_private_key(&mut self, _now: Instant, _key: Option<Secret<[u8; 32]>>) {}

    /// Returns the device's public key.
    pub fn public_key(&self) -> Option<WireGuardKey> {
        None
    }

    /// Adds a peer, if it is not there.
    pub fn add_peer(&mut self, _now: Instant, _key: WireGuardKey) -> Result<(), Refusal> {
        Ok(())
    }

    /// Removes a peer with its sessions and prefixes.
    pub fn remove_peer(&mut self, _key: &WireGuardKey) {}

    /// Sets where a peer's datagrams go; `None` holds them back. A handshake that waits for an
    /// endpoint, or was sent to another one and is unanswered, is sent at once.
    pub fn set_endpoint(
        &mut self,
        _now: Instant,
        _peer: &WireGuardKey,
        _endpoint: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// Sets the preshared key; all zeros is none. Sessions stay; the next handshake uses it.
    pub fn set_preshared_key(
        &mut self,
        _peer: &WireGuardKey,
        _key: Option<Secret<[u8; 32]>>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// Sets how often a keepalive is sent when nothing else is, in seconds; 0 is never.
    pub fn set_keepalive(
        &mut self,
        _now: Instant,
        _peer: &WireGuardKey,
        _seconds: u16,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// Gives a prefix to a peer, taking it from whoever had it.
    pub fn allow(&mut self, _peer: &WireGuardKey, _prefix: IpNet) -> Result<(), Refusal> {
        Ok(())
    }

    /// Takes a prefix from a peer.
    pub fn disallow(&mut self, _peer: &WireGuardKey, _prefix: IpNet) -> Result<(), Refusal> {
        Ok(())
    }

    /// Takes all prefixes from a peer.
    pub fn disallow_all(&mut self, _peer: &WireGuardKey) -> Result<(), Refusal> {
        Ok(())
    }

    /// Starts a handshake with a peer now, unless one is under way, even without traffic.
    pub fn start_handshake(&mut self, _now: Instant, _peer: &WireGuardKey) -> Result<(), Refusal> {
        Ok(())
    }

    /// Returns what is known of one peer.
    pub fn peer(&self, _key: &WireGuardKey) -> Option<PeerStatus> {
        None
    }

    /// Returns the keys of all peers, in order.
    pub fn peers(&self) -> impl Iterator<Item = WireGuardKey> + '_ {
        std::iter::empty()
    }

    /// Handles a datagram from the socket, opening data in place.
    pub fn handle_datagram(
        &mut self,
        _now: Instant,
        _from: SocketAddr,
        _datagram: &mut [u8],
    ) -> Result<Received, Discard> {
        Ok(Received::NotOurs)
    }

    /// Handles a packet from the TUN device, sealing it in place. `packet` is where it lies in
    /// `buffer`, which needs 16 bytes of room before it and 31 after it.
    pub fn handle_tun(
        &mut self,
        _now: Instant,
        _buffer: &mut [u8],
        _packet: Range<usize>,
    ) -> Result<Sent, Discard> {
        Ok(Sent::Queued)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// Returns the next event. Drain these before [`Self::poll_transmit`].
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Returns when to call [`Self::handle_timeout`]: at once while output waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
