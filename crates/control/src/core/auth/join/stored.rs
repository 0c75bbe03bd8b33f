//! What the auth method stores, format 1.

use bastide_api::v1::JoinAnswer;
use bastide_api::{NodeId, NodeName, SiteName, TicketId, UnixTime, WireGuardKey};
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
    /// The name that it is for, if for one.
    pub name: Option<NodeName>,
    /// The site that it is for, if for one.
    pub site: Option<SiteName>,
    /// The node id that it gives, if it is the controller's own.
    pub node: Option<NodeId>,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
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
