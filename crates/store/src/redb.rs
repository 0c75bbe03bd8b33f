//! The store of a single controller: redb, on disk or in memory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bastide_api::Revision;
use redb::backends::InMemoryBackend;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::log::{CommitLog, Compacted};
use crate::map::{
    Batch, Change, Compare, Conflict, Key, KeyRange, Op, Snapshot, Store, StoreError, Table,
    Transaction,
};

const DATA: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
/// Bytes of redb's page cache: enough for the hot part of a small cluster.
const CACHE_BYTES: usize = 64 << 20;

/// A store in one redb file, or in memory.
///
/// On disk a commit is two-phase, with the allocator's state saved (`quick_repair`): opening after a
/// crash does not walk the file, and a torn write cannot take back what was acknowledged.
pub struct RedbStore {
    database: Database,
    log: Mutex<CommitLog>,
    durable: AtomicU64,
    two_phase: bool,
}

fn failed<E: Into<redb::Error>>(operation: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError {
        operation,
        source: Box::new(source.into()),
    }
}

impl RedbStore {
    /// Opens the store in the file at `path`, which is made if it is missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(failed("open"))?;
        Self::with(database, true)
    }

    /// Makes a store that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .map_err(failed("make"))?;
        Self::with(database, false)
    }

    fn with(database: Database, two_phase: bool) -> Result<Self, StoreError> {
        let begun = begin(&database, two_phase)?;
        let revision = {
            begun.open_table(DATA).map_err(failed("open"))?;
            let mut meta = begun.open_table(META).map_err(failed("open"))?;
            let stored = meta
                .get(REVISION)
                .map_err(failed("open"))?
                .map(|at| at.value());
            let revision = stored.unwrap_or(0);
            meta.insert(REVISION, revision).map_err(failed("open"))?;
            revision
        };
        begun.commit().map_err(failed("open"))?;
        Ok(Self {
            database,
            log: Mutex::new(CommitLog::new(Revision(revision))),
            durable: AtomicU64::new(revision),
            two_phase,
        })
    }

    fn log(&self) -> MutexGuard<'_, CommitLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(database: &Database, two_phase: bool) -> Result<WriteTransaction, StoreError> {
    let mut begun = database.begin_write().map_err(failed("write to"))?;
    if two_phase {
        begun.set_two_phase_commit(true);
        begun.set_quick_repair(true);
    }
    Ok(begun)
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let begun = self.database.begin_read().map_err(failed("read"))?;
        let meta = begun.open_table(META).map_err(failed("read"))?;
        let revision = meta.get(REVISION).map_err(failed("read"))?;
        let revision = Revision(revision.map_or(0, |at| at.value()));
        let data = begun.open_table(DATA).map_err(failed("read"))?;
        Ok(Box::new(RedbSnapshot {
            revision,
            data,
            _begun: begun,
        }))
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>, StoreError> {
        let begun = begin(&self.database, self.two_phase)?;
        self.log().truncate(self.revision());
        Ok(Box::new(RedbTransaction {
            begun,
            revision: self.revision(),
            store: self,
        }))
    }

    fn revision(&self) -> Revision {
        Revision(self.durable.load(Ordering::Acquire))
    }

    fn changes(&self, from: Revision, limit: usize) -> Result<Vec<Change>, Compacted> {
        let to = self.revision();
        self.log().changes(from, to, limit)
    }

    fn unchanged(&self, range: &KeyRange, since: Revision) -> bool {
        self.log().unchanged(range, since)
    }
}

struct RedbSnapshot {
    revision: Revision,
    data: ReadOnlyTable<&'static [u8], &'static [u8]>,
    _begun: ReadTransaction,
}

impl RedbSnapshot {
    fn within(
        &self,
        range: &KeyRange,
    ) -> Result<redb::Range<'_, &'static [u8], &'static [u8]>, StoreError> {
        let start = range.start.as_slice();
        match &range.end {
            Some(end) if end.as_slice() <= start => self.data.range(start..start),
            Some(end) => self.data.range(start..end.as_slice()),
            None => self.data.range(start..),
        }
        .map_err(failed("read"))
    }
}

fn entry(key: &[u8], value: &[u8]) -> (Key, Vec<u8>) {
    let key = Key::from_bytes(key).expect("stored keys begin with their table");
    (key, value.to_vec())
}

impl Snapshot for RedbSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.data.get(key.as_bytes()).map_err(failed("read"))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.within(range)?
            .take(limit)
            .map(|found| {
                let (key, value) = found.map_err(failed("read"))?;
                Ok(entry(key.value(), value.value()))
            })
            .collect()
    }

    fn last(&self, range: &KeyRange) -> Result<Option<(Key, Vec<u8>)>, StoreError> {
        self.within(range)?
            .next_back()
            .map(|found| {
                let (key, value) = found.map_err(failed("read"))?;
                Ok(entry(key.value(), value.value()))
            })
            .transpose()
    }
}

struct RedbTransaction<'a> {
    begun: WriteTransaction,
    revision: Revision,
    store: &'a RedbStore,
}

impl Transaction for RedbTransaction<'_> {
    fn apply(&mut self, batch: &Batch) -> Result<Result<Revision, Conflict>, StoreError> {
        {
            let log = self.store.log();
            let holds = |compare: &Compare| match compare {
                Compare::Unchanged { range, since } => log.unchanged(range, *since),
            };
            if !batch.compares.iter().all(holds) {
                return Ok(Err(Conflict));
            }
        }
        let mut data = self.begun.open_table(DATA).map_err(failed("write to"))?;
        for op in &batch.ops {
            match op {
                Op::Put(key, value) => {
                    data.insert(key.as_bytes(), value.as_slice())
                        .map_err(failed("write to"))?;
                }
                Op::Delete(key) => {
                    data.remove(key.as_bytes()).map_err(failed("write to"))?;
                }
            }
        }
        self.revision = Revision(self.revision.0 + 1);
        let noted = |key: &&Key| key.table() < Table::UNWATCHED;
        let keys = batch
            .ops
            .iter()
            .map(Op::key)
            .filter(noted)
            .cloned()
            .collect();
        // Noted before it is durable: a later batch of this transaction must see it.
        self.store.log().push(self.revision, keys);
        Ok(Ok(self.revision))
    }

    fn commit(self: Box<Self>) -> Result<Revision, StoreError> {
        let Self {
            begun,
            revision,
            store,
        } = *self;
        {
            let mut meta = begun.open_table(META).map_err(failed("write to"))?;
            meta.insert(REVISION, revision.0)
                .map_err(failed("write to"))?;
        }
        begun.commit().map_err(failed("commit to"))?;
        store.durable.store(revision.0, Ordering::Release);
        Ok(revision)
    }
}

#[cfg(test)]
mod tests;
