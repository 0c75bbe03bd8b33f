//! The tree over the server's own audit log, and its signed checkpoints.
//!
//! A line is part of the tree once it is durable in the file, so that no power cut makes a checkpoint
//! untrue. Full tiles, the right edge and the size are stored at ticks; what came after the last tick
//! is read back from the file.

use std::sync::Arc;

use bastide_pki::log::{
    Checkpoint, Edge, Hash, LogSigner, Nodes, TILE_HASHES, Tile, consistency, leaf_hash, line_hash,
};
use bastide_store::{BarrierError, Key, Op, OpenSnapshot, Unsealed};
use tokio::sync::watch;

use crate::core::audit::log::{self, Stored};
use crate::run::audit_file::LineHash;

/// Tiles of leaves that are kept: from any of the last million lines on a log's growth is proven.
const LEAF_TILES_KEPT: u64 = 4096;

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// How many lines it tells of.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// The tree, as the writer keeps it.
pub(super) struct LogBook {
    signer: LogSigner,
    edge: Edge,
    line: Option<Hash>,
    /// Tiles that were filled since the last tick.
    full: Vec<Tile>,
    size_stored: u64,
    told: watch::Sender<Option<Arc<Signed>>>,
}

impl LogBook {
    /// Reads the tree as it is stored. A damaged one begins anew, and is told of: nodes will not
    /// follow it.
    pub(super) fn open(store: &OpenSnapshot, barrier: &Unsealed) -> Result<Self, BarrierError> {
        let stored = log::stored(store)?.unwrap_or_default();
        let edge = Edge::restore(stored.size, |level, index, _| {
            let found = store.get(&log::tile_at(level, index))?;
            Ok::<_, BarrierError>(found.map(|text| hashes(text.expose())))
        })?;
        let (edge, line) = match edge {
            Some(edge) => (edge, stored.line()),
            None => {
                tracing::error!("the tree over the audit log is damaged; it begins anew");
                (Edge::default(), None)
            }
        };
        Ok(Self {
            signer: log::signer(barrier),
            size_stored: edge.size(),
            edge,
            line,
            full: Vec::new(),
            told: watch::channel(None).0,
        })
    }

    /// Returns how many lines the tree has.
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Takes in lines that are durable, with their numbers. Those that it has are passed over; for
    /// those that nobody has any more the hash of nothing stands.
    pub(super) fn take(&mut self, lines: impl IntoIterator<Item = (u64, LineHash)>) {
        for (number, hash) in lines {
            if number < self.edge.size() {
                continue;
            }
            if self.edge.size() < number {
                let (from, until) = (self.edge.size(), number);
                tracing::error!(from, until, "lines of the audit log are gone");
            }
            while self.edge.size() < number {
                self.edge.push(leaf_hash(&line_hash(b"")), &mut self.full);
            }
            self.edge.push(leaf_hash(&hash), &mut self.full);
            self.line = Some(hash);
        }
    }

    /// Returns what is to be stored of the tree.
    pub(super) fn take_unstored(&mut self) -> Vec<(Key, Option<Vec<u8>>)> {
        if self.edge.size() == self.size_stored {
            return Vec::new();
        }
        self.size_stored = self.edge.size();
        let mut found = Vec::new();
        for tile in self.full.drain(..).chain(self.edge.parts()) {
            let is_full = tile.hashes.len() == TILE_HASHES;
            let (level, index) = (tile.level, tile.index);
            if level == 0 && is_full && LEAF_TILES_KEPT <= index {
                found.push((log::tile_at(0, index - LEAF_TILES_KEPT), None));
            }
            found.push((log::tile_at(level, index), Some(tile.hashes.concat())));
        }
        let stored = Stored::new(self.edge.size(), self.line);
        let text = serde_json::to_vec(&stored).expect("a size and a hash are plain JSON");
        found.push((log::stored_at(), Some(text)));
        found
    }

    /// Signs a checkpoint of what is stored by now, if that is news, and tells of it.
    pub(super) fn tell(&self) {
        let size = self.edge.size();
        let is_told =
            |told: &Option<Arc<Signed>>| told.as_ref().map(|told| told.size) == Some(size);
        if size != self.size_stored || is_told(&self.told.borrow()) {
            return;
        }
        let checkpoint = Checkpoint {
            size,
            root: self.edge.root(),
            line: self.line,
        };
        let note = checkpoint.sign(&self.signer);
        self.told
            .send_replace(Some(Arc::new(Signed { size, note })));
    }

    /// Hears of checkpoints.
    pub(super) fn heard(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.told.subscribe()
    }
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks().0.to_vec()
}

/// The tree as it is stored.
struct Kept<'s>(&'s OpenSnapshot);

/// Why there is no proof.
enum Unproven {
    Gone,
    Barrier(BarrierError),
}

impl Nodes for Kept<'_> {
    type Error = Unproven;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Unproven> {
        let (tile, at, from) = Tile::of(level, index);
        let found = self.0.get(&log::tile_at(tile, at));
        let found = found.map_err(Unproven::Barrier)?.ok_or(Unproven::Gone)?;
        let tile = Tile {
            level: tile,
            index: at,
            hashes: hashes(found.expose()),
        };
        tile.node(level, from).ok_or(Unproven::Gone)
    }
}

/// Proves that the log of `to` lines begins with that of `from` lines; `None` if that is too long ago.
pub(super) fn proof(
    store: &OpenSnapshot,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Hash>>, BarrierError> {
    match consistency(from, to, &mut Kept(store)) {
        Ok(proof) => Ok(Some(proof)),
        Err(Unproven::Gone) => Ok(None),
        Err(Unproven::Barrier(error)) => Err(error),
    }
}

/// Makes the operations that store these.
pub(super) fn ops(barrier: &Unsealed, entries: Vec<(Key, Option<Vec<u8>>)>) -> Vec<Op> {
    let sealed = entries.into_iter().map(|(key, text)| match text {
        Some(text) => {
            let sealed = barrier.seal(&key, &text);
            Op::Put(key, sealed)
        }
        None => Op::Delete(key),
    });
    sealed.collect()
}
