//! The words of the map: keys, ranges, batches, and what a store can do.

use std::sync::Arc;

use bastide_api::Revision;

use crate::log::Compacted;

/// A namespace of keys, one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

impl Table {
    /// From this table on changes are neither watched nor compared: for what only its writer reads.
    pub const UNWATCHED: Self = Self(0x80);
}

/// A key: a table and bytes, ordered by table first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// Makes the key `bytes` in `table`.
    pub fn new(table: Table, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut key = Vec::with_capacity(1 + bytes.len());
        key.push(table.0);
        key.extend_from_slice(bytes);
        Self(key)
    }

    /// Reads back what [`Self::as_bytes`] gave; `None` if it is empty.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(bytes.to_vec()))
    }

    /// Returns the key as a store holds it: the table, then the rest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the table.
    pub fn table(&self) -> Table {
        Table(self.0[0])
    }

    /// Returns the bytes after the table.
    pub fn rest(&self) -> &[u8] {
        &self.0[1..]
    }
}

/// The keys from `start` on and before `end`, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Exactly one key.
    pub fn one(key: &Key) -> Self {
        let mut end = key.0.clone();
        end.push(0);
        Self {
            start: key.0.clone(),
            end: Some(end),
        }
    }

    /// All keys of `table` that begin with `prefix`.
    pub fn prefix(table: Table, prefix: impl AsRef<[u8]>) -> Self {
        let start = Key::new(table, prefix).0;
        Self {
            end: successor(&start),
            start,
        }
    }

    /// The keys of `table` from `from` on and before `to`.
    pub fn between(table: Table, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        Self {
            start: Key::new(table, from).0,
            end: Some(Key::new(table, to).0),
        }
    }

    /// The same range, without what is not after `key`.
    #[must_use]
    pub fn after(&self, key: &Key) -> Self {
        let mut start = key.0.clone();
        start.push(0);
        Self {
            start: start.max(self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// Returns whether `key` lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        self.start <= key.0 && self.end.as_ref().is_none_or(|end| key.0 < *end)
    }
}

/// Returns the first key after all that begin with `prefix`; `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The key holds this value.
    Put(Key, Vec<u8>),
    /// The key is gone.
    Delete(Key),
}

impl Op {
    /// Returns the key that is changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// What must hold for a batch to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Nothing in the range was put or deleted after the revision.
    Unchanged {
        /// What was read.
        range: KeyRange,
        /// At which revision.
        since: Revision,
    },
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What changes.
    pub ops: Vec<Op>,
}

/// A batch was not applied, because a compare did not hold. Read again and decide again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("something that the batch was decided on has changed")]
pub struct Conflict;

/// One commit's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub revision: Revision,
    /// The keys that it put or deleted.
    pub keys: Arc<[Key]>,
}

/// What may go wrong with storage itself. After it the store takes no more writes until it is
/// opened again.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} the store")]
pub struct StoreError {
    pub(crate) operation: &'static str,
    #[source]
    pub(crate) source: Box<::redb::Error>,
}

/// The map at one revision. Durable: a crash does not take it back.
pub trait Snapshot: Send + Sync {
    /// Returns the revision that this is the state after.
    fn revision(&self) -> Revision;
    /// Returns a key's value.
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError>;
    /// Returns the first `limit` keys of a range and their values, in order.
    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<(Key, Vec<u8>)>, StoreError>;
    /// Returns the last key of a range and its value.
    fn last(&self, range: &KeyRange) -> Result<Option<(Key, Vec<u8>)>, StoreError>;
}

/// Several batches on their way to one durable commit. Dropped, it changes nothing.
pub trait Transaction {
    /// Applies one batch after those before it, as a revision of its own.
    fn apply(&mut self, batch: &Batch) -> Result<Result<Revision, Conflict>, StoreError>;
    /// Makes all of it durable and visible. After an error the store refuses writes.
    fn commit(self: Box<Self>) -> Result<Revision, StoreError>;
}

/// An ordered map with atomic batches.
pub trait Store: Send + Sync {
    /// Returns the map as of the last durable commit.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;
    /// Begins a transaction; waits for the one before it to end.
    fn begin(&self) -> Result<Box<dyn Transaction + '_>, StoreError>;
    /// Returns the last durable revision.
    fn revision(&self) -> Revision;
    /// Returns the durable commits after `from`, oldest first, at most `limit`: what a watch reads
    /// each time it hears of a commit.
    fn changes(&self, from: Revision, limit: usize) -> Result<Vec<Change>, Compacted>;
    /// Returns whether it is known that nothing in the range changed after `since`.
    fn unchanged(&self, range: &KeyRange, since: Revision) -> bool;
    /// Returns whether the store may grow. Without room what must go on still can be committed, from
    /// what was allocated ahead; anything else should wait for room.
    fn has_room(&self) -> bool {
        true
    }
    /// Tries to allocate room ahead, and returns as [`Self::has_room`] does from then on.
    fn make_room(&self) -> bool {
        true
    }
}
