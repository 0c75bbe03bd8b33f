//! `cargo xtask bench`: Bastide beside what a user would pick instead.

use std::process::ExitCode;

use anyhow::bail;

use crate::packages;

/// Runs a bench.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    packages::ensure_installed(&[packages::BENCH])?;
    bail!("no bench `{}`", words.join(" "));
}
