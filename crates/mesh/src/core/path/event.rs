//! What a finder tells its caller.

use std::net::SocketAddr;

use bastide_api::NodeId;
use bastide_api::v1::PathKind;

use super::message::Transaction;

/// What the finder has decided, or wants of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Datagrams for a peer go here from now on.
    Path {
        /// Whose.
        peer: NodeId,
        /// Where to; `None` while nothing answers.
        endpoint: Option<SocketAddr>,
        /// What carries them.
        kind: PathKind,
    },
    /// Where this node may be reached has changed: publish [`PathFinder::endpoints`].
    Endpoints,
    /// A member has proved that it sends from this address.
    Heard {
        /// Who.
        node: NodeId,
        /// From where.
        from: SocketAddr,
        /// Whether it wants to be reached there.
        selected: bool,
    },
    /// A member asks to be relayed: answer with [`PathFinder::answer_bind`].
    BindAsked(BindAsked),
}

/// A member's question to be relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAsked {
    /// Who asks.
    pub node: NodeId,
    /// From where.
    pub from: SocketAddr,
    /// With whom it wants to be bound.
    pub target: NodeId,
    /// The receiver indices that it puts into data for the target.
    pub indices: Vec<u32>,
    pub(super) transaction: Transaction,
}

/// Why a datagram changed nothing. Counted, never logged above DEBUG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Discard {
    /// Not a discovery message, or one that this version does not know.
    #[error("the message has no known shape")]
    Shape,
    /// For another node.
    #[error("the message is for another node")]
    NotOurs,
    /// From nobody we know: no answer.
    #[error("the message is from a stranger")]
    Stranger,
    /// Not made by whom it says, or changed on its way.
    #[error("the message did not authenticate")]
    Unauthentic,
    /// Seen before, or older than what was seen.
    #[error("the message was replayed")]
    Replayed,
    /// An answer to nothing that was asked, or from elsewhere.
    #[error("the answer was not asked for")]
    Unasked,
}
