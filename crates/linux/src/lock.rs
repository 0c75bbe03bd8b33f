//! A file that one process at a time holds, and that tells which: so that a daemon runs once, and
//! can be found and ended when it answers nobody.
//!
//! The kernel frees it with the process's end, however that comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest content: a process id.
const CONTENT_BYTES_MAX: u64 = 32;

/// A lock that this process holds until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock at `path`, making the file if needed; `None` if another process holds it.
pub fn take(path: &Path) -> io::Result<Option<Lock>> {
    let mut file = open(path)?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(Lock { _file: file }))
}

/// The process that holds a lock.
#[derive(Debug)]
pub struct Holder {
    pid: u32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Returns who holds the lock at `path`; `None` if nobody does.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let Some(before) = pid(path)? else {
                return Ok(None);
            };
            let raw = Pid::from_raw(before.cast_signed()).ok_or(io::ErrorKind::InvalidData)?;
            let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
                // It has just ended.
                Err(Errno::SRCH) => continue,
                result => result?,
            };
            // The descriptor is of the holder if the number was the holder's all the time.
            if pid(path)? == Some(before) {
                return Ok(Some(Self { pid: before, pidfd }));
            }
        }
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal; one that has ended takes it silently.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Returns the process id in the file, if the file is locked.
fn pid(path: &Path) -> io::Result<Option<u32>> {
    let file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    if try_lock(&file)? {
        return Ok(None);
    }
    let mut text = String::new();
    (&file).take(CONTENT_BYTES_MAX).read_to_string(&mut text)?;
    // Whoever has just taken it has not written its number yet.
    Ok(Some(text.trim().parse().unwrap_or(0)).filter(|pid| *pid != 0))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
