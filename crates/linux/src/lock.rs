//! A file that one process at a time holds, and that tells which: so that a daemon runs once, and
//! can be found and ended when it answers nobody.
//!
//! The kernel frees it with the process's end, however that comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest content: a process id.
const CONTENT_BYTES_MAX: u64 = 32;

/// A lock that this process holds until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Frees it at once. Closing the file alone would leave the lock to a child that another thread
    /// has just forked, until that child executes its program.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
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
    Ok(Some(Lock { file }))
}

/// The process that holds a lock.
#[derive(Debug)]
pub struct Holder {
    pid: u32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Returns who holds the lock at `path`; `None` if nobody does. Who may write the file could have
    /// put the number of a stranger into it: a process of another user than the file's is refused.
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
                if user_of(before)? != std::fs::metadata(path)?.uid() {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
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

/// Returns the user that a process runs as. Who owns its folder under `/proc` says nothing: that is
/// root for one that is not to be dumped.
fn user_of(pid: u32) -> io::Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    user.ok_or_else(|| io::ErrorKind::InvalidData.into())
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
