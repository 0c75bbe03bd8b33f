//! `cargo xtask demo`: installs, builds, and runs the demo.

use std::process::ExitCode;

use crate::programs::Build;
use crate::workspace::status;
use crate::{packages, programs, root, say};

/// Runs `bastide demo` with `words` and passes its exit code on.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    packages::ensure_installed(&[packages::DEMO])?;
    let hello = programs::hello()?;
    let bastide = programs::bastide(Build::Quick)?;
    if !root::is_root() {
        say::note("asking sudo for root: the demo makes networks and runs container engines");
    }
    let ended = status(
        root::command(bastide)?
            .arg("demo")
            .arg("--hello")
            .arg(hello)
            .args(words),
    )?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
