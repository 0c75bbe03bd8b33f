//! The audit records on their way to the device: chained, stored with the effect that they tell of,
//! and forgotten by the store only once the device has them for good.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bastide_store::{Key, KeyRange, OpenSnapshot, Store, Unsealed};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::need::Need;
use crate::core::tables;
use crate::run::audit_file::{AuditFile, Synced};
use crate::run::writer::WriterError;

/// Most records that wait for the device, and most bytes of them. Half of it is for what must go on.
const WAITING_MAX: usize = 20_000;
const WAITING_BYTES_MAX: usize = 8 << 20;
/// How often a device that failed is tried again.
const REVIVE_EVERY: Duration = Duration::from_secs(1);

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTo {
    /// The file.
    pub path: PathBuf,
    /// Bytes that are allocated beyond its end, for a full disk. A quarter of them is for what must
    /// go on.
    pub ahead_bytes: u64,
}

impl AuditTo {
    /// To the file at `path`, with 32 MiB ahead: some 15,000 requests, and as many renewals again.
    pub fn file(path: PathBuf) -> Self {
        Self {
            path,
            ahead_bytes: 32 << 20,
        }
    }
}

/// The audit chain's head.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    next: u64,
    previous: String,
}

/// The records that wait for the device, and the device.
pub(super) struct Outbox {
    to: AuditTo,
    device: Option<AuditFile>,
    head: Head,
    /// Records that are committed and not yet durable on the device, oldest first.
    waiting: VecDeque<(u64, Vec<u8>)>,
    waiting_bytes: usize,
    /// How many of them are written to it.
    written: usize,
    /// Numbers of records that are durable on the device and still in the store.
    trimmed: Vec<u64>,
    synced: Instant,
    tried: Instant,
}

fn head_at() -> Key {
    Key::new(tables::WRITER, "audit-head")
}

/// Returns where a record waits in the store.
pub(super) fn record_at(number: u64) -> Key {
    Key::new(tables::AUDIT_OUTBOX, number.to_be_bytes())
}

impl Outbox {
    /// Returns up to where the file is known to be durable, in bytes.
    #[cfg(test)]
    pub(super) fn length_durable(&self) -> u64 {
        let device = self.device.as_ref();
        device.map_or(0, AuditFile::length_durable)
    }

