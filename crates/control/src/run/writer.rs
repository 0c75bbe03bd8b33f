//! The one writer: takes what was decided, commits many requests at once, feeds the audit file, and
//! only then lets answers go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_api::{Revision, Secret, UnixTime};
use bastide_linux::clock::Clock;
use bastide_store::{Batch, Key, Op, OpenSnapshot, Store, StoreError, Unsealed};
use tokio::sync::{mpsc, oneshot, watch};

use crate::core::audit::devices;
use crate::core::draft::Draft;
use crate::core::entropy::Entropy;
use crate::core::need::Need;
use crate::core::tables;
use crate::run::audit_desk::{Desk, Noted};
use crate::run::audit_devices::{Outboxes, Records};
use crate::run::log_book::{self, LogBook, Signed};
use crate::run::outbox::{AuditTo, Outbox};

/// Most requests of one commit.
const GROUP_MAX: usize = 512;
/// Bytes from which on a commit takes no further request: what is allocated ahead must hold it.
const GROUP_BYTES: usize = 2 << 20;
/// Requests that may wait for the writer; beyond it they are refused. Ten groups: more than that is
/// more than a second of work on a slow disk.
pub const QUEUE_MAX: usize = 10 * GROUP_MAX;
/// How often the audit file is made durable and the outbox trimmed.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the highest time seen is persisted while nothing is written.
const TIME_EVERY: Duration = Duration::from_secs(60);

/// What the writer is asked for.
pub enum Job {
    /// Commit a decision.
    Write {
        /// Sealed.
        batch: Batch,
        /// The records of request and response, hashed.
        audit: Option<Records>,
        /// What it needs of the disk.
        need: Need,
        /// Where the answer goes.
        done: oneshot::Sender<Result<Revision, WriteError>>,
    },
    /// A second has passed.
    Tick,
    /// The audit devices are to be made durable soon.
    Sync,
    /// Look after the audit file now: it was moved away.
    Reopen,
    /// Commit what came before this, and end.
    Stop,
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Write { batch, .. } => batch.ops.iter().map(bytes_of).sum(),
            Self::Tick | Self::Sync | Self::Reopen | Self::Stop => 0,
        }
    }

    /// Returns whether it needs no commit: nothing changed, and its record is safe once the devices have
    /// it.
    fn is_record(&self) -> bool {
        match self {
            Self::Write { batch, need, .. } => {
                is_glance(batch, *need) || is_empty(batch) && *need == Need::Made
            }
            Self::Tick | Self::Sync | Self::Reopen | Self::Stop => false,
        }
    }
}

fn is_empty(batch: &Batch) -> bool {
    batch.ops.is_empty() && batch.compares.is_empty()
}

/// Returns whether something was only looked at: its record need not be durable before the answer.
pub(super) fn is_glance(batch: &Batch, need: Need) -> bool {
    need == Need::Glance && is_empty(batch)
}

fn bytes_of(op: &Op) -> usize {
    match op {
        Op::Put(key, value) => key.as_bytes().len() + value.len(),
        Op::Delete(key) => key.as_bytes().len(),
    }
}

/// Why a decision was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// What it was decided on has changed: decide again.
    #[error("something that the request was decided on has changed")]
    Conflict,
    /// The audit device does not take records; nothing was done.
    #[error(
        "the audit device takes no records: nothing was done. Look at the server's log, and give the \
         audit file's disk room (`df -h`); it goes on by itself"
    )]
    Audit,
    /// There is no room on the disk; nothing was done.
    #[error(
        "the control plane's disk is full: nothing was written, while reads, renewals and removals \
         go on. Give it room (`df -h` on the controller), then repeat this"
    )]
    Room,
    /// The store does not take writes; nothing was done.
    #[error("the store does not accept writes")]
    Store,
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

/// A decision to be committed.
struct Write {
    batch: Batch,
    records: Option<Records>,
    need: Need,
    done: oneshot::Sender<Result<Revision, WriteError>>,
}

/// Where each answer goes.
type Answers = Vec<(
    oneshot::Sender<Result<Revision, WriteError>>,
    Result<Revision, WriteError>,
)>;

/// The writer's state, owned by its thread.
pub struct Writer {
    store: Arc<dyn Store>,
    barrier: Arc<Unsealed>,
    commits: watch::Sender<Revision>,
    desk: Arc<Desk>,
    /// The tree over the server's own audit log.
    book: LogBook,
    clock: Clock,
    /// How often the audit file is made durable and the outbox trimmed.
    sync_every: Duration,
    time_written: Option<Instant>,
    /// Told when the store takes no more writes.
    broken: watch::Sender<bool>,
}

