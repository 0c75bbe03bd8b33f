//! The view: what the control plane wants the cluster to be, as every agent sees it.
//!
//! A view is a sorted map from key to JSON text at a revision. The controller signs
//! [`ViewEntries::signed_bytes`]; an agent applies deltas to its own copy and accepts the result only
//! with the signature of exactly that map at that revision, so that a delta cannot be dropped,
//! reordered or rolled back unseen. What is merely observed (endpoints, tasks, health) is no part of
//! it: see [`crate::v1::NodeFacts`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    AddressPlan, Arch, ClusterId, ClusterName, DiscoveryKey, NodeId, NodeName, SiteName, StackName,
    Tag, TicketId, UnixTime, WireGuardKey,
};

/// Counts commits of the control plane. Never goes back.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// What an entry of the view is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKey {
    /// `cluster`: a [`ClusterRecord`].
    Cluster,
    /// `nodes/<id>`: a [`NodeRecord`].
    Node(NodeId),
    /// `stacks/<name>`: a stack, in the JSON of the crate `bastide-stack`.
    Stack(StackName),
    /// `joins/<id>`: a [`WaitingJoin`] of the machine that would be that node.
    Join(NodeId),
}

impl EntryKey {
    /// Parses a key; `None` for kinds that this program does not know, which agents keep (the
    /// signature covers them) and otherwise ignore.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "cluster" {
            return Some(Self::Cluster);
        }
        let (kind, name) = text.split_once('/')?;
        match kind {
            "nodes" => name.parse().ok().map(Self::Node),
            "stacks" => name.parse().ok().map(Self::Stack),
            "joins" => name.parse().ok().map(Self::Join),
            _ => None,
        }
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node(id) => write!(f, "nodes/{id}"),
            Self::Stack(name) => write!(f, "stacks/{name}"),
            Self::Join(id) => write!(f, "joins/{id}"),
        }
    }
}

/// The facts of the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Its address plan.
    pub plan: AddressPlan,
    /// The controllers, in the order in which to try them.
    pub controllers: Vec<Controller>,
    /// How its Swarm is driven.
    #[serde(default)]
    pub swarm: SwarmSettings,
}

/// How the Swarm is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmSettings {
    /// The dispatcher's heartbeat in milliseconds; a node is down after three missed ones.
    pub heartbeat_ms: u64,
    /// How long, in milliseconds, a returned node must be stable before services are spread over it
    /// again.
    pub rebalance_after_ms: u64,
}

impl Default for SwarmSettings {
    /// Swarm's own heartbeat of 5 s; ten minutes of stability.
    fn default() -> Self {
        Self {
            heartbeat_ms: 5_000,
            rebalance_after_ms: 600_000,
        }
    }
}

/// A host that runs the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// The node it is.
    pub node: NodeId,
    /// Where its node channel answers the world, best first.
    pub channel: Vec<SocketAddr>,
}

/// A node as all members know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Where it stands.
    pub site: SiteName,
    /// What it runs on.
    pub arch: Arch,
    /// Its mesh address, kept for the id's life.
    pub address: Ipv4Addr,
    /// The subnet of its containers, kept for the id's life.
    pub containers: Ipv4Net,
    /// The key its WireGuard device answers to.
    pub wireguard: WireGuardKey,
    /// The key that seals its discovery messages.
    pub discovery: DiscoveryKey,
    /// Addresses under which the world reaches its mesh port, as its operator declared.
    #[serde(default)]
    pub public: Vec<SocketAddr>,
    /// Subnets behind it that the cluster approved it as a gateway for.
    #[serde(default)]
    pub routes: Vec<Ipv4Net>,
    /// What its ticket says of it. An operator chose them; the node cannot.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// When its certificate ends. Peers drop it after that moment, not before.
    pub expires: UnixTime,
}

/// A machine with a good ticket that an operator has to approve of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJoin {
    /// The node that it would be.
    pub id: NodeId,
    /// The name it wants.
    pub name: NodeName,
    /// Where it says that it stands.
    pub site: SiteName,
    /// What its ticket says of it.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Its ticket.
    pub ticket: TicketId,
    /// SHA-256 of its identity key, in hexadecimal: what the machine itself prints as well.
    pub fingerprint: String,
    /// When it asked.
    pub asked: UnixTime,
    /// Until when it can be approved.
    pub expires: UnixTime,
}

/// The entries of a view, as they are signed: key to JSON text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewEntries {
    /// The commit that this is the state after.
    pub revision: Revision,
    /// Key to JSON text, byte for byte as the controller wrote it.
    pub entries: BTreeMap<String, String>,
}

impl ViewEntries {
    /// Returns the bytes that the controller signs and an agent verifies.
    ///
    /// A label, the cluster, the revision and each entry with lengths before texts, so that no two
    /// maps have the same bytes.
    pub fn signed_bytes(&self, cluster: ClusterId) -> Vec<u8> {
        let mut bytes = b"bastide view 1\0".to_vec();
        bytes.extend_from_slice(cluster.as_bytes());
        bytes.extend_from_slice(&self.revision.0.to_be_bytes());
        for text in self.entries.iter().flat_map(|(key, value)| [key, value]) {
            let length = u64::try_from(text.len()).expect("a text's length fits 64 bits");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }
}

/// A view, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The commit that this is the state after.
    pub revision: Revision,
    /// The cluster itself.
    pub cluster: ClusterRecord,
    /// Its nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Its stacks: JSON text for the crate `bastide-stack`.
    pub stacks: BTreeMap<StackName, String>,
    /// Machines that wait to be approved.
    pub joins: BTreeMap<NodeId, WaitingJoin>,
}

/// Why entries are not a view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// An entry is not what its key says.
    #[error("entry `{key}` of the view is not valid")]
    Entry {
        /// Which entry.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The entry `cluster` is missing.
    #[error("the view has no entry `cluster`")]
    NoCluster,
}

impl View {
    /// Parses entries; unknown kinds of entries are passed over.
    pub fn parse(from: &ViewEntries) -> Result<Self, ViewError> {
        let mut cluster = None;
        let mut nodes = BTreeMap::new();
        let mut stacks = BTreeMap::new();
        let mut joins = BTreeMap::new();
        for (key, value) in &from.entries {
            let invalid = |source| ViewError::Entry {
                key: key.clone(),
                source,
            };
            match EntryKey::parse(key) {
                Some(EntryKey::Cluster) => {
                    cluster = Some(serde_json::from_str(value).map_err(invalid)?);
                }
                Some(EntryKey::Node(id)) => {
                    nodes.insert(id, serde_json::from_str(value).map_err(invalid)?);
                }
                Some(EntryKey::Stack(name)) => {
                    stacks.insert(name, value.clone());
                }
                Some(EntryKey::Join(id)) => {
                    joins.insert(id, serde_json::from_str(value).map_err(invalid)?);
                }
                None => {}
            }
        }
        let cluster = cluster.ok_or(ViewError::NoCluster)?;
        Ok(Self {
            revision: from.revision,
            cluster,
            nodes,
            stacks,
            joins,
        })
    }
}

#[cfg(test)]
mod tests;