    /// Reads what waits, and gives it to the device.
    pub(super) fn open(
        to: AuditTo,
        store: &dyn Store,
        barrier: &Arc<Unsealed>,
    ) -> Result<Self, WriterError> {
        let device = match AuditFile::open(&to.path, to.ahead_bytes) {
            Ok(device) => Some(device),
            // It is tried again, and until then the records wait.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => None,
            Err(source) => {
                let path = to.path;
                return Err(WriterError::Audit { path, source });
            }
        };
        let mut this = Self {
            to,
            device,
            head: Head::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            written: 0,
            trimmed: Vec::new(),
            synced: Instant::now(),
            tried: Instant::now(),
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
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.written = 0;
        self.trimmed.clear();
        for (key, line) in open.range(&all, 2 * WAITING_MAX)? {
            if let Some(number) = key.rest().first_chunk() {
                self.push(u64::from_be_bytes(*number), line.expose().clone());
            }
        }
        Ok(())
    }

    /// Begins again from what is committed: what was chained since is not.
    pub(super) fn reload(&mut self, store: &dyn Store, barrier: &Arc<Unsealed>) {
        if let Err(error) = self.read(store, barrier) {
            tracing::error!(cause = ?error, "the audit outbox cannot be read");
            self.device = None;
        }
    }

    fn push(&mut self, number: u64, line: Vec<u8>) {
        self.waiting_bytes += line.len();
        self.waiting.push_back((number, line));
    }

    /// Returns whether what has this need can be recorded.
    pub(super) fn accepts(&self, need: Need, store_has_room: bool) -> bool {
        let below = |share: usize| {
            self.waiting.len() < WAITING_MAX / share
                && self.waiting_bytes < WAITING_BYTES_MAX / share
        };
        match need {
            Need::Vital => below(1),
            Need::Record | Need::Room => {
                let is_taken = match &self.device {
                    None => store_has_room,
                    Some(device) => device
                        .left()
                        .is_none_or(|left| self.to.ahead_bytes / 4 < left),
                };
                is_taken && below(2)
            }
        }
    }

    /// Numbers a record, ties it to the one before, and lets it wait. Returns its number and text.
    pub(super) fn chain(&mut self, mut record: Map<String, Value>) -> (u64, &[u8]) {
        let number = self.head.next;
        record.insert("seq".into(), number.into());
        record.insert("prev".into(), self.head.previous.as_str().into());
        let line = serde_json::to_vec(&record).expect("a record is plain JSON");
        let hash = digest(&SHA256, &line);
        self.head = Head {
            next: number + 1,
            previous: data_encoding::HEXLOWER.encode(hash.as_ref()),
        };
        self.push(number, line);
        let line = self.waiting.back().expect("it was just pushed");
        (number, &line.1)
    }

    /// Returns where the head stands, and the head.
    pub(super) fn head(&self) -> (Key, Vec<u8>) {
        let text = serde_json::to_vec(&self.head).expect("the head is plain JSON");
        (head_at(), text)
    }

    /// Returns where the records stand that the device has for good.
    pub(super) fn take_trimmed(&mut self) -> Vec<Key> {
        self.trimmed.drain(..).map(record_at).collect()
    }

    /// Opens a device that failed, and gives it what it missed.
    pub(super) fn revive(&mut self) {
        if self.device.is_some() || self.tried.elapsed() < REVIVE_EVERY {
            return;
        }
        self.tried = Instant::now();
        self.written = 0;
        self.device = AuditFile::open(&self.to.path, self.to.ahead_bytes).ok();
        if self.device.is_some() {
            tracing::info!("the audit device accepts records again");
            self.flush();
        }
    }

    /// Writes what is committed to the device. What it does not take waits.
    pub(super) fn flush(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        let had_room = device.left().is_none();
        match device.append(self.waiting.iter().skip(self.written)) {
            Ok(taken) => {
                self.written += taken;
                if had_room && device.left().is_some() {
                    tracing::warn!(
                        path = %self.to.path.display(),
                        "the audit file's disk is full: what was allocated ahead is used"
                    );
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Makes the device durable if that is due.
    pub(super) fn sync_if_due(&mut self, every: Duration) {
        if every <= self.synced.elapsed() {
            self.sync();
        }
    }

    /// A second has passed: looks after the device, though nothing was recorded.
    pub(super) fn tick(&mut self) {
        self.revive();
        if let Some(device) = &mut self.device
            && device.left().is_some()
        {
            match device.make_room() {
                Ok(true) => tracing::info!("the audit file's disk has room again"),
                Ok(false) => {}
                Err(error) => self.failed(&error),
            }
        }
        self.flush();
        self.sync();
    }

    /// Makes the device durable, and lets go of what it has for good.
    pub(super) fn sync(&mut self) {
        self.synced = Instant::now();
        // What was lost with a deleted file is written to the next, which then is made durable.
        for _ in 0..2 {
            let Some(device) = &mut self.device else {
                return;
            };
            match device.sync() {
                Ok(Synced::Kept | Synced::Moved) => {
                    for (number, line) in self.waiting.drain(..self.written) {
                        self.waiting_bytes -= line.len();
                        self.trimmed.push(number);
                    }
                    self.written = 0;
                    return;
                }
                Ok(Synced::Lost) => {
                    self.written = 0;
                    self.flush();
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        tracing::warn!(
            cause = %error,
            path = %self.to.path.display(),
            "the audit device does not accept records: they wait in the store"
        );
        self.device = None;
        self.written = 0;
        self.tried = Instant::now();
    }
}
