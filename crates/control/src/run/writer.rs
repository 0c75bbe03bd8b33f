//! The one writer: takes what was decided, commits many requests at once, feeds the audit file, and
//! only then lets answers go.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::{Revision, UnixTime};
use bastide_store::{Batch, Key, KeyRange, Op, OpenSnapshot, Store, StoreError, Unsealed};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};

use crate::core::tables;
use crate::run::audit_file::AuditFile;

/// Most requests of one commit.
const GROUP_MAX: usize = 512;
/// Requests that may wait for the writer; beyond it they are refused. Ten groups: more than that is
/// more than a second of work on a slow disk.
pub const QUEUE_MAX: usize = 10 * GROUP_MAX;
/// Most audit records that wait for the device before requests are refused.
const OUTBOX_MAX: usize = 20_000;
/// How often the audit file is made durable and the outbox trimmed.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the highest time seen is persisted.
const TIME_EVERY: Duration = Duration::from_secs(60);

/// What the writer is asked for.
pub enum Job {
    /// Commit a decision.
    Write {
        /// Sealed.
        batch: Batch,
        /// The records of request and response, hashed.
        audit: Option<[Map<String, Value>; 2]>,
        /// Where the answer goes.
        done: oneshot::Sender<Result<Revision, WriteError>>,
    },
    /// A second has passed.
    Tick(UnixTime),
    /// Commit what came before this, and end.
    Stop,
}

/// Why a decision was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// What it was decided on has changed: decide again.
    #[error("something that the request was decided on has changed")]
    Conflict,
    /// The audit device does not take records; nothing was done.
    #[error("the audit device does not accept records")]
    Audit,
    /// The store does not take writes; nothing was done.
    #[error("the store does not accept writes")]
    Store,
}

/// The audit chain's head.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    next: u64,
    previous: String,
}

