//! The journal on disk, shared by all that change this host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bastide_linux::{file, sysctl};
use tracing::{info, warn};

use super::host::HostError;
use super::state::{StateDir, StateError};
use crate::core::journal::{Change, Journal, LaterFormat};

/// Most bytes of a journal. A change is some hundred bytes, and a host has some dozens.
const JOURNAL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The journal on disk. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    /// The journal, open for appending; `None` until the first change.
    file: Option<File>,
    /// Its length in bytes: what is beyond was cut off.
    len: u64,
    journal: Journal,
    damaged: Vec<usize>,
}

impl Ledger {
    /// Takes up the journal of earlier runs.
    pub fn open(state: &StateDir) -> Result<Self, StateError> {
        let path = state.journal();
        adopt(&path, &state.old_journal())?;
        let bytes = file::read_bounded(&path, JOURNAL_BYTES_MAX)
            .map_err(|source| unreadable(&path, source))?;
        let mut inner = Inner {
            path,
            file: None,
            len: 0,
            journal: Journal::new(),
            damaged: Vec::new(),
        };
        if let Some(bytes) = bytes {
            let found = Journal::read(&bytes).map_err(|LaterFormat| StateError::LaterFormat {
                path: inner.path.clone(),
            })?;
            if !found.damaged.is_empty() {
                let path = inner.path.display();
                warn!(%path, lines = ?found.damaged, "the journal of changes is damaged");
            }
            inner.len = found.whole as u64;
            inner.journal = found.journal;
            inner.damaged = found.damaged;
        }
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Writes a change down, before it is made.
    pub fn record(&self, change: Change) -> Result<(), HostError> {
        let mut inner = self.inner();
        let Some(line) = inner.journal.record(change.clone()) else {
            return Ok(());
        };
        inner.append(&line).inspect_err(|_| {
            // It is not made, so it is not to be undone.
            inner.journal.forget(&change);
        })
    }

    /// The changes still to undo, last first.
    pub fn to_undo(&self) -> Vec<Change> {
        self.inner().journal.undo_order().cloned().collect()
    }

    /// The numbers of the lines that could not be read.
    pub fn damaged(&self) -> Vec<usize> {
        self.inner().damaged.clone()
    }

    /// Forgets a change that was undone. That it could not be written down does no harm: it is undone
    /// once more then.
    pub fn forget(&self, change: &Change) -> Result<(), HostError> {
        let mut inner = self.inner();
        let line = inner.journal.forget(change);
        inner.append(&line)
    }

    /// Deletes the journal once nothing is left to undo, which needs no room on the disk; one that
    /// was damaged is put aside. Returns whether nothing was left.
    pub fn close(&self) -> Result<bool, HostError> {
        let mut inner = self.inner();
        if !inner.journal.is_empty() {
            return Ok(false);
        }
        let path = inner.path.clone();
        let closed = if inner.damaged.is_empty() {
            fs::remove_file(&path)
        } else {
            fs::rename(&path, path.with_extension("damaged"))
        };
        match closed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(&path, error));
            }
            _ => {}
        }
        inner.file = None;
        inner.len = 0;
        Ok(true)
    }

    /// Gives a kernel setting a value, unless it has it.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), HostError> {
        let before = sysctl::read(name).map_err(HostError::Sysctl)?;
        if before == value {
            return Ok(());
        }
        self.record(Change::Sysctl {
            name: name.to_owned(),
            before,
        })?;
        info!(name, value, "kernel setting changed");
        sysctl::write(name, value).map_err(HostError::Sysctl)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Appends a line, durably, or nothing.
    fn append(&mut self, line: &[u8]) -> Result<(), HostError> {
        let (path, from) = (self.path.clone(), self.len);
        let fail = |error| unwritable(&path, error);
        if self.file.is_none() {
            if from == 0 {
                let empty = Journal::new().bytes();
                file::write_private(&path, &empty).map_err(fail)?;
                self.len = empty.len() as u64;
            }
            let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
            // Drops what was cut off.
            file.set_len(self.len).map_err(fail)?;
            self.file = Some(file);
        }
        let file = self.file.as_mut().expect("it was just opened");
        let appended = file.write_all(line).and_then(|()| file.sync_all());
        if let Err(error) = appended {
            // Part of it may be there.
            if file.set_len(self.len).is_err() {
                self.file = None;
            }
            return Err(fail(error));
        }
        self.len += line.len() as u64;
        Ok(())
    }
}

/// Turns a journal of the older format into one of this.
fn adopt(path: &Path, old: &Path) -> Result<(), StateError> {
    let bytes =
        file::read_bounded(old, JOURNAL_BYTES_MAX).map_err(|source| unreadable(old, source))?;
    let Some(bytes) = bytes else { return Ok(()) };
    let write = |source| StateError::Write {
        path: path.to_owned(),
        source,
    };
    let later = |LaterFormat| StateError::LaterFormat {
        path: old.to_owned(),
    };
    if !path.exists() {
        match Journal::read_object(&bytes).map_err(later)? {
            Some(journal) => file::write_private(path, &journal.bytes()).map_err(write)?,
            // A line that means nothing: what cannot be read is told when it should be undone.
            None => file::write_private(path, b"\n").map_err(write)?,
        }
    }
    fs::remove_file(old).map_err(write)
}

fn unreadable(path: &Path, source: io::Error) -> StateError {
    StateError::Read {
        path: path.to_owned(),
        source,
    }
}

fn unwritable(path: &Path, source: io::Error) -> HostError {
    HostError::Journal(StateError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
