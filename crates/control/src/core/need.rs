//! What a request needs of the disk: what may wait for room, and what must go on without.

use crate::core::mounts::Mount;
use crate::core::pipeline::Envelope;
use crate::core::refusal::Refusal;
use crate::core::request::{Operation, Request};

/// What a request needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// That its record is with the device; it may be made durable a moment later: it was granted,
    /// changed nothing and gave nothing away that lasts.
    Glance,
    /// That its record is durable: it was granted and changed nothing, but made something that lasts.
    Made,
    /// That it is recorded for good, and the time with it: it changes nothing, but was refused, perhaps
    /// because something had ended, and what has ended stays so though the clock is set back.
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
    "sys/wrapping/unwrap",
];

/// Kinds of mounts whose writes compute something and leave nothing behind.
const COMPUTING: &[&str] = &["transit"];

/// Returns whether what was granted without a write is merely looked at, or computed.
fn is_glance(request: &Request, mount: Option<&Mount>, granted: &Envelope) -> bool {
    // What proves to others who somebody is lasts.
    let proves = request.path.as_str().starts_with("identity/oidc/token/");
    let looks = matches!(request.operation, Operation::Read | Operation::List)
        || mount.is_some_and(|mount| COMPUTING.contains(&mount.kind.as_str()));
    looks && !proves && granted.auth.is_none() && granted.lease_id.is_empty()
}

/// Returns whether what was granted is a token.
fn is_login(granted: &Envelope) -> bool {
    granted.auth.is_some()
}

/// Returns what a request needs, of which it is decided what comes of it and whether it writes.
pub fn need_of(
    request: &Request,
    mount: Option<&Mount>,
    outcome: &Result<Envelope, Refusal>,
    writes: bool,
) -> Need {
    let is_granted = outcome.is_ok();
    if let (false, Ok(granted)) = (writes, outcome)
        && is_glance(request, mount, granted)
    {
        return Need::Glance;
    }
    let path = request.path.as_str();
    let is_below = |known: &&str| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let adds = match request.operation {
        // What these write counts a use of a token, is an answer that is put aside, or a login.
        Operation::Read | Operation::List => {
            is_granted && (request.wrap.is_some() || outcome.as_ref().is_ok_and(is_login))
        }
        Operation::Delete => false,
        Operation::Create | Operation::Update | Operation::Patch => {
            is_granted && !VITAL.iter().any(is_below)
        }
    };
    match (writes, adds) {
        (false, _) if is_granted => Need::Made,
        (false, _) => Need::Record,
        (true, false) => Need::Vital,
        (true, true) => Need::Room,
    }
}
