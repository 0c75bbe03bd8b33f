//! The audit records on their way to one device: chained, stored with the effect that they tell of,
//! and forgotten by the store only once the device has them for good.
//!
//! What was only looked at is not stored on its way: its record is with the device's file before the
//! answer, and durable within a second. The next commit stores what is not durable by then, so that
//! what is durable never has a gap.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_store::{Key, KeyRange, OpenSnapshot};
use serde::{Deserialize, Serialize};

use crate::core::audit::devices::{DeviceId, Target};
use crate::core::need::Need;
use crate::core::tables;
use crate::run::audit_file::{AuditFile, LineHash, Mark, Synced, line_hash};
use crate::run::audit_remote::Remote;
use crate::run::writer::WriterError;

/// Most records that wait for the device, and most bytes of them. Half of it is for what must go on.
const WAITING_MAX: usize = 20_000;
const WAITING_BYTES_MAX: usize = 8 << 20;
/// How often a device that failed is tried again.
const REVIVE_EVERY: Duration = Duration::from_secs(1);

/// Where the server's own audit records go.
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

/// How a device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// By appending to a file.
    File {
        path: PathBuf,
        ahead_bytes: u64,
        mode: Option<u32>,
    },
    /// Not at all: its lines are dropped.
    Discard,
    /// By a thread.
    Remote(Target),
}

impl Way {
    /// The server's own device.
    pub(super) fn own(to: AuditTo) -> Self {
        Self::File {
            path: to.path,
            ahead_bytes: to.ahead_bytes,
            mode: None,
        }
    }

    /// A device that was enabled through the API.
    pub(super) fn to(target: Target) -> Self {
        match target {
            Target::File { path, mode } => Self::File {
                path: path.into(),
                ahead_bytes: 0,
                mode,
            },
            Target::Discard => Self::Discard,
            target @ (Target::Socket { .. } | Target::Syslog { .. }) => Self::Remote(target),
        }
    }
}

/// The device itself, while it works.
enum Sink {
    File(AuditFile),
    Discard,
    Remote(Remote),
}

/// The audit chain's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    next: u64,
    previous: String,
}

/// A record that is not yet durable on the device.
struct Line {
    number: u64,
    text: Arc<[u8]>,
    hash: LineHash,
    /// Whether it is in the store meanwhile.
    is_stored: bool,
}

/// The records that wait for a device, and the device.
pub(super) struct Outbox {
    id: DeviceId,
    name: String,
    way: Way,
    sink: Option<Sink>,
    head: Head,
    /// The head as it is stored.
    head_stored: Option<Head>,
    /// Oldest first.
    waiting: VecDeque<Line>,
    waiting_bytes: usize,
    /// How many of them were given to the device.
    written: usize,
    /// Numbers of records that are durable on the device and still in the store.
    trimmed: Vec<u64>,
    /// Records that became durable and that nobody asked for yet.
    durable: Vec<(u64, LineHash)>,
    /// Requests that it could not take while others could.
    missed: u64,
    /// Whether nobody has asked yet for what is durable.
    is_first: bool,
    synced: Instant,
    tried: Instant,
}

impl Outbox {
    /// Makes the outbox of a device; nothing is opened yet. `name`: for the log.
    pub(super) fn new(id: DeviceId, name: String, way: Way) -> Self {
        Self {
            id,
            name,
            way,
            sink: None,
            head: Head::default(),
            head_stored: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            written: 0,
            trimmed: Vec::new(),
            durable: Vec::new(),
            missed: 0,
            is_first: true,
            synced: Instant::now(),
            tried: Instant::now(),
        }
    }

    pub(super) fn id(&self) -> DeviceId {
        self.id
    }

