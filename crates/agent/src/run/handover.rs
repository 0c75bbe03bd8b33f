//! What `up` and `join` hand over to the agent that they start: on an inherited descriptor, because
//! a ticket is a secret and arguments are not.

use std::net::SocketAddr;
use std::path::PathBuf;

use bastide_api::{NodeName, SiteName};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Most bytes of a handover.
pub const HANDOVER_BYTES_MAX: u64 = 64 * 1024;

/// How this host wants to be a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// Its name.
    pub name: NodeName,
    /// Where it stands.
    pub site: SiteName,
    /// Addresses under which the world reaches its mesh port.
    #[serde(default)]
    pub public: Vec<SocketAddr>,
    /// Subnets it offers to be the gateway for.
    #[serde(default)]
    pub routes: Vec<Ipv4Net>,
    /// The container engine's socket.
    pub engine: PathBuf,
}

/// The first start of an agent: a ticket, and how this host wants to be a node.
#[derive(Serialize, Deserialize)]
pub struct Handover {
    /// The ticket as printed. Zeroise after use.
    pub ticket: String,
    /// The rest.
    pub node: NodeSettings,
}
