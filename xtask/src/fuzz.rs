//! `cargo xtask fuzz`: looks for inputs that break a parser, with as much time as it is given.
//!
//! Everything is built once more, by the stable compiler, with a counter at each branch; the targets
//! are those of the crates' `fuzz.rs`. What is found lies in `target/fuzz/findings`: mend it, and
//! keep the input in `fuzz/corpus`, which the tests replay.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, bail, ensure};

use crate::workspace::{cargo, host_target, must, root, target_dir};
use crate::{packages, say};

/// How long each target runs, unless told otherwise (seconds).
const SECONDS: u64 = 60;
/// Longest input (bytes).
const INPUT_BYTES_MAX: u32 = 64 << 10;
/// One input that takes longer is a finding (seconds); a busy machine is slow to begin with.
const INPUT_SECONDS_MAX: u32 = 60;
/// What counts branches, and tells the fuzzer what was compared with what. `bastide_fuzz` shows the
/// targets.
const FLAGS: &str = "--cfg bastide_fuzz -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    seconds: u64,
    targets: BTreeSet<String>,
}

/// Runs the targets that are named, or all: as many at a time as there are processors, and only when
/// nobody else wants them.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let known = corpora()?;
    let wish = Wish::parse(words, &known)?;
    packages::ensure_installed(&[packages::FUZZ])?;
    let program = build()?;
    let mut waiting: VecDeque<String> = wish.targets.into_iter().collect();
    let mut running: Vec<(String, Child)> = Vec::new();
    let mut found = Vec::new();
    let places = available_parallelism().map_or(1, usize::from);
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < places
            && let Some(target) = waiting.pop_front()
        {
            say::note(&format!("{target}: {} s", wish.seconds));
            let child = start(&program, &target, wish.seconds)?;
            running.push((target, child));
        }
        // All run for the same time, so that the first ends first.
        let (target, mut child) = running.remove(0);
        let status = child.wait().context("could not wait for the fuzzer")?;
        if !status.success() {
            found.push(target);
        }
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for target in found {
        let log = folder().join(format!("{target}.log"));
        say::data(&format!("{target}: found something, see {}", log.display()));
    }
    Ok(ExitCode::FAILURE)
}

impl Wish {
    fn parse(words: &[String], known: &BTreeSet<String>) -> anyhow::Result<Self> {
        let mut wish = Self {
            seconds: SECONDS,
            targets: BTreeSet::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--seconds" {
                let number = words.next().and_then(|word| word.parse().ok());
                wish.seconds = number.context("`--seconds` wants a number")?;
            } else if known.contains(word) {
                wish.targets.insert(word.clone());
            } else {
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                bail!("`{word}` is no target: there are {}", known.join(", "));
            }
        }
        if wish.targets.is_empty() {
            wish.targets.clone_from(known);
        }
        Ok(wish)
    }
}

/// Returns the targets: each has a folder, which `tidy` sees to.
fn corpora() -> anyhow::Result<BTreeSet<String>> {
    let folder = root().join("fuzz/corpus");
    let entries = fs::read_dir(&folder).context("could not read `fuzz/corpus`")?;
    entries
        .map(|entry| {
            let name = entry.context("could not read `fuzz/corpus`")?.file_name();
            name.into_string()
                .ok()
                .context("a corpus has a name that is no text")
        })
        .collect()
}

/// Where everything of fuzzing is built and kept.
fn folder() -> PathBuf {
    target_dir().join("fuzz")
}

/// Builds the program. The flags are for the host alone (`--target`): what runs while building
/// cannot be linked with counters.
fn build() -> anyhow::Result<PathBuf> {
    let host = host_target()?;
    say::note("building everything with counters (the first time takes some minutes)");
    let mut build = cargo();
    build
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(folder())
        .arg("--manifest-path")
        .arg(root().join("fuzz/Cargo.toml"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_INCREMENTAL", "0");
    must(&mut build)?;
    let program = folder().join(host).join("release/fuzz");
    ensure!(program.exists(), "`{}` was not built", program.display());
    Ok(program)
}

fn start(program: &PathBuf, target: &str, seconds: u64) -> anyhow::Result<Child> {
    let (work, findings) = (
        folder().join("corpus").join(target),
        folder().join("findings"),
    );
    for needed in [&work, &findings] {
        fs::create_dir_all(needed).context("could not make a folder for the fuzzer")?;
    }
    let log = fs::File::create(folder().join(format!("{target}.log")))
        .context("could not make the fuzzer's log")?;
    let mut fuzzer = Command::new("nice");
    fuzzer
        .args(["-n", "19"])
        .arg(program)
        .env("BASTIDE_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
        .args(["-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(work)
        .arg(root().join("fuzz/corpus").join(target))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    fuzzer.spawn().context("could not start the fuzzer")
}
