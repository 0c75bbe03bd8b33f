//! Real kernels and real engines: each host of these tests is a network, mount, UTS and PID
//! namespace with a container engine of its own; a bridge between them stands in for the mesh.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail and skip aloud"
)]

mod cluster;
mod engines;
mod filter;
mod hosts;
mod images;
mod rebuild;
mod registry;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Engines are started one scenario at a time: they need the machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long forms are asked for: `BASTIDE_TESTS=long`.
fn long() -> bool {
    std::env::var("BASTIDE_TESTS").is_ok_and(|form| form == "long")
}

/// Tells whether the test can run; if not, says what is missing.
fn ready(programs: &[&str]) -> bool {
    let root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|text| text.contains("\nUid:\t0\t0\t0\t0"));
    if !root {
        eprintln!("skipped: root is missing");
        return false;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let found =
        |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if let Some(missing) = programs.iter().find(|program| !found(program)) {
        eprintln!("skipped: {missing} is missing");
        return false;
    }
    true
}
