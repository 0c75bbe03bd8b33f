//! What a finder is told.

use std::net::SocketAddr;

use bastide_api::{DiscoveryKey, NodeId, Secret};

use super::address::Exclude;

/// What a finder starts from.
pub struct FinderOptions {
    /// This node.
    pub node: NodeId,
    /// Its discovery key.
    pub discovery_key: Secret<[u8; 32]>,
    /// The number of its first message to each peer: above all that were used before, over restarts
    /// too. Microseconds since 1970 do, kept in a file so that a clock may go wrong.
    pub first_stamp: u64,
    /// Addresses under which the world reaches this node, as its operator declared.
    pub public: Vec<SocketAddr>,
    /// Ranges that are never an underlay.
    pub exclude: Exclude,
    /// MTU of the mesh device, bytes: no packet is longer.
    pub mtu: u16,
}

/// A peer to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOptions {
    /// Its id.
    pub node: NodeId,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// Where it may be reached, best first; more than 16 are not looked at.
    pub candidates: Vec<SocketAddr>,
    /// Where it was reached before a restart.
    pub last_good: Option<SocketAddr>,
    /// Whether its operator declared it reachable from everywhere.
    pub is_public: bool,
}
