//! Memory that holds keys: not dumped, not read by others, not swapped out.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

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
    /// Whether all memory, present and future, stays out of swap. Needs `RLIMIT_MEMLOCK` or
    /// CAP_IPC_LOCK; without either the process runs on, and swap should be off or encrypted.
    pub locked: bool,
}

/// Makes the process one that is never dumped to a file, that other processes of its user can
/// neither trace nor look into, and, where it may, one that is never swapped out.
pub fn harden() -> Result<Hardened, MemoryError> {
    let failed = |operation| {
        move |error: rustix::io::Errno| MemoryError {
            operation,
            source: error.into(),
        }
    };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbid tracing"))?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .map_err(failed("forbid core dumps"))?;
    // ONFAULT: pages are locked when they are first touched, so that stacks and heaps that were
    // reserved and never used cost nothing.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(Hardened {
        locked: mlockall(flags).is_ok(),
    })
}
