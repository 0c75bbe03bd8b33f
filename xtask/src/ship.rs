//! `cargo xtask ship`: the static binary that is shipped.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};

use crate::workspace::{cargo, musl_target, must, target_dir};
use crate::{packages, programs, say};

/// What is built.
const PROGRAM: [&str; 2] = ["--package", "bastide"];
/// The variable by which tests set the clock of a program that is built for them.
const TEST_CLOCK: &[u8] = b"BASTIDE_TEST_CLOCK";

/// Builds the binary, and fails unless it needs nothing beside it.
pub fn run() -> anyhow::Result<ExitCode> {
    packages::ensure_installed(&[packages::SHIP])?;
    let target = musl_target();
    programs::ensure_target(&target)?;
    say::note("building the binary that is shipped (some minutes)");
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "ship"]);
    must(build.args(PROGRAM).args(["--target", &target]))?;
    let program = target_dir().join(&target).join("ship/bastide");
    let bytes =
        fs::read(&program).with_context(|| format!("could not read `{}`", program.display()))?;
    ensure!(
        is_static(&bytes),
        "`{}` needs a loader or a library",
        program.display()
    );
    ensure!(
        !obeys_tests(&bytes),
        "`{}` lets its environment set its clock",
        program.display()
    );
    let megabytes = bytes.len() / 1_000_000;
    say::data(&format!(
        "{}: {megabytes} MB, static",
        relative(&program).display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(crate::workspace::root()).unwrap_or(path)
}

/// Returns whether a program knows the variable that sets its clock.
fn obeys_tests(program: &[u8]) -> bool {
    program
        .windows(TEST_CLOCK.len())
        .any(|bytes| bytes == TEST_CLOCK)
}

/// Returns whether a 64-bit little-endian ELF file names neither a loader nor a needed library.
///
/// Offsets are those of the ELF-64 object file format: program headers (type 2 is the dynamic
/// section, type 3 names a loader), then entries of the dynamic section (tag 1 is a needed library).
fn is_static(file: &[u8]) -> bool {
    let Some(headers) = program_headers(file) else {
        return false;
    };
    headers.iter().all(|header| match header.kind {
        3 => false,
        2 => needs_no_library(file, header),
        _ => true,
    })
}

struct ProgramHeader {
    kind: u64,
    offset: usize,
    length: usize,
}

fn program_headers(file: &[u8]) -> Option<Vec<ProgramHeader>> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let start = index(file, 0x20, 8)?;
    let size = index(file, 0x36, 2)?;
    let count = index(file, 0x38, 2)?;
    let header = |at: usize| {
        let base = start.checked_add(at.checked_mul(size)?)?;
        let kind = number(file, base, 4)?;
        let offset = index(file, base + 0x08, 8)?;
        let length = index(file, base + 0x20, 8)?;
        Some(ProgramHeader {
            kind,
            offset,
            length,
        })
    };
    (0..count).map(header).collect()
}

fn needs_no_library(file: &[u8], header: &ProgramHeader) -> bool {
    let end = header.offset.saturating_add(header.length);
    let Some(section) = file.get(header.offset..end) else {
        return false;
    };
    section
        .chunks_exact(16)
        .all(|entry| number(entry, 0, 8) != Some(1))
}

fn index(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    usize::try_from(number(bytes, at, length)?).ok()
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests;
