//! What makes a log tamper-evident: a chain of its lines, a tree over them, and signed checkpoints.
//!
//! ```text
//!   line n:  {…,"seq":n,"prev":SHA-256(line n-1)}      an edit, a gap, a swap: found by line
//!   tree:    RFC 6962 over the lines' hashes           one log follows from another: log2(n) hashes
//!   note:    origin, size, root, line ── Ed25519       whoever keeps one sees a cut or a roll-back
//! ```
//!
//! The chain names the line that is wrong, with the files alone. A checkpoint says how long the log
//! was and what it held, in the formats of C2SP `signed-note` and `tlog-checkpoint`, which others'
//! programs read. Whoever holds one checkpoint is shown by a consistency proof (RFC 9162, section
//! 2.1.4) that a later one is of the same log.

mod chain;
mod checkpoint;
mod note;
mod tree;

pub use chain::{Chain, Fault, Found};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use note::{LogKey, LogKeyError, LogSigner, NOTE_BYTES_MAX};
pub use tree::{
    Edge, Hash, Nodes, TILE_HASHES, Tile, consistency, is_consistent, leaf_hash, line_hash, root,
    subtree,
};

#[cfg(test)]
mod tests;
