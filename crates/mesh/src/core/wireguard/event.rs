//! What the machine tells its caller, and why it dropped what it dropped.

use std::net::SocketAddr;
use std::ops::Range;

use bastide_api::WireGuardKey;

use super::timestamp::Tai64N;

/// A datagram that the machine made by itself: handshakes, cookies, keepalives, and packets that
/// had waited for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Vec<u8>,
    /// Whether it is lost rather than cut into pieces where it is too long.
    pub whole: bool,
}

/// Something that the caller may want to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Traffic for this peer is waiting and there is no session: a path is wanted.
    WantsHandshake {
        /// For whom it waits.
        peer: WireGuardKey,
    },
    /// A session stands. `from` is where the peer's last handshake message came from.
    HandshakeCompleted {
        /// With whom.
        peer: WireGuardKey,
        /// From where its message came.
        from: SocketAddr,
    },
    /// Nothing has come back: a handshake got no answer within `REKEY_TIMEOUT` (5 s and jitter), or
    /// data was sent and nothing heard for 15 s. Repeated with each retry.
    PeerSilent {
        /// Who is silent.
        peer: WireGuardKey,
    },
    /// Authenticated data or a handshake came from another address than the one before. With
    /// [`Roaming::Off`](super::Roaming) the endpoint was not changed.
    SourceChanged {
        /// Whose.
        peer: WireGuardKey,
        /// The new source.
        from: SocketAddr,
    },
    /// Handshake timestamps up to this one may be used from now on. It must be written down before
    /// the next `poll_transmit`, and be given to the next machine with the same key as its floor.
    TimestampReserved(Tai64N),
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A packet for the TUN device lies at this range of the buffer.
    Packet {
        /// Who sent it.
        peer: PeerId,
        /// Where it lies.
        range: Range<usize>,
    },
    /// The machine has taken it: see its `poll_*`.
    Taken,
    /// Not WireGuard, or WireGuard for somebody else: an initiation with another's `mac1`, or a
    /// receiver index that is not ours. The bytes are untouched.
    NotOurs,
}

/// What came of a packet from the TUN device.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// Sealed in place: send this range of the buffer.
    Sealed {
        /// Where to.
        to: SocketAddr,
        /// Where the datagram lies.
        range: Range<usize>,
    },
    /// Copied, and waiting for a session.
    Queued,
}

/// A peer's place in the machine: dense, valid until the peer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub(super) u32);

/// Why a datagram or packet was dropped. Counted, never logged above DEBUG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Discard {
    /// The device has no private key yet.
    #[error("no private key is set")]
    NoPrivateKey,
    /// A handshake message that nobody with our public key and a valid state made.
    #[error("a handshake message did not authenticate")]
    Handshake,
    /// The initiation is valid, and its static key is nobody we know.
    #[error("an initiation came from an unknown peer")]
    UnknownPeer,
    /// The initiation's timestamp is not after the last one: a replay.
    #[error("an initiation was replayed")]
    OldTimestamp,
    /// Too many initiations, by one peer or by one address.
    #[error("initiations came too fast")]
    TooFast,
    /// Under load, and the sender had to prove its address first: a cookie was sent.
    #[error("a cookie was sent instead of an answer")]
    CookieSent,
    /// A cookie reply that answers nothing of ours.
    #[error("a cookie reply did not authenticate")]
    Cookie,
    /// The tag of a data message is wrong.
    #[error("a data message did not authenticate")]
    Data,
    /// The counter of a data message was seen or is too old.
    #[error("a data message was replayed")]
    Replay,
    /// The session is past its end.
    #[error("the session has expired")]
    Expired,
    /// What was inside is not an IP packet, or says a length that it does not have.
    #[error("a packet is not IP")]
    NotIp,
    /// The packet's inner source does not belong to the peer that sent it.
    #[error("a packet's source is not among its peer's allowed IPs")]
    ForeignSource,
    /// No peer holds the packet's destination.
    #[error("no peer holds the destination")]
    NoRoute,
    /// The buffer has no room for header, padding and tag around the packet.
    #[error("a packet is too long for its buffer")]
    TooLong,
}
