//! The store of a single controller: redb, on disk or in memory.

mod file;
mod overlay;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bastide_api::Revision;
use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition,
    WriteTransaction,
};

use self::file::{StoreFile, Through};
use self::overlay::Overlay;
use crate::log::{CommitLog, Compacted};
use crate::map::{
    Batch, Change, Compare, Conflict, Key, KeyRange, Op, Snapshot, Store, StoreError, Table,
    Transaction,
};

const DATA: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
/// Bytes of redb's page cache: enough for the hot part of a small cluster. What it does not hold, the
/// system's page cache does.
const CACHE_BYTES: usize = 16 << 20;

/// Why a store's file was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error("could not {operation} the store `{path}`")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store `{path}` is in use by another process")]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// It has no bytes at all; a store that was just made has some.
    #[error("the store `{path}` is empty: put a backup in its place")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// It was cut, changed, or was never a store.
    #[error("the store `{path}` is damaged, and was left as it is: put a backup in its place")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<redb::Error>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store in one redb file, or in memory.
///
/// On disk a commit is two-phase, with the allocator's state saved (`quick_repair`): opening after a
/// crash does not walk the file, and a torn write cannot take back what was acknowledged. A store is
/// closed as a crash would close it, so that there is one way to open it and not two.
pub struct RedbStore {
    database: Database,
    log: Mutex<CommitLog>,
    /// Held by a transaction until its revision is told. redb lets the next one begin before that,
    /// and it would give the same revision out again.
    writing: Mutex<()>,
    durable: AtomicU64,
    two_phase: bool,
    file: Option<Arc<StoreFile>>,
}

fn failed<E: Into<redb::Error>>(operation: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError {
        operation,
        source: Box::new(source.into()),
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

impl RedbStore {
    /// Opens the store in the file at `path`, which is made if it is missing.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_checked(path, |_| Ok(()))
    }

    /// As [`Self::open`], but before anything in the file changes its pages are verified, and
    /// `check` is shown what it holds; a new file is not shown.
    pub fn open_checked<E: From<OpenError>>(
        path: &Path,
        check: impl FnOnce(&dyn Store) -> Result<(), E>,
    ) -> Result<Self, E> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::create(path)?);
            }
            Err(source) => return Err(file_error("find", path)(source).into()),
        }
        let file = lock(path)?;
        if file.length() == 0 {
            let path = path.to_owned();
            return Err(OpenError::Empty { path }.into());
        }
        let damaged = |error: redb::DatabaseError| OpenError::Damaged {
            path: path.to_owned(),
            source: Box::new(error.into()),
        };
        let overlay = Overlay::over(Arc::clone(&file));
        let database = builder()
            .set_check_integrity_on_open(true)
            .create_with_backend(overlay)
            .map_err(damaged)?;
        let seen = Self::with(database, false, None).map_err(OpenError::from)?;
        check(&seen)?;
        drop(seen);
        let database = builder()
            .create_with_backend(Through(Arc::clone(&file)))
            .map_err(damaged)?;
        file.make_room()
            .map_err(file_error("make room for", path))?;
        Ok(Self::with(database, true, Some(file)).map_err(OpenError::from)?)
    }

    /// Makes a store beside `path` and puts it there once it is whole: a crash leaves no half of one.
    fn create(path: &Path) -> Result<Self, OpenError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("make", &beside)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let file = lock(&beside)?;
        file.make_room()
            .map_err(file_error("make room for", path))?;
        let database = builder()
            .create_with_backend(Through(Arc::clone(&file)))
            .map_err(failed("make"))?;
        let store = Self::with(database, true, Some(file))?;
        std::fs::rename(&beside, path).map_err(file_error("name", path))?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(file_error("name", path))?;
        Ok(store)
    }

    /// Makes a store that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = builder()
            .create_with_backend(InMemoryBackend::new())
            .map_err(failed("make"))?;
        Self::with(database, false, None)
    }

    /// Opens the store on a disk that is simulated, with the commits of a real one.
    #[cfg(feature = "simulation")]
    pub(crate) fn on_backend(backend: impl redb::StorageBackend) -> Result<Self, StoreError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(failed("open"))?;
        Self::with(database, true, None)
    }

    fn with(
        database: Database,
        two_phase: bool,
        file: Option<Arc<StoreFile>>,
    ) -> Result<Self, StoreError> {
        let revision = match stored_revision(&database)? {
            Some(revision) => revision,
            None => {
                let begun = begin(&database, two_phase)?;
                begun.open_table(DATA).map_err(failed("open"))?;
                let mut meta = begun.open_table(META).map_err(failed("open"))?;
                meta.insert(REVISION, 0).map_err(failed("open"))?;
                drop(meta);
                begun.commit().map_err(failed("open"))?;
                0
            }
        };
        Ok(Self {
            database,
            log: Mutex::new(CommitLog::new(Revision(revision))),
            writing: Mutex::new(()),
            durable: AtomicU64::new(revision),
            two_phase,
            file,
        })
    }

    fn log(&self) -> MutexGuard<'_, CommitLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn lock(path: &Path) -> Result<Arc<StoreFile>, OpenError> {
    match StoreFile::open(path) {
        Ok(file) => Ok(Arc::new(file)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(OpenError::Busy {
            path: path.to_owned(),
        }),
        Err(source) => Err(file_error("open", path)(source)),
    }
}

/// Returns the revision that a store was left at; `None` if it is new. Writes nothing, so that a
/// store opens on a full disk.
fn stored_revision(database: &Database) -> Result<Option<u64>, StoreError> {
    let begun = database.begin_read().map_err(failed("open"))?;
    let meta = match begun.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed("open")(error)),
    };
    let stored = meta.get(REVISION).map_err(failed("open"))?;
    Ok(stored.map(|at| at.value()))
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.abandon();
        }
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
        let alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begin(&self.database, self.two_phase)?;
        self.log().truncate(self.revision());
        Ok(Box::new(RedbTransaction {
            begun,
            revision: self.revision(),
            store: self,
            alone,
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

    fn has_room(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.has_room())
    }

    fn make_room(&self) -> bool {
        let Some(file) = &self.file else {
            return true;
        };
        file.make_room().unwrap_or_else(|error| {
            tracing::warn!(cause = %error, "room for the store cannot be allocated");
            false
        })
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
    /// Let go of last.
    alone: MutexGuard<'a, ()>,
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
            alone,
        } = *self;
        {
            let mut meta = begun.open_table(META).map_err(failed("write to"))?;
            meta.insert(REVISION, revision.0)
                .map_err(failed("write to"))?;
        }
        begun.commit().map_err(failed("commit to"))?;
        store.durable.store(revision.0, Ordering::Release);
        drop(alone);
        Ok(revision)
    }
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;
