//! A process in a node, and what it did.

use std::fs::File;
use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bastide_linux::spawn::{Child, Signal};

use super::lab::LabError;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A process in a node. Dropping it ends it, together with what it started in its session's group.
#[derive(Debug)]
pub struct Process {
    pub(super) node: String,
    pub(super) child: Arc<Mutex<Child>>,
    /// The other end of its standard input, if that is a pipe.
    pub stdin: Option<File>,
    /// The other end of its standard output, if that is a pipe.
    pub stdout: Option<File>,
    /// The other end of its standard error, if that is a pipe.
    pub stderr: Option<File>,
}

impl Process {
    /// Returns its process id, as seen from our own namespace.
    pub fn pid(&self) -> u32 {
        lock(&self.child).pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        lock(&self.child).signal(signal).map_err(self.follow())
    }

    /// Returns how it ended, or `None` if it still runs.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, LabError> {
        lock(&self.child).try_wait().map_err(self.follow())
    }

    /// Waits until it has ended, at most `limit`; `None` if it still runs then.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<ExitStatus>, LabError> {
        lock(&self.child).wait_for(limit).map_err(self.follow())
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> Result<ExitStatus, LabError> {
        lock(&self.child).wait().map_err(self.follow())
    }

    /// Lets it run on when this value is dropped, until the lab ends.
    pub fn leave(self) {
        // Nobody waits for it any more but `Lab::down`, or the machine when we end.
        std::mem::forget(self);
    }

    fn follow(&self) -> impl FnOnce(io::Error) -> LabError + use<> {
        let node = self.node.clone();
        move |source| LabError::Follow { node, source }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.signal_group(Signal::KILL);
            let _ = child.signal(Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// Takes the lock of a child; one who panicked with it had changed nothing by halves.
pub(super) fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
