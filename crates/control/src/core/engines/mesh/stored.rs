//! What the registrar stores besides the view, format 1.

use bastide_api::{Secret, TicketId, UnixTime};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::core::leases::LeaseId;

/// Where the authority stands.
pub const AUTHORITY: &str = "authority";
/// Where the slot after the one given out last stands.
pub const SLOT_NEXT: &str = "slot-next";

/// Where a node stands: what members need not know of it.
pub fn node(id: bastide_api::NodeId) -> String {
    format!("node/{id}")
}

/// Where it is noted that a name is taken.
pub fn name(name: &bastide_api::NodeName) -> String {
    format!("name/{name}")
}

/// Where it is noted that a WireGuard key is in use.
pub fn wireguard(key: &bastide_api::WireGuardKey) -> String {
    format!(
        "wireguard/{}",
        data_encoding::HEXLOWER.encode(key.as_bytes())
    )
}

/// Where it is noted that an identity key, of which this is the fingerprint, is in use.
pub fn identity(fingerprint: &[u8; 32]) -> String {
    format!("identity/{}", data_encoding::HEXLOWER.encode(fingerprint))
}

/// Where it is noted that the key that stood at `place` was a removed node's.
pub fn retired(place: &str) -> String {
    format!("retired/{place}")
}

/// Where it is noted that a node is one no more, and since when. It is kept for good.
pub fn removed(id: bastide_api::NodeId) -> String {
    format!("removed/{id}")
}

/// Where it is noted that a slot of the address plan is taken.
pub fn slot(slot: u32) -> String {
    format!("slot/{slot:08x}")
}

/// The cluster's keys. Behind the barrier they stand in clear.
#[derive(Serialize, Deserialize)]
pub struct StoredAuthority {
    /// Of this layout.
    pub format: u32,
    /// The authority's key (PKCS #8, PEM).
    pub key: String,
    /// Its certificate (PEM).
    pub certificate: String,
    /// The seed of the key that signs views.
    pub view_seed: [u8; 32],
}

impl StoredAuthority {
    /// Returns the authority's key in custody.
    pub fn key(&self) -> Secret<String> {
        Secret::new(self.key.clone())
    }

    /// Returns the view key's seed in custody.
    pub fn view_seed(&self) -> Secret<[u8; 32]> {
        Secret::new(self.view_seed)
    }
}

impl Drop for StoredAuthority {
    fn drop(&mut self) {
        self.key.zeroize();
        self.view_seed.zeroize();
    }
}

/// A node, but for its record in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNode {
    /// Of this layout.
    pub format: u32,
    /// Its slot in the address plan.
    pub slot: u32,
    /// Its membership.
    pub lease: LeaseId,
    /// When it joined.
    pub joined: UnixTime,
    /// With which ticket.
    pub ticket: TicketId,
    /// Subnets that it offered to be the gateway for.
    pub offered: Vec<Ipv4Net>,
    /// SHA-256 of its identity key.
    #[serde(default)]
    pub identity: Option<[u8; 32]>,
}

/// A key of a node that was removed. It is kept for good: there is one for each removal, which is an
/// operator's act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Of this layout.
    pub format: u32,
    /// Whose it was.
    pub node: bastide_api::NodeId,
    /// That node's name then.
    pub name: bastide_api::NodeName,
    /// When it was removed.
    pub at: UnixTime,
}
