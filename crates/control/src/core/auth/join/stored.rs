//! What the auth method stores, format 1.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use bastide_api::v1::JoinAnswer;
use bastide_api::{
    Arch, DiscoveryKey, NodeId, NodeName, SiteName, Tag, TicketId, UnixTime, WaitingJoin,
    WireGuardKey,
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::core::leases::LeaseId;

/// Below which tickets stand.
pub const TICKETS: &str = "ticket/";

/// Where a ticket stands.
pub fn ticket(id: TicketId) -> String {
    format!("{TICKETS}{id}")
}

/// Where the answers to those who spent a ticket stand.
pub fn answers(id: TicketId) -> String {
    format!("answer/{id}/")
}

/// Where the answer to one who spent a ticket stands.
pub fn answer(id: TicketId, wireguard: &WireGuardKey) -> String {
    let key = data_encoding::HEXLOWER.encode(wireguard.as_bytes());
    format!("{}{key}", answers(id))
}

/// Below which machines stand that wait, or waited, to be approved.
pub const PENDING: &str = "pending/";

/// Where a machine stands that waits to be this node.
pub fn pending(id: NodeId) -> String {
    format!("{PENDING}{id}")
}

/// Where it stands which node a machine with these keys waits to be.
pub fn waits(id: TicketId, wireguard: &WireGuardKey) -> String {
    let key = data_encoding::HEXLOWER.encode(wireguard.as_bytes());
    format!("waits/{id}/{key}")
}

/// A ticket. Its secret is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTicket {
    /// Of this layout.
    pub format: u32,
    /// SHA-256 of the secret's 32 random bytes.
    pub hash: [u8; 32],
    /// When it was made.
    pub created: UnixTime,
    /// When it can no longer be spent.
    pub expires: UnixTime,
    /// How many machines may still spend it.
    pub uses: u32,
    /// How many could at first.
    #[serde(default)]
    pub uses_first: u32,
    /// What the nodes are that it makes.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Whether an operator has to approve of each machine.
    #[serde(default)]
    pub approval: Approval,
    /// When an operator revoked it.
    #[serde(default)]
    pub revoked: Option<UnixTime>,
    /// The name that it is for, if for one.
    pub name: Option<NodeName>,
    /// The site that it is for, if for one.
    pub site: Option<SiteName>,
    /// The node id that it gives, if it is the controller's own.
    pub node: Option<NodeId>,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
}

/// Whether an operator has to approve of each machine that spends a ticket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// The ticket is enough.
    #[default]
    Given,
    /// Somebody has to.
    Asked,
}

/// A machine that spent a ticket which asks for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPending {
    /// Of this layout.
    pub format: u32,
    /// What everybody sees of it.
    pub join: WaitingJoin,
    /// What became of it.
    pub state: PendingState,
    /// What it runs on.
    pub arch: Arch,
    /// Its WireGuard key.
    pub wireguard: WireGuardKey,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// Its request for a certificate (PEM).
    pub csr: String,
    /// Addresses under which it says that the world reaches its mesh port.
    pub public: Vec<SocketAddr>,
    /// Subnets that it offers to be the gateway for.
    pub routes: Vec<Ipv4Net>,
    /// From where it asked. Means nothing but to the operator.
    pub from: Option<IpAddr>,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
}

/// What became of a machine that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingState {
    /// Nobody has decided.
    Waiting,
    /// It is a node when it asks next.
    Admitted,
    /// It is told so when it asks next.
    Refused,
}

/// What a machine was answered when it spent a ticket, to be answered again: a reply may be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// Of this layout.
    pub format: u32,
    /// SHA-256 of its identity key.
    pub identity: [u8; 32],
    /// What it was answered. Not secret.
    pub answer: JoinAnswer,
}
