//! Wire types of the node channel, version 1: JSON over HTTPS.
//!
//! ```text
//! POST /v1/auth/join/login   JoinRequest  -> JoinReply    TLS; the ticket authenticates
//! POST /v1/mesh/renew        RenewRequest -> RenewAnswer  mTLS, own certificate only
//! POST /v1/mesh/leave        {}           -> nothing      mTLS, own certificate only
//! GET  /v1/mesh/watch?from=R                 -> lines of WatchEvent   mTLS
//! GET  /v1/cluster/swarm                     -> SwarmAnswer           mTLS, mesh address only
//! POST /v1/cluster/swarm     SwarmReport                              mTLS, controllers only
//! ```
//!
//! Answers travel in the field `data` of Vault's envelope; errors as `{"errors": [text]}`. A machine
//! with a good certificate is told by status [`NO_MEMBER`] that it is no member any more, and by
//! [`RIVAL`] that another machine runs with its keys.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    Arch, ClusterRecord, DiscoveryKey, InstanceId, NodeId, NodeName, NodeRecord, Revision,
    ServiceName, SigningKey, SiteName, StackName, TicketId, UnixTime, WaitingJoin, WireGuardKey,
};

/// The header that carries the agent protocol's version.
pub const PROTOCOL_HEADER: &str = "x-bastide-protocol";
/// The version that this program speaks.
pub const PROTOCOL: &str = "1";

/// The status for a machine whose certificate is good and which is no member: it was removed.
pub const NO_MEMBER: u16 = 410;
/// The status for an agent whose node is another running agent: a copied disk.
pub const RIVAL: u16 = 409;

/// A machine asks to become a node. Repeated with the same ticket and the same keys it gets the
/// same answer.
#[derive(Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which ticket.
    pub ticket: TicketId,
    /// The ticket's secret, in base64. Zeroise after use.
    pub secret: String,
    /// The name it wants.
    pub name: NodeName,
    /// Where it stands.
    pub site: SiteName,
    /// What it runs on.
    pub arch: Arch,
    /// Its WireGuard key.
    pub wireguard: WireGuardKey,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// A certificate request (PEM) of the node's identity key; its subject is ignored.
    pub csr: String,
    /// Addresses under which the world reaches its mesh port.
    #[serde(default)]
    pub public: Vec<SocketAddr>,
    /// Subnets it offers to be the gateway for.
    #[serde(default)]
    pub routes: Vec<Ipv4Net>,
}

/// What a new node needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Its own record.
    pub node: NodeRecord,
    /// The cluster.
    pub cluster: ClusterRecord,
    /// Its certificate (PEM), then intermediates if any.
    pub certificate: String,
    /// The cluster's CA (PEM), whose pin the ticket holds.
    pub ca: String,
    /// The key that signs views.
    pub view_key: SigningKey,
}

/// The answer to a machine that asks to become a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum JoinReply {
    /// It is a node.
    Joined(Box<JoinAnswer>),
    /// An operator has to approve first: ask again, with the same ticket and keys.
    Waiting(WaitingJoin),
}

/// Most earlier runs that an agent tells of.
pub const RUNS_MAX: usize = 8;

/// Which run of an agent reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// This run.
    pub id: InstanceId,
    /// The runs before it, as this host's disk knows them: the last one that a controller answered,
    /// and those since. At most [`RUNS_MAX`] count.
    #[serde(default)]
    pub after: Vec<InstanceId>,
    /// Whether it runs elsewhere than the one before it: the machine was started anew, or it is
    /// another one.
    #[serde(default)]
    pub moved: bool,
}

/// A node reports, and renews its certificate when that is due.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// A new certificate request (PEM), at half of the certificate's life.
    #[serde(default)]
    pub csr: Option<String>,
    /// What the node observes; replaces its earlier report.
    #[serde(default)]
    pub facts: Option<NodeFacts>,
    /// Which run of its agent this is.
    #[serde(default)]
    pub instance: Option<Instance>,
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// The controller's time, for nodes without a clock.
    pub now: UnixTime,
    /// The new certificate (PEM), if one was asked for.
    #[serde(default)]
    pub certificate: Option<String>,
    /// When the node's membership ends without another renewal.
    pub expires: UnixTime,
}

