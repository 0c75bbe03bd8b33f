//! A process's memory: what holds keys is not dumped, not read by others, not swapped out.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, capabilities, disable_transparent_huge_pages};

/// Why the process could not be hardened.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation}")]
pub struct MemoryError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

/// What [`harden`] reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardened {
    /// Whether all memory, present and future, stays out of swap. It does where the process has
    /// CAP_IPC_LOCK or an unlimited `RLIMIT_MEMLOCK`; otherwise swap should be off or encrypted.
    pub locked: bool,
}

/// Makes the process one that is never dumped to a file, that other processes of its user can
/// neither trace nor look into, and, where it may, one that is never swapped out.
///
/// To be called after privileges were dropped: memory that was locked with a capability is counted
/// against the limit once the capability is gone, and every later allocation then fails.
pub fn harden() -> Result<Hardened, MemoryError> {
    let failed = |operation| {
        move |error: rustix::io::Errno| MemoryError {
            operation,
            source: error.into(),
        }
    };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbid tracing"))?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(failed("forbid core dumps"))?;
    Ok(Hardened {
        locked: may_lock_all() && lock_all(),
    })
}

/// Keeps the process on small pages: of many small values that come and go, a huge page (2 MiB) stays
/// whole for the one that is left on it. For a daemon that is to be small; without effect where the kernel
/// has no huge pages. Programs that it starts inherit it (prctl(2), `PR_SET_THP_DISABLE`).
pub fn keep_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on: more memory is used");
    }
}

/// Under a limit, locking all would succeed while little is used, and make allocations fail later.
fn may_lock_all() -> bool {
    let is_unlimited = getrlimit(Resource::Memlock).current.is_none();
    is_unlimited
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

fn lock_all() -> bool {
    // ONFAULT: pages are locked when they are first touched, so that stacks and heaps that were
    // reserved and never used cost nothing.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

#[cfg(test)]
mod tests;
