//! What a request needs of the disk: what may wait for room, and what must go on without.

use crate::core::request::{Operation, Request};

/// What a request needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// That it is recorded: it changes nothing.
    Record,
    /// It goes on though the disk is full: it keeps alive what is there, ends it, or makes room.
    Vital,
    /// It adds something: on a full disk it is refused.
    Room,
}

/// Paths below which a write keeps alive or ends what is there.
const VITAL: &[&str] = &[
    "auth/token/renew",
    "auth/token/renew-accessor",
    "auth/token/renew-self",
    "auth/token/revoke",
    "auth/token/revoke-accessor",
    "auth/token/revoke-orphan",
    "auth/token/revoke-self",
    "mesh/controllers",
    "mesh/history",
    "mesh/leave",
    "mesh/renew",
    "sys/leases/renew",
    "sys/leases/revoke",
    "sys/leases/revoke-force",
    "sys/leases/revoke-prefix",
    "sys/renew",
    "sys/revoke",
    "sys/revoke-force",
    "sys/revoke-prefix",
    "sys/seal",
    "sys/unseal",
];

/// Returns what a request needs, of which it is decided whether it is granted and whether it writes.
pub fn need_of(request: &Request, is_granted: bool, writes: bool) -> Need {
    let path = request.path.as_str();
    let is_below = |known: &&str| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let adds = match request.operation {
        // What these write counts a use of a token.
        Operation::Read | Operation::List => false,
        Operation::Delete => false,
        Operation::Create | Operation::Update | Operation::Patch => {
            is_granted && !VITAL.iter().any(is_below)
        }
    };
    match (writes, adds) {
        (false, _) => Need::Record,
        (true, false) => Need::Vital,
        (true, true) => Need::Room,
    }
}
