//! The tree over the audit log in the store: what is kept of it, and who signs its checkpoints.

use bastide_pki::log::{Hash, LogKey, LogSigner};
use bastide_store::{BarrierError, Key, OpenSnapshot, Unsealed};
use serde::{Deserialize, Serialize};

use crate::core::tables;

/// How much of the log is in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Lines.
    pub size: u64,
    /// The hash of the last of them, in hexadecimal; empty of an empty log.
    line: String,
}

impl Stored {
    /// Makes it.
    pub fn new(size: u64, line: Option<Hash>) -> Self {
        let line = line.map(|line| data_encoding::HEXLOWER.encode(&line));
        Self {
            size,
            line: line.unwrap_or_default(),
        }
    }

    /// Returns the hash of the last line.
    pub fn line(&self) -> Option<Hash> {
        let line = data_encoding::HEXLOWER.decode(self.line.as_bytes()).ok()?;
        line.try_into().ok()
    }
}

/// Returns where it stands.
pub fn stored_at() -> Key {
    Key::new(tables::WRITER, "audit-tree")
}

/// Returns where a tile of the tree stands.
pub fn tile_at(level: u8, index: u64) -> Key {
    let mut at = vec![level];
    at.extend_from_slice(&index.to_be_bytes());
    Key::new(tables::AUDIT_TREE, at)
}

/// Reads how much of the log is in the tree; `None` before there is one.
pub fn stored(store: &OpenSnapshot) -> Result<Option<Stored>, BarrierError> {
    let found = store.get(&stored_at())?;
    Ok(found.and_then(|text| serde_json::from_slice(text.expose()).ok()))
}

/// Returns what signs checkpoints: a key of the store's own, behind its seal like everything in it.
pub fn signer(barrier: &Unsealed) -> LogSigner {
    let name = format!("bastide/{}/audit", barrier.cluster());
    LogSigner::from_seed(&name, &barrier.secret_for("audit log signing key"))
}

/// Returns the key that verifies checkpoints.
pub fn key(barrier: &Unsealed) -> LogKey {
    signer(barrier).key()
}
