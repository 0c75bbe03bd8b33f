//! How nodes reach each other, and why so: what `bastide status` and `bastide mesh why` tell.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::v1::{PathFact, PathKind};

/// Something that happened to the path to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathEvent {
    /// How long ago, milliseconds.
    pub ago_ms: u64,
    /// What changed.
    pub change: PathChange,
    /// Why.
    pub reason: PathReason,
}

/// What changed about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum PathChange {
    /// What carries the packets.
    Way {
        /// What carried them before.
        from: PathKind,
        /// What carries them since.
        to: PathKind,
    },
    /// The largest packet that gets through, bytes.
    Mtu {
        /// What it was.
        from: u16,
        /// What it is since.
        to: u16,
    },
}

/// Why a path was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathReason {
    /// The new one answered, and there was none or only a relay.
    Answered,
    /// The new one answers sooner.
    Nearer,
    /// The peer uses the new one, or sends from there now.
    PeerMoved,
    /// The old one did not answer any more.
    NoAnswer,
    /// The old one lost too much.
    Lossy,
    /// The relay itself is not reached any more.
    RelayLost,
    /// The relay does not know the peer, or has no room.
    RelayRefused,
    /// Large datagrams were lost where small ones got through.
    LargeLost,
    /// Large datagrams get through again.
    LargeArrived,
}

/// Why a peer is not reached directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotDirect {
    /// No address of it is known.
    NoCandidate,
    /// No address of it answers.
    NoAnswer,
    /// The first round of questions is under way.
    Searching,
    /// It answers, and loses too much.
    Lossy,
    /// This node's NAT gives each destination another port, and the peer's lets only known ones in.
    OwnNatVaries,
    /// The same, the other way round.
    PeerNatVaries,
    /// Both NATs give each destination another port.
    BothNatsVary,
}

/// What is known of this node's NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatMapping {
    /// Fewer than two peers have seen us.
    Unknown,
    /// All see the same port.
    Same,
    /// Each sees another port.
    Varies,
}

/// Everything that one node knows of its path to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStory {
    /// To whom.
    pub peer: NodeId,
    /// What is used.
    pub fact: PathFact,
    /// Since when, milliseconds ago.
    pub since_ms: u64,
    /// Why it is not direct; `None` if it is.
    pub not_direct: Option<NotDirect>,
    /// What this node's NAT does.
    pub nat: NatMapping,
    /// MTU of the mesh device, bytes.
    pub device_mtu: u16,
    /// Whether there was traffic lately: paths without are asked less often.
    pub is_active: bool,
    /// The peer's addresses that were tried.
    pub candidates: Vec<CandidateStory>,
    /// The relays that were considered, nearest first.
    pub relays: Vec<RelayStory>,
    /// What happened, oldest first.
    pub events: Vec<PathEvent>,
}

/// What an agent knows of the path from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathAnswer {
    /// All of it, if the path begins at the agent's own node.
    pub story: Option<PathStory>,
    /// What the node at which it begins has last reported, if it is another.
    pub reported: Option<PathFact>,
}

/// An address of a peer that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStory {
    /// The address.
    pub address: SocketAddr,
    /// From where it is known.
    pub origin: CandidateOrigin,
    /// Questions sent to it.
    pub asked: u32,
    /// When it last answered, milliseconds ago.
    pub answered_ms: Option<u64>,
    /// Round trip, microseconds, if it answered.
    pub rtt_us: Option<u32>,
}

/// From where an address of a peer is known, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateOrigin {
    /// It worked before a restart.
    LastGood,
    /// The view or the peer's report has it.
    Published,
    /// The peer told it when it called.
    Told,
    /// A message of the peer came from it.
    Heard,
}

/// A relay that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStory {
    /// The node.
    pub relay: NodeId,
    /// Round trip to the relay alone, microseconds.
    pub to_relay_us: u32,
    /// Round trip to the peer by it, microseconds, once measured.
    pub rtt_us: Option<u32>,
    /// What it said.
    pub state: RelayState,
}

/// What a relay said, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// It can be asked, and was not, because none is needed or others are nearer.
    Spare,
    /// It was asked and has not answered yet.
    Asked,
    /// It forwards.
    Bound,
    /// It refused, and is asked again later.
    Refused,
    /// It failed, and is not believed for a while.
    Failed,
}