fn time_at() -> Key {
    Key::new(tables::WRITER, "time")
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
        audit: Option<AuditTo>,
        clock: Clock,
        commits: watch::Sender<Revision>,
        broken: watch::Sender<bool>,
    ) -> Result<Self, WriterError> {
        let open = OpenSnapshot::new(store.snapshot()?, Arc::clone(&barrier));
        let nothing = Entropy::new(&Secret::new([0; 32]));
        let mut draft = Draft::new(&open, clock.now(), nothing, &[]);
        let others = devices::load(&mut draft).unwrap_or_else(|refusal| {
            tracing::error!(cause = %refusal, "the audit devices cannot be read");
            Vec::new()
        });
        drop(draft);
        let mut audit = Outboxes::open(audit, &others, &open)?;
        let mut book = LogBook::open(&open, &barrier)?;
        if let Some(own) = audit.own() {
            book.take(own.take_durable(book.size()));
        }
        Ok(Self {
            store,
            barrier,
            commits,
            desk: Arc::new(Desk::new(audit)),
            book,
            clock,
            sync_every: SYNC_EVERY,
            time_written: None,
            broken,
        })
    }

    /// Returns where the audit devices are for whoever only looks.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Hears of signed checkpoints of the server's own audit log.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.book.heard()
    }

    /// Works until it is told to stop or the last sender is gone; then leaves the audit file durable.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(first) = jobs.blocking_recv() {
            let mut bytes = first.bytes();
            group.push(first);
            while group.len() < GROUP_MAX
                && bytes < GROUP_BYTES
                && let Ok(next) = jobs.try_recv()
            {
                bytes += next.bytes();
                group.push(next);
            }
            let stop = group.iter().any(|job| matches!(job, Job::Stop));
            self.commit(std::mem::take(&mut group));
            if stop {
                break;
            }
        }
        self.desk.with(|audit| {
            audit.all(|outbox| {
                outbox.flush();
                outbox.sync();
            });
        });
    }

    /// Returns up to where the audit file is known to be durable, in bytes.
    #[cfg(test)]
    fn audit_durable(&self) -> u64 {
        self.desk.with(|audit| audit.length_durable()).unwrap_or(0)
    }

    fn commit(&mut self, mut group: Vec<Job>) {
        let is_full = self.desk.with(|audit| audit.are_full()).unwrap_or_default();
        if is_full || group.iter().any(|job| matches!(job, Job::Sync | Job::Tick)) {
            self.sync_aside();
            group.retain(|job| !matches!(job, Job::Sync));
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut is_stored = true;
        if group.iter().any(|job| matches!(job, Job::Tick)) {
            is_stored = self.is_prompt();
        } else if group.iter().all(Job::is_record) {
            (group, is_stored) = self.note(group, &mut answers);
        }
        if !group.is_empty() || !is_stored {
            let mut audit = self.desk.take();
            self.commit_with(&mut audit, group, &mut answers, is_stored);
            self.desk.give_back(audit);
        }
        for (done, result) in answers {
            let _ = done.send(result);
        }
    }

    /// Makes the audit files durable while they are written to.
    fn sync_aside(&self) {
        let marks = self.desk.with(|audit| audit.marks()).unwrap_or_default();
        for (device, mark) in marks {
            let synced = mark.sync();
            self.desk.with(|audit| audit.settle(device, &mark, synced));
        }
    }

    /// Records what changed nothing. Returns what has to be committed all the same, and whether what was
    /// recorded is as safe as it has to be.
    fn note(&self, group: Vec<Job>, answers: &mut Answers) -> (Vec<Job>, bool) {
        let (revision, has_room) = (self.store.revision(), self.store.has_room());
        let (mut left, mut is_durable_asked) = (Vec::new(), false);
        for job in group {
            let Job::Write {
                batch,
                audit: Some(records),
                need,
                done,
            } = job
            else {
                left.push(job);
                continue;
            };
            match self.desk.note(&records, need, has_room) {
                Noted::Recorded { .. } => {
                    is_durable_asked |= need == Need::Made;
                    answers.push((done, Ok(revision)));
                }
                Noted::AtRisk => {
                    is_durable_asked = true;
                    answers.push((done, Ok(revision)));
                }
                Noted::Refused => answers.push((done, Err(WriteError::Audit))),
                Noted::Later => left.push(Job::Write {
                    batch,
                    audit: Some(records),
                    need,
                    done,
                }),
            }
        }
        if !is_durable_asked {
            return (left, true);
        }
        self.sync_aside();
        // Where a device failed meanwhile, its records are stored until it has them.
        (left, self.is_prompt())
    }

    /// Returns whether all devices have what they were given.
    fn is_prompt(&self) -> bool {
        self.desk
            .with(|audit| audit.are_prompt())
            .unwrap_or_default()
    }

    /// Commits a group, and gives the devices its records once it stands. `is_stored`: whether there is
    /// nothing to store but what the group brings.
    fn commit_with(
        &mut self,
        audit: &mut Outboxes,
        group: Vec<Job>,
        answers: &mut Answers,
        is_stored: bool,
    ) {
        audit.all(Outbox::revive);
        match self.apply(audit, group, answers, is_stored) {
            Ok(revision) => {
                let every = self.sync_every;
                audit.all(|outbox| {
                    outbox.flush();
                    outbox.sync_if_due(every);
                });
                if audit.own().is_some() {
                    self.book.tell();
                }
                self.commits
                    .send_if_modified(|at| std::mem::replace(at, revision) != revision);
            }
            Err(error) => {
                if !self.broken.send_replace(true) {
                    tracing::error!(cause = ?error, "the store does not accept writes");
                }
                // What was chained on is not committed: begin again from what is.
                match self.open_store() {
                    Ok(open) => audit.all(|outbox| outbox.reload(&open)),
                    Err(error) => {
                        tracing::error!(cause = ?error, "the store cannot be read");
                        audit.all(Outbox::forget);
                    }
                }
                for (_, result) in answers {
                    *result = Err(WriteError::Store);
                }
            }
        }
    }

    fn open_store(&self) -> Result<OpenSnapshot, StoreError> {
        let snapshot = self.store.snapshot()?;
        Ok(OpenSnapshot::new(snapshot, Arc::clone(&self.barrier)))
    }

    fn apply(
        &mut self,
        audit: &mut Outboxes,
        group: Vec<Job>,
        answers: &mut Answers,
        is_stored: bool,
    ) -> Result<Revision, StoreError> {
        let (mut ticked, mut reopens) = (false, false);
        let mut writes = Vec::with_capacity(group.len());
        for job in group {
            match job {
                Job::Tick => ticked = true,
                Job::Reopen => reopens = true,
                Job::Sync | Job::Stop => {}
                Job::Write {
                    batch,
                    audit: records,
                    need,
                    done,
                } => writes.push(Write {
                    batch,
                    records,
                    need,
                    done,
                }),
            }
        }
        let store = Arc::clone(&self.store);
        if let Some(records) = writes.iter().rev().find_map(|write| write.records.as_ref()) {
            let snapshot = || {
                let snapshot = store.snapshot()?;
                Ok(OpenSnapshot::new(snapshot, Arc::clone(&self.barrier)))
            };
            audit.follow(records, snapshot)?;
        }
        let mut own = self.housekeeping(audit, ticked, reopens, !writes.is_empty());
        if !is_stored {
            self.store_waiting(audit, &mut own);
        }
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
                        .map(|write| (write.done, Err(WriteError::Store))),
                );
                return Err(error);
            }
        };
        let mut failed = None;
        let has_room = store.has_room();
        for write in writes {
            let Write {
                batch,
                records,
                need,
                done,
            } = write;
            let accepted = match &records {
                Some(records) => audit.accept(records, need, has_room),
                None => Ok(()),
            };
            let result = if need == Need::Room && !has_room {
                Err(WriteError::Room)
            } else if let Err(error) = accepted {
                Err(error)
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
                && let Some(records) = &records
            {
                audit.chain(records, need, has_room);
            }
            answers.push((done, result));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        // What was only looked at before goes along: what is durable never has a gap.
        self.store_waiting(audit, &mut own);
        if !own.ops.is_empty() {
            let _ = begun.apply(&own)?;
        }
        begun.commit()
    }

    /// Adds what waits for the devices and is not stored yet.
    fn store_waiting(&self, audit: &mut Outboxes, own: &mut Batch) {
        for (key, text) in audit.take_unstored() {
            let sealed = self.barrier.seal(&key, &text);
            own.ops.push(Op::Put(key, sealed));
        }
    }

    /// Looks after room and audit file at a tick, trims the outbox and persists the time, at a tick or
    /// along with other writes: what was decided because something had ended stays decided, should
    /// the clock be set back before the next start.
    fn housekeeping(
        &mut self,
        audit: &mut Outboxes,
        ticked: bool,
        reopens: bool,
        writes: bool,
    ) -> Batch {
        let mut own = Batch::default();
        if ticked && !self.store.has_room() && self.store.make_room() {
            tracing::info!("the store's disk has room again");
        }
        if ticked || reopens {
            audit.all(Outbox::tick);
        }
        audit.trim(&mut own);
        if (ticked || reopens)
            && let Some(log) = audit.own()
        {
            let durable = log.take_durable(self.book.size());
            self.book.take(durable);
            let tree = self.book.take_unstored();
            own.ops.extend(log_book::ops(&self.barrier, tree));
        }
        let is_due = self
            .time_written
            .is_none_or(|at| TIME_EVERY <= at.elapsed());
        if writes || ticked && is_due {
            let text = serde_json::to_vec(&self.clock.now()).expect("a time is plain JSON");
            own.ops
                .push(Op::Put(time_at(), self.barrier.seal(&time_at(), &text)));
            self.time_written = Some(Instant::now());
        }
        own
    }
}

#[cfg(test)]
mod tests;
