//! Why a request is not granted.

use std::time::Duration;

use bastide_api::Secret;
use bastide_store::BarrierError;

use crate::core::audit::devices::Target;
use crate::core::auth::ldap::Directory;
use crate::core::outside::Fetch;

/// Why a request is not granted. Texts are Vault's where clients match on them.
#[derive(Debug)]
pub enum Refusal {
    /// The request makes no sense: its text is shown to whoever asked.
    Invalid(String),
    /// No valid token, certificate or ticket came with it.
    Unauthenticated,
    /// The policies of whoever asks do not allow it.
    Denied,
    /// It is not allowed, and this may be said.
    Forbidden(String),
    /// The ticket that came with it is good no more, or not for this.
    Ticket {
        /// What the audit record says: never what the request held.
        record: &'static str,
        /// What whoever asked is told, with the command that mends it.
        text: String,
    },
    /// The certificate is good, but its node is no member: it was removed.
    NoMember,
    /// Another machine runs with the same node's keys, and it is the node.
    Rival(String),
    /// Too many wrong passwords came for this name: whoever asks learns no more than that it is
    /// denied.
    Locked,
    /// It was refused too often to be looked at; again after this time.
    TooMany(Duration),
    /// A rate limit holds it up.
    Limited {
        /// What was asked for.
        path: String,
        /// When to come again.
        wait: Duration,
    },
    /// What is asked for does not exist.
    Absent,
    /// No mount has this path.
    NoMount(String),
    /// The mount does not know this path.
    UnsupportedPath,
    /// The path is known, but not for this operation.
    UnsupportedOperation,
    /// A patch that is not a merge patch.
    MediaType,
    /// A precondition that the request names does not hold.
    Precondition(String),
    /// The idempotency key was used for another request.
    KeyReused,
    /// It cannot be served now; again later.
    Unavailable(String),
    /// There is no room for it on the disk; nothing was written.
    NoRoom(String),
    /// It failed, and whoever asked is told why: what Vault answers with status 500.
    Failed(String),
    /// Our fault; the cause goes to the log, not to whoever asked.
    Internal(String),
    /// Not a refusal: do this slow work, then decide again with its result.
    Needs(Work),
}

impl Refusal {
    /// The request makes no sense because of `why`.
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }

    /// It failed because of `why`, and this may be said.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    /// Something that we stored ourselves cannot be read.
    pub fn corrupt(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Internal(format!("stored {what} is not valid: {why}"))
    }
}

impl std::fmt::Display for Refusal {
    /// For records of the control plane's own; what whoever asked is told is decided elsewhere.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(text)
            | Self::Forbidden(text)
            | Self::Precondition(text)
            | Self::Unavailable(text)
            | Self::Failed(text)
            | Self::Internal(text) => f.write_str(text),
            other => write!(f, "{other:?}"),
        }
    }
}

impl From<BarrierError> for Refusal {
    fn from(error: BarrierError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Work that takes too long for a decision: done on a bounded pool, between two decisions.
pub enum Work {
    /// Derive a key from a password, with [`PASSWORD_COST`].
    Password {
        /// What the user typed.
        password: Secret<Vec<u8>>,
        /// The salt.
        salt: [u8; 16],
    },
    /// Find out whether an audit device takes lines; the result is empty, or says why not.
    AuditDevice {
        /// Which device.
        target: Target,
    },
    /// Ask a directory about somebody; the result is as [`crate::core::outside::unwrapped`] reads it.
    Directory(Box<Directory>),
    /// Fetch a document; the result is as [`crate::core::outside::unwrapped`] reads it.
    Fetch(Box<Fetch>),
    /// Make an RSA key; the result is PKCS #8 in DER.
    RsaKey {
        /// Its length in bits: one of [`RSA_BITS`].
        bits: u32,
    },
}

/// Lengths of RSA keys that are made, in bits.
pub const RSA_BITS: &[u32] = &[2048, 3072, 4096, 8192];

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { .. } => f.write_str("Password"),
            Self::AuditDevice { .. } => f.write_str("AuditDevice"),
            Self::Directory(_) => f.write_str("Directory"),
            Self::Fetch(fetch) => fetch.fmt(f),
            Self::RsaKey { bits } => write!(f, "RsaKey({bits})"),
        }
    }
}

/// Argon2id's parameters: memory in KiB, passes, lanes (OWASP's first choice of 2024 for servers).
pub const PASSWORD_COST: (u32, u32, u32) = (19 * 1024, 2, 1);