/// Why a writer did not start.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The store cannot be read.
    #[error("could not read the writer's state")]
    Store(#[from] StoreError),
    /// A value cannot be opened.
    #[error("could not open the writer's state")]
    Barrier(#[from] bastide_store::BarrierError),
    /// A value is not what it should be.
    #[error("the writer's state is not valid")]
    Stored(#[from] serde_json::Error),
    /// The audit file cannot be used.
    #[error("could not open audit file `{path}`")]
    Audit {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// The writer's state, owned by its thread.
pub struct Writer {
    store: Arc<dyn Store>,
    barrier: Arc<Unsealed>,
    commits: watch::Sender<Revision>,
    audit: Option<Audit>,
    time_written: Option<Instant>,
    /// Told when the store takes no more writes.
    broken: watch::Sender<bool>,
}

struct Audit {
    path: PathBuf,
    device: Option<AuditFile>,
    head: Head,
    /// Records that are committed and not yet durable on the device, oldest first.
    outbox: VecDeque<(u64, Vec<u8>)>,
    /// How many of them are written to it.
    written: usize,
    /// Numbers of records that are durable on the device and still in the store.
    trimmed: Vec<u64>,
    synced: Instant,
}

fn head_at() -> Key {
    Key::new(tables::WRITER, "audit-head")
}

fn time_at() -> Key {
    Key::new(tables::WRITER, "time")
}

fn outbox_at(number: u64) -> Key {
    Key::new(tables::AUDIT_OUTBOX, number.to_be_bytes())
}

/// Returns the highest time that was persisted.
pub fn highest_time(
    store: &dyn Store,
    barrier: &Arc<Unsealed>,
) -> Result<Option<UnixTime>, WriterError> {
    let open = OpenSnapshot::new(store.snapshot()?, Arc::clone(barrier));
    let Some(text) = open.get(&time_at())? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(text.expose())?))
}

impl Writer {
    /// Reads what an earlier writer left: the chain's head, and records that may not have reached
    /// the audit file, which are written to it now.
    pub fn new(
        store: Arc<dyn Store>,
        barrier: Arc<Unsealed>,
        audit: Option<PathBuf>,
        commits: watch::Sender<Revision>,
        broken: watch::Sender<bool>,
    ) -> Result<Self, WriterError> {
        let audit = match audit {
            None => None,
            Some(path) => Some(Audit::open(path, &*store, &barrier)?),
        };
        Ok(Self {
            store,
            barrier,
            commits,
            audit,
            time_written: None,
            broken,
        })
    }

    /// Works until it is told to stop or the last sender is gone; then leaves the audit file durable.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(first) = jobs.blocking_recv() {
            group.push(first);
            while group.len() < GROUP_MAX
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            let stop = group.iter().any(|job| matches!(job, Job::Stop));
            self.commit(std::mem::take(&mut group));
            if stop {
                break;
            }
        }
        if let Some(audit) = &mut self.audit {
            audit.flush();
            audit.sync();
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        if let Some(audit) = &mut self.audit {
            audit.revive();
        }
        let mut answers = Vec::with_capacity(group.len());
        match self.apply(group, &mut answers) {
            Ok(revision) => {
                if let Some(audit) = &mut self.audit {
                    audit.flush();
                    if SYNC_EVERY <= audit.synced.elapsed() {
                        audit.sync();
                    }
                }
                self.commits
                    .send_if_modified(|at| std::mem::replace(at, revision) != revision);
                for (done, result) in answers {
                    let _ = done.send(result);
                }
            }
            Err(error) => {
                if !self.broken.send_replace(true) {
                    tracing::error!(cause = ?error, "the store does not accept writes");
                }
                // What was chained on is not committed: begin again from what is.
                if let Some(audit) = &mut self.audit {
                    audit.reload(&*self.store, &self.barrier);
                }
                for (done, _) in answers {
                    let _ = done.send(Err(WriteError::Store));
                }
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "a list of where each answer goes")]
    fn apply(
        &mut self,
        group: Vec<Job>,
        answers: &mut Vec<(
            oneshot::Sender<Result<Revision, WriteError>>,
            Result<Revision, WriteError>,
        )>,
    ) -> Result<Revision, StoreError> {
        let mut now = None;
        let mut writes = Vec::with_capacity(group.len());
        for job in group {
            match job {
                Job::Tick(at) => now = Some(at),
                Job::Stop => {}
                Job::Write { batch, audit, done } => writes.push((batch, audit, done)),
            }
        }
        let store = Arc::clone(&self.store);
        let mut own = self.housekeeping(now);
        if writes.is_empty() && own.ops.is_empty() {
            return Ok(store.revision());
        }
        // From here on an error must still answer everybody.
        let mut begun = match store.begin() {
            Ok(begun) => begun,
            Err(error) => {
                answers.extend(
                    writes
                        .into_iter()
                        .map(|(.., done)| (done, Err(WriteError::Store))),
                );
                return Err(error);
            }
        };
        let mut failed = None;
        for (batch, audit, done) in writes {
            let accepts = self.audit.as_ref().is_none_or(Audit::accepts);
            let result = if audit.is_some() && !accepts {
                Err(WriteError::Audit)
            } else if failed.is_some() {
                Err(WriteError::Store)
            } else {
                match begun.apply(&batch) {
                    Ok(Ok(revision)) => Ok(revision),
                    Ok(Err(_)) => Err(WriteError::Conflict),
                    Err(error) => {
                        failed = Some(error);
                        Err(WriteError::Store)
                    }
                }
            };
            if result.is_ok()
                && let (Some(records), Some(device)) = (audit, &mut self.audit)
            {
                for record in records {
                    let (number, line) = device.chain(record);
                    let key = outbox_at(number);
                    own.ops
                        .push(Op::Put(key.clone(), self.barrier.seal(&key, &line)));
                    device.outbox.push_back((number, line));
                }
            }
            answers.push((done, result));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(device) = &self.audit {
            let text = serde_json::to_vec(&device.head).expect("the head is plain JSON");
            own.ops
                .push(Op::Put(head_at(), self.barrier.seal(&head_at(), &text)));
        }
        if !own.ops.is_empty() {
            let _ = begun.apply(&own)?;
        }
        begun.commit()
    }

    /// Trims the outbox and persists the time, along with other writes or at a tick.
    fn housekeeping(&mut self, now: Option<UnixTime>) -> Batch {
        let mut own = Batch::default();
        if let Some(audit) = &mut self.audit {
            if now.is_some() && !audit.outbox.is_empty() {
                audit.flush();
                audit.sync();
            }
            for number in audit.trimmed.drain(..) {
                own.ops.push(Op::Delete(outbox_at(number)));
            }
        }
        if let Some(now) = now
            && self
                .time_written
                .is_none_or(|at| TIME_EVERY <= at.elapsed())
        {
            let text = serde_json::to_vec(&now).expect("a time is plain JSON");
            own.ops
                .push(Op::Put(time_at(), self.barrier.seal(&time_at(), &text)));
            self.time_written = Some(Instant::now());
        }
        own
    }
}

impl Audit {
    fn open(
        path: PathBuf,
        store: &dyn Store,
        barrier: &Arc<Unsealed>,
    ) -> Result<Self, WriterError> {
        let device = AuditFile::open(&path).map_err(|source| WriterError::Audit {
            path: path.clone(),
            source,
        })?;
        let mut this = Self {
            path,
            device: Some(device),
            head: Head::default(),
            outbox: VecDeque::new(),
            written: 0,
            trimmed: Vec::new(),
            synced: Instant::now(),
        };
        this.read(store, barrier)?;
        this.flush();
        this.sync();
        Ok(this)
    }

    fn read(&mut self, store: &dyn Store, barrier: &Arc<Unsealed>) -> Result<(), WriterError> {
        let open = OpenSnapshot::new(store.snapshot()?, Arc::clone(barrier));
        self.head = match open.get(&head_at())? {
            Some(text) => serde_json::from_slice(text.expose())?,
            None => Head::default(),
        };
        let all = KeyRange::prefix(tables::AUDIT_OUTBOX, "");
        self.outbox.clear();
        self.written = 0;
        for (key, line) in open.range(&all, 2 * OUTBOX_MAX)? {
            if let Some(number) = key.rest().first_chunk() {
                let number = u64::from_be_bytes(*number);
                self.outbox.push_back((number, line.expose().clone()));
            }
        }
        Ok(())
    }

    fn reload(&mut self, store: &dyn Store, barrier: &Arc<Unsealed>) {
        if let Err(error) = self.read(store, barrier) {
            tracing::error!(cause = ?error, "the audit outbox cannot be read");
            self.device = None;
        }
    }

    fn accepts(&self) -> bool {
        self.device.is_some() && self.outbox.len() < OUTBOX_MAX
    }

    /// Numbers a record and ties it to the one before.
    fn chain(&mut self, mut record: Map<String, Value>) -> (u64, Vec<u8>) {
        let number = self.head.next;
        record.insert("seq".into(), number.into());
        record.insert("prev".into(), self.head.previous.as_str().into());
        let line = serde_json::to_vec(&record).expect("a record is plain JSON");
        let hash = digest(&SHA256, &line);
        self.head = Head {
            next: number + 1,
            previous: data_encoding::HEXLOWER.encode(hash.as_ref()),
        };
        (number, line)
    }

    /// Opens a device that failed, and gives it what it missed.
    fn revive(&mut self) {
        if self.device.is_none() {
            self.device = AuditFile::open(&self.path).ok();
            self.written = 0;
            self.flush();
            if self.device.is_some() {
                tracing::info!("the audit device accepts records again");
            }
        }
    }

    /// Writes what is committed to the device. What it does not take stays in the outbox, and until
    /// it takes it no request that is audited is served.
    fn flush(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        let new: Vec<_> = self.outbox.iter().skip(self.written).cloned().collect();
        match device.append(&new) {
            Ok(()) => self.written = self.outbox.len(),
            Err(error) => self.failed(&error),
        }
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        let Some(device) = &mut self.device else {
            return;
        };
        match device.sync() {
            Ok(()) => {
                let durable = self.outbox.drain(..self.written);
                self.trimmed.extend(durable.map(|(number, _)| number));
                self.written = 0;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        tracing::warn!(cause = %error, "the audit device does not accept records");
        self.device = None;
        self.written = 0;
    }
}
