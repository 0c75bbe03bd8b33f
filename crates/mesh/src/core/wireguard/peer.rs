//! One peer: its keys, its address, its sessions and what waits for them.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use bastide_api::{Secret, WireGuardKey};
use ipnet::IpNet;

use super::cookie::CookieJar;
use super::message::Mac1Key;
use super::noise::Initiated;
use super::session::Session;
use super::timers::Timers;
use super::timestamp::Tai64N;

/// Packets that wait for a session; with more, the oldest is dropped. A second of a slow link, or
/// the first window of several connections.
pub const STAGED_MAX: usize = 128;

/// A handshake that we began and that is unanswered.
pub struct Outgoing {
    /// The Noise state.
    pub noise: Initiated,
    /// The index that the answer has to name.
    pub local_index: u32,
}

/// The running attempt to get a session: from the first initiation to success or giving up.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// When it began.
    pub since: Instant,
    /// Where the last initiation went, if one was sent.
    pub sent_to: Option<SocketAddr>,
}

/// A peer of the device.
pub struct Peer {
    pub key: WireGuardKey,
    pub mac1: Mac1Key,
    pub cookies: CookieJar,
    /// All zeros when none is set, as the protocol has it.
    pub preshared: Secret<[u8; 32]>,
    pub has_preshared: bool,
    pub allowed: BTreeSet<IpNet>,

    pub endpoint: Option<SocketAddr>,
    pub last_source: Option<SocketAddr>,

    pub previous: Option<Session>,
    pub current: Option<Session>,
    /// Derived as responder; becomes current with the first data message that it opens.
    pub next: Option<Session>,

    pub outgoing: Option<Outgoing>,
    pub attempt: Option<Attempt>,
    /// When an initiation or response was last sent: "no more than one per Rekey-Timeout".
    pub last_handshake_sent: Option<Instant>,
    pub last_initiation_seen: Option<Instant>,
    pub latest_timestamp: Tai64N,
    /// Whether the current session was already asked to renew because it nears its end.
    pub renewing_late: bool,

    pub staged: VecDeque<Vec<u8>>,
    pub timers: Timers,
    pub keepalive_again: bool,
    pub keepalive_seconds: u16,
    /// When the machine's queue will look at this peer's timers; never later than the first.
    pub wake: Option<Instant>,

    pub last_handshake: Option<Instant>,
    pub last_heard: Option<Instant>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// Which of a peer's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Current,
    Next,
    Previous,
}

impl Peer {
    /// Makes a peer without address, prefixes and sessions.
    pub fn new(key: WireGuardKey) -> Self {
        Self {
            key,
            mac1: Mac1Key::new(&key),
            cookies: CookieJar::new(&key),
            preshared: Secret::new([0; 32]),
            has_preshared: false,
            allowed: BTreeSet::new(),
            endpoint: None,
            last_source: None,
            previous: None,
            current: None,
            next: None,
            outgoing: None,
            attempt: None,
            last_handshake_sent: None,
            last_initiation_seen: None,
            latest_timestamp: Tai64N::ZERO,
            renewing_late: false,
            staged: VecDeque::new(),
            timers: Timers::default(),
            keepalive_again: false,
            keepalive_seconds: 0,
            wake: None,
            last_handshake: None,
            last_heard: None,
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Finds the session that an index names.
    pub fn session(&mut self, local_index: u32) -> Option<(Slot, &mut Session)> {
        let named = |session: &&mut Session| session.local_index == local_index;
        if let Some(session) = self.current.as_mut().filter(named) {
            return Some((Slot::Current, session));
        }
        if let Some(session) = self.next.as_mut().filter(named) {
            return Some((Slot::Next, session));
        }
        self.previous
            .as_mut()
            .filter(named)
            .map(|session| (Slot::Previous, session))
    }

    /// Returns the session to send with.
    pub fn usable(&mut self, now: Instant) -> Option<&mut Session> {
        self.current
            .as_mut()
            .filter(|session| session.is_usable(now))
    }

    /// Takes a session that we initiated into use; returns the indices that are free again.
    ///
    /// The answer proves that the peer has the keys, so it is current at once. An unconfirmed
    /// session of the other direction is kept as previous: the peer may already send with it.
    pub fn begin_as_initiator(&mut self, session: Session) -> [Option<u32>; 2] {
        let old = self.current.replace(session);
        let (kept, freed) = match self.next.take() {
            Some(next) => (Some(next), old),
            None => (old, None),
        };
        let dropped = std::mem::replace(&mut self.previous, kept);
        [
            freed.map(|session| session.local_index),
            dropped.map(|session| session.local_index),
        ]
    }

    /// Keeps a session that we answered for until the peer uses it; returns the freed index.
    pub fn begin_as_responder(&mut self, session: Session) -> Option<u32> {
        self.next
            .replace(session)
            .map(|session| session.local_index)
    }

    /// Makes the next session current, because the peer has used it; returns the freed index.
    pub fn confirm(&mut self) -> Option<u32> {
        let next = self.next.take()?;
        let old = self.current.replace(next);
        std::mem::replace(&mut self.previous, old).map(|session| session.local_index)
    }

    /// Drops sessions and handshake; returns the indices that are free again.
    pub fn forget_sessions(&mut self) -> [Option<u32>; 4] {
        let sessions = [self.previous.take(), self.current.take(), self.next.take()];
        let [previous, current, next] =
            sessions.map(|session| session.map(|session| session.local_index));
        let outgoing = self.outgoing.take().map(|outgoing| outgoing.local_index);
        self.renewing_late = false;
        [previous, current, next, outgoing]
    }
}