/// What a node observes. Held in memory by the controller, neither logged nor audited, and not
/// signed: nothing is trusted because of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Where its mesh port may be reached, best first.
    #[serde(default)]
    pub endpoints: Vec<SocketAddr>,
    /// The containers it runs on the routed bridge.
    #[serde(default)]
    pub tasks: Vec<TaskFact>,
    /// Its id in the Swarm, when it is a member.
    #[serde(default)]
    pub swarm_node: Option<String>,
    /// How it reaches its peers.
    #[serde(default)]
    pub paths: BTreeMap<NodeId, PathFact>,
    /// What it cannot mend by itself: one line each, with the command that mends it.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// What the control plane noticed of the node, in the same form: whatever the node says here is
    /// replaced.
    #[serde(default)]
    pub noted: Vec<String>,
}

/// A container on a node's routed bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFact {
    /// Its address, inside the node's own container subnet.
    pub address: Ipv4Addr,
    /// The service it is a task of; `None` for a standalone container.
    #[serde(default)]
    pub service: Option<(StackName, ServiceName)>,
    /// The container's name, for standalone containers.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether it should be sent traffic.
    pub healthy: bool,
}

/// How a node reaches a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFact {
    /// What carries the packets.
    pub kind: PathKind,
    /// Round trip in microseconds, once measured.
    #[serde(default)]
    pub rtt_us: Option<u32>,
    /// The largest packet that gets through, bytes, once measured.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Lost questions of the last ones, per cent, while there is traffic.
    #[serde(default)]
    pub loss_percent: u8,
}

/// What carries packets to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum PathKind {
    /// Nothing yet.
    None,
    /// Straight to the peer's address.
    Direct {
        /// That address.
        to: SocketAddr,
    },
    /// Through another node, which cannot read what it forwards.
    Relayed {
        /// That node.
        via: NodeId,
    },
}

/// One line of the watch.
///
/// `snapshot`, `put` and `delete` build a new map aside; `sign` closes it: only then, and only with
/// a valid signature over [`crate::ViewEntries::signed_bytes`], is it the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum WatchEvent {
    /// The whole map; what was known before is void.
    Snapshot {
        /// Its revision.
        rev: Revision,
        /// Key to JSON text.
        value: BTreeMap<String, String>,
    },
    /// One entry is now this.
    Put {
        /// The commit that did it.
        rev: Revision,
        /// Which entry.
        key: String,
        /// Its JSON text.
        value: String,
    },
    /// One entry is gone.
    Delete {
        /// The commit that did it.
        rev: Revision,
        /// Which entry.
        key: String,
    },
    /// The map is complete at `rev`.
    Sign {
        /// The revision.
        rev: Revision,
        /// Ed25519 signature, in base64.
        value: String,
    },
    /// A node's report is now this; `None` when it is gone. Not part of the map.
    Fact {
        /// Which node.
        key: NodeId,
        /// Its report.
        value: Option<NodeFacts>,
    },
    /// The audit log has grown. Not part of the map; only for watchers that ask for it.
    Log {
        /// A signed checkpoint: see `bastide_pki::log`.
        note: String,
        /// Hashes, in base64, which prove that the log begins with what the watcher knew; none if it
        /// is the same, not as long, or known so long ago that nothing is kept.
        proof: Vec<String>,
    },
    /// Nothing happened; the stream lives. At least every 10 s.
    Ping,
}

/// What a node needs to become a member of the Swarm. Secret: never shown, never logged.
#[derive(Serialize, Deserialize)]
pub struct SwarmAnswer {
    /// The Swarm's own id; `None` until a manager has begun it.
    pub swarm: Option<String>,
    /// The managers' mesh addresses.
    pub managers: Vec<Ipv4Addr>,
    /// What the managers are called in the Swarm.
    #[serde(default)]
    pub manager_ids: Vec<String>,
    /// The token that lets this node join in its role. Zeroise after use.
    pub token: Option<String>,
}

/// A manager reports the Swarm it has begun, or rotated tokens.
#[derive(Serialize, Deserialize)]
pub struct SwarmReport {
    /// The Swarm's own id.
    pub swarm: String,
    /// The managers' mesh addresses.
    pub managers: Vec<Ipv4Addr>,
    /// What the managers are called in the Swarm.
    #[serde(default)]
    pub manager_ids: Vec<String>,
    /// The token for workers. Zeroise after use.
    pub worker_token: String,
    /// The token for managers. Zeroise after use.
    pub manager_token: String,
}