    /// Reads what waits in the store, and opens the device. On a full disk it is tried again later.
    pub(super) fn open(&mut self, store: &OpenSnapshot) -> Result<(), WriterError> {
        self.read(store)?;
        match self.open_sink() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(source) => {
                let path = match &self.way {
                    Way::File { path, .. } => path.clone(),
                    Way::Discard | Way::Remote(_) => PathBuf::new(),
                };
                return Err(WriterError::Audit { path, source });
            }
        }
        self.flush();
        self.sync();
        Ok(())
    }

    fn open_sink(&mut self) -> io::Result<()> {
        self.written = 0;
        self.sink = Some(match &self.way {
            Way::File {
                path,
                ahead_bytes,
                mode,
            } => Sink::File(AuditFile::open_as(path, *ahead_bytes, *mode)?),
            Way::Discard => Sink::Discard,
            Way::Remote(target) => {
                let from = self.waiting.front().map_or(self.head.next, |it| it.number);
                Sink::Remote(Remote::start(&self.name, target.clone(), from)?)
            }
        });
        self.go_on_after_file();
        Ok(())
    }

    /// Goes on where the file ends, if that is later than the store knows: what was only looked at is
    /// known to the file alone.
    fn go_on_after_file(&mut self) {
        if let Some(Sink::File(file)) = &self.sink
            && let Some((last, hash)) = file.tail()
            && self.head.next <= last
        {
            self.head = Head {
                next: last + 1,
                previous: data_encoding::HEXLOWER.encode(&hash),
            };
        }
    }

    fn head_at(&self) -> Key {
        if self.id == DeviceId::default() {
            return Key::new(tables::WRITER, "audit-head");
        }
        let id = data_encoding::HEXLOWER.encode(&self.id.0);
        Key::new(tables::WRITER, format!("audit-head/{id}"))
    }

    fn prefix(&self) -> Vec<u8> {
        if self.id == DeviceId::default() {
            return Vec::new();
        }
        self.id.0.to_vec()
    }

    /// Returns where a record waits in the store.
    fn record_at(&self, number: u64) -> Key {
        let mut at = self.prefix();
        at.extend_from_slice(&number.to_be_bytes());
        Key::new(tables::AUDIT_OUTBOX, at)
    }

    fn read(&mut self, store: &OpenSnapshot) -> Result<(), WriterError> {
        self.head_stored = match store.get(&self.head_at())? {
            Some(text) => Some(serde_json::from_slice(text.expose())?),
            None => None,
        };
        self.head = self.head_stored.clone().unwrap_or_default();
        let prefix = self.prefix();
        let all = KeyRange::prefix(tables::AUDIT_OUTBOX, prefix.as_slice());
        // Those of other devices may lie between the server's own: those have longer keys.
        for (key, line) in store.range(&all, 16 * WAITING_MAX)? {
            let number = key.rest().strip_prefix(prefix.as_slice());
            if let Some(number) = number.and_then(|it| <[u8; 8]>::try_from(it).ok()) {
                let text = line.expose().as_slice();
                let hash = line_hash(text);
                self.push(u64::from_be_bytes(number), text.into(), hash, true);
            }
        }
        Ok(())
    }

    /// Begins again from what is committed: what was chained since is not.
    pub(super) fn reload(&mut self, store: &OpenSnapshot) {
        self.clear();
        if let Err(error) = self.read(store) {
            tracing::error!(device = self.name, cause = ?error, "the audit outbox cannot be read");
            return self.forget();
        }
        if let Some(Sink::Remote(_)) = self.sink {
            self.sink = None;
        }
        self.go_on_after_file();
    }

    /// Lets go of all that was chained since the last commit, and of the device.
    pub(super) fn forget(&mut self) {
        self.sink = None;
        self.clear();
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.written = 0;
        self.trimmed.clear();
    }

    fn push(&mut self, number: u64, text: Arc<[u8]>, hash: LineHash, is_stored: bool) {
        self.waiting_bytes += text.len();
        self.waiting.push_back(Line {
            number,
            text,
            hash,
            is_stored,
        });
    }

    /// Returns whether what has this need can be recorded.
    pub(super) fn accepts(&self, need: Need, store_has_room: bool) -> bool {
        let below = |share: usize| {
            self.waiting.len() < WAITING_MAX / share
                && self.waiting_bytes < WAITING_BYTES_MAX / share
        };
        match need {
            Need::Vital => below(1),
            Need::Glance | Need::Made | Need::Record | Need::Room => {
                let is_taken = match &self.sink {
                    None => store_has_room,
                    Some(Sink::Discard) => true,
                    Some(Sink::Remote(remote)) => store_has_room || !remote.is_failing(),
                    Some(Sink::File(file)) => match (file.left(), &self.way) {
                        (None, _) => true,
                        (Some(left), Way::File { ahead_bytes, .. }) => ahead_bytes / 4 < left,
                        (Some(_), Way::Discard | Way::Remote(_)) => false,
                    },
                };
                is_taken && below(2)
            }
        }
    }

    /// Returns whether a record that is given to the device is safe from a crash of this program.
    pub(super) fn is_prompt(&self) -> bool {
        match &self.sink {
            Some(Sink::Discard) => true,
            Some(Sink::File(file)) => file.left().is_none() && self.written == self.waiting.len(),
            None | Some(Sink::Remote(_)) => false,
        }
    }

    /// Lets the device fail at whatever comes next, as it does on a broken disk.
    #[cfg(test)]
    pub(super) fn break_device(&mut self) {
        if let Some(Sink::File(file)) = &mut self.sink {
            file.break_it();
        }
    }

    /// Notes that it could not take a request that others took.
    pub(super) fn miss(&mut self) {
        self.missed += 1;
    }

    /// Numbers records, ties each to the one before, and lets them wait.
    pub(super) fn chain(&mut self, records: [&[u8]; 2]) {
        if self.missed != 0 {
            let gap = format!("{{\"type\":\"gap\",\"missed\":{}", self.missed);
            self.missed = 0;
            self.chain_one(gap.as_bytes());
        }
        for record in records {
            self.chain_one(record);
        }
    }

    fn chain_one(&mut self, record: &[u8]) {
        let number = self.head.next;
        let mut line = Vec::with_capacity(record.len() + 112);
        line.extend_from_slice(record);
        line.extend_from_slice(b",\"seq\":");
        line.extend_from_slice(number.to_string().as_bytes());
        line.extend_from_slice(b",\"prev\":\"");
        line.extend_from_slice(self.head.previous.as_bytes());
        line.extend_from_slice(b"\"}");
        let hash = line_hash(&line);
        self.head.next += 1;
        self.head.previous.clear();
        data_encoding::HEXLOWER.encode_append(&hash, &mut self.head.previous);
        self.push(number, line.into(), hash, false);
    }

    /// Returns what is to be stored along with the next commit: records that are durable nowhere, and
    /// the head. It counts as stored from now on.
    pub(super) fn take_unstored(&mut self) -> Vec<(Key, Arc<[u8]>)> {
        let mut found = Vec::new();
        let fresh = self.waiting.iter().rev().take_while(|it| !it.is_stored);
        let from = self.waiting.len() - fresh.count();
        for at in from..self.waiting.len() {
            let line = &mut self.waiting[at];
            line.is_stored = true;
            let (number, text) = (line.number, Arc::clone(&line.text));
            found.push((self.record_at(number), text));
        }
        if self.head_stored.as_ref() != Some(&self.head) {
            let text = serde_json::to_vec(&self.head).expect("the head is plain JSON");
            found.push((self.head_at(), text.into()));
            self.head_stored = Some(self.head.clone());
        }
        found
    }

    /// Returns where the records stand that the device has for good.
    pub(super) fn take_trimmed(&mut self) -> Vec<Key> {
        let numbers = std::mem::take(&mut self.trimmed);
        numbers.into_iter().map(|it| self.record_at(it)).collect()
    }

    /// Returns the records that became durable in the server's own file since the last time, from
    /// number `from` on.
    pub(super) fn take_durable(&mut self, from: u64) -> Vec<(u64, LineHash)> {
        let durable = std::mem::take(&mut self.durable);
        if durable.first().is_none_or(|(first, _)| *first <= from) && !self.is_first {
            return durable;
        }
        // Since the last start, or while the file could not be used.
        let Some(Sink::File(file)) = &mut self.sink else {
            self.durable = durable;
            return Vec::new();
        };
        self.is_first = false;
        match file.lines_from(from) {
            Ok(lines) => lines.into_iter().chain(durable).collect(),
            Err(error) => {
                tracing::error!(device = self.name, cause = %error, "the audit log cannot be read");
                durable
            }
        }
    }

    /// Returns all that the store holds for this device, which was disabled.
    pub(super) fn leave(mut self) -> Vec<Key> {
        self.flush();
        self.sync();
        let stored = self.waiting.iter().filter(|line| line.is_stored);
        let numbers: Vec<_> = stored.map(|line| line.number).collect();
        let mut keys = self.take_trimmed();
        keys.extend(numbers.into_iter().map(|it| self.record_at(it)));
        keys.push(self.head_at());
        keys
    }

    /// Opens a device that failed, and gives it what it missed.
    pub(super) fn revive(&mut self) {
        if self.sink.is_some() || self.tried.elapsed() < REVIVE_EVERY {
            return;
        }
        self.tried = Instant::now();
        if self.open_sink().is_ok() {
            tracing::info!(device = self.name, "the audit device accepts records again");
            self.flush();
        }
    }

    /// Gives the device what is committed. What it does not take waits.
    pub(super) fn flush(&mut self) {
        match &mut self.sink {
            None => {}
            Some(Sink::Discard) => self.written = self.waiting.len(),
            Some(Sink::Remote(remote)) => {
                for line in self.waiting.iter().skip(self.written) {
                    if !remote.offer(line.number, Arc::clone(&line.text)) {
                        break;
                    }
                    self.written += 1;
                }
            }
            Some(Sink::File(file)) => {
                let had_room = file.left().is_none();
                let lines = self.waiting.iter().skip(self.written);
                match file.append(lines.map(|line| (line.number, &*line.text, line.hash))) {
                    Ok(taken) => {
                        self.written += taken;
                        if had_room && file.left().is_some() {
                            tracing::warn!(
                                device = self.name,
                                "the audit file's disk is full: what was allocated ahead is used"
                            );
                        }
                    }
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    /// Returns whether this share of what may wait does. From an eighth on the device is to be made
    /// durable: one that keeps up refuses nobody.
    pub(super) fn is_filled_by(&self, share: usize) -> bool {
        WAITING_MAX / share <= self.waiting.len() || WAITING_BYTES_MAX / share <= self.waiting_bytes
    }

    /// Returns whether it is to be made durable soon.
    pub(super) fn is_filling(&self) -> bool {
        self.written != 0 && self.is_filled_by(8)
    }

    /// Makes the device durable if that is due, or if it is filling.
    pub(super) fn sync_if_due(&mut self, every: Duration) {
        if every <= self.synced.elapsed() || self.is_filling() {
            self.sync();
        }
    }

    /// A second has passed: looks after the device, though nothing was recorded.
    pub(super) fn tick(&mut self) {
        self.revive();
        if let Some(Sink::File(file)) = &mut self.sink
            && file.left().is_some()
        {
            match file.make_room() {
                Ok(true) => {
                    tracing::info!(device = self.name, "the audit file's disk has room again");
                }
                Ok(false) => {}
                Err(error) => self.failed(&error),
            }
        }
        self.flush();
        self.sync();
    }

    /// Returns how far the device is written, if it is a file: what a sync makes durable that holds up
    /// nobody.
    pub(super) fn mark(&self) -> Option<Mark> {
        match &self.sink {
            Some(Sink::File(file)) => Some(file.mark()),
            None | Some(Sink::Discard | Sink::Remote(_)) => None,
        }
    }

    /// Takes what became of the sync of a mark, and lets go of what the device has for good.
    pub(super) fn settle(&mut self, mark: &Mark, synced: io::Result<()>) {
        let Some(Sink::File(file)) = &mut self.sink else {
            return;
        };
        if !file.is_of(mark) {
            return;
        }
        self.synced = Instant::now();
        match synced.and_then(|()| file.settle(mark)) {
            Ok(Synced::Kept | Synced::Moved) => self.let_go(),
            Ok(Synced::Lost) => {
                self.written = 0;
                self.flush();
                self.sync();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Makes the device durable, and lets go of what it has for good.
    pub(super) fn sync(&mut self) {
        self.synced = Instant::now();
        // What was lost with a deleted file is written to the next, which then is made durable.
        for _ in 0..2 {
            if let Some(Sink::File(file)) = &mut self.sink {
                match file.sync() {
                    Ok(Synced::Kept | Synced::Moved) => {}
                    Ok(Synced::Lost) => {
                        self.written = 0;
                        self.flush();
                        continue;
                    }
                    Err(error) => return self.failed(&error),
                }
            }
            return self.let_go();
        }
    }

    /// Lets go of what the device has for good.
    fn let_go(&mut self) {
        let before = |end: u64| self.waiting.partition_point(|line| line.number < end);
        let done = match &self.sink {
            None => return,
            Some(Sink::Discard) => self.written,
            Some(Sink::Remote(remote)) => before(remote.taken()),
            Some(Sink::File(file)) => file.last_durable().map_or(0, |last| before(last + 1)),
        };
        let done = done.min(self.written);
        for line in self.waiting.drain(..done) {
            self.waiting_bytes -= line.text.len();
            if line.is_stored {
                self.trimmed.push(line.number);
            }
            if self.id == DeviceId::default() {
                self.durable.push((line.number, line.hash));
            }
        }
        self.written -= done;
    }

    fn failed(&mut self, error: &io::Error) {
        tracing::warn!(
            device = self.name,
            cause = %error,
            "the audit device does not accept records: they wait in the store"
        );
        self.sink = None;
        self.written = 0;
        self.tried = Instant::now();
    }

    /// Returns up to where the file is known to be durable, in bytes.
    #[cfg(test)]
    pub(super) fn length_durable(&self) -> u64 {
        match &self.sink {
            Some(Sink::File(file)) => file.length_durable(),
            None | Some(Sink::Discard | Sink::Remote(_)) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
