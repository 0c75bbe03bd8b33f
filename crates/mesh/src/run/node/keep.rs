//! What a node's mesh keeps on disk: the number of its next discovery message, and where its peers
//! were last reached.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bastide_api::{NodeId, UnixTime};
use bastide_linux::file;

use super::MeshError;

/// How many messages one life of the process may number: far more than it sends.
const LIFE: u64 = 1 << 32;
/// The longest file of addresses that is read.
const BYTES_MAX: u64 = 1 << 20;
/// Peers whose address is kept.
const KEPT_MAX: usize = 4096;

/// Returns the number of the first message of this life, and reserves it: microseconds since 1970,
/// or, if the clock has gone back, after all that the life before may have used.
pub fn first_stamp(path: &Path, wall: UnixTime) -> Result<u64, MeshError> {
    let failed = |operation| {
        move |source: io::Error| MeshError::State {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let kept = file::read_bounded(path, 8).map_err(failed("read"))?;
    // A file of another length was damaged: then only the clock can be trusted.
    let floor = kept
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u64::from_be_bytes(bytes).saturating_add(LIFE));
    let first = wall.as_millis().saturating_mul(1000).max(floor);
    file::write_private(path, &first.to_be_bytes()).map_err(failed("write"))?;
    Ok(first)
}

/// Where peers were last reached directly: one line each, id and address.
pub struct LastGood {
    path: PathBuf,
    addresses: BTreeMap<NodeId, SocketAddr>,
    is_saved: bool,
}

/// A file's content, to be written without the lock.
pub struct Pending {
    path: PathBuf,
    text: String,
}

impl LastGood {
    /// Reads the file. Lines that cannot be read are left out: each is only a hint.
    pub fn open(path: PathBuf) -> Result<Self, MeshError> {
        let bytes = file::read_bounded(&path, BYTES_MAX).map_err(|source| MeshError::State {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        let parse = |line: &str| {
            let (node, address) = line.split_once(' ')?;
            Some((node.parse().ok()?, address.parse().ok()?))
        };
        Ok(Self {
            path,
            addresses: text.lines().filter_map(parse).take(KEPT_MAX).collect(),
            is_saved: true,
        })
    }

    /// Returns the addresses.
    pub fn addresses(&self) -> &BTreeMap<NodeId, SocketAddr> {
        &self.addresses
    }

    /// A peer was reached there.
    pub fn put(&mut self, node: NodeId, address: SocketAddr) {
        if self.addresses.len() < KEPT_MAX || self.addresses.contains_key(&node) {
            self.is_saved &= self.addresses.insert(node, address) == Some(address);
        }
    }

    /// Keeps only some nodes.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        let before = self.addresses.len();
        self.addresses.retain(|node, _| keep(*node));
        self.is_saved &= before == self.addresses.len();
    }

    /// Returns what has to be written, if anything changed since the last time.
    pub fn pending(&mut self) -> Option<Pending> {
        if std::mem::replace(&mut self.is_saved, true) {
            return None;
        }
        let lines = self.addresses.iter();
        let text = lines.map(|(node, address)| format!("{node} {address}\n"));
        Some(Pending {
            path: self.path.clone(),
            text: text.collect(),
        })
    }
}

impl Pending {
    /// Writes the file. Losing it costs a second at the next start, so an error is only told.
    pub fn write(&self) {
        if let Err(error) = file::write_private(&self.path, self.text.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "could not keep the peers' addresses");
        }
    }
}

#[cfg(test)]
mod tests;
