//! Doing something as root, through sudo where we are not root.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::ensure;

use crate::workspace::find_program;

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns `program` as a command that runs as root.
pub fn command(program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    ensure!(
        find_program("sudo").is_some(),
        "this needs root, and there is no sudo: run it as root"
    );
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    Ok(command)
}
