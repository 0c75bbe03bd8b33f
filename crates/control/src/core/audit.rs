//! Audit records: who asked what, and what became of it, without a secret.
//!
//! Lines are JSON in Vault's shape, one for the request and one for the response. Every text in
//! `data` and every token stands there as `hmac-sha256:` and the HMAC under the device's key, so that
//! an investigator who knows a value can look for it, and nobody can read it. Each line carries its
//! number and the SHA-256 of the line before, so that a cut or a change shows.

use std::sync::Arc;

use crate::core::engine::Caller;
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;
use crate::core::request::Operation;

pub mod devices;
mod hasher;
pub mod headers;
mod line;
pub mod log;

pub use hasher::Hasher;
pub use line::{Lines, Recorder};

/// What to audit of a request, beside the request itself and its answer.
pub struct Audited {
    caller: Caller,
    operation: Operation,
    mount: Option<Arc<Mount>>,
    error: Option<&'static str>,
}

impl Audited {
    /// Notes who asked, what became of the operation, which mount answered, and why it was refused.
    pub fn new(
        caller: Caller,
        operation: Operation,
        mount: Option<Arc<Mount>>,
        refusal: Option<&Refusal>,
    ) -> Self {
        Self {
            caller,
            operation,
            mount,
            error: refusal.map(error_text),
        }
    }

    /// Returns what the record says of a refusal.
    #[cfg(test)]
    pub(crate) fn error(&self) -> Option<&str> {
        self.error
    }
}

/// Returns what the record says of a refusal: never what the request held.
fn error_text(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Invalid(_) => "invalid request",
        Refusal::Unauthenticated | Refusal::Denied => "permission denied",
        Refusal::Forbidden(_) => "forbidden",
        Refusal::Ticket { record, .. } => record,
        Refusal::NoMember => "the node was removed",
        Refusal::Rival(_) => "another machine runs with this node's keys",
        Refusal::Locked => "permission denied: the name is locked",
        Refusal::Limited { .. } => "rate limit quota exceeded",
        Refusal::TooMany(_) => "too many requests",
        Refusal::Absent => "not found",
        Refusal::NoMount(_) | Refusal::UnsupportedPath => "unsupported path",
        Refusal::UnsupportedOperation => "unsupported operation",
        Refusal::MediaType => "unsupported media type",
        Refusal::Precondition(_) => "precondition failed",
        Refusal::Unavailable(_) => "unavailable",
        Refusal::NoRoom(_) => "no room",
        Refusal::Failed(_) => "failed",
        Refusal::KeyReused => "idempotency key reused",
        Refusal::Internal(_) | Refusal::Needs(_) => "internal error",
    }
}

#[cfg(test)]
mod tests;
