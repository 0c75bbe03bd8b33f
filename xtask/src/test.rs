//! `cargo xtask test`: every test, as root, and the demo's scenario last.
//!
//! ```text
//! units (parallel) -> integration (one at a time) -> examples/hello -> demo  ==> N passed, ...
//! ```

mod outcome;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

use self::outcome::{Libtest, Nextest, Outcome, Reader};
use crate::workspace::{cargo, host_target, musl_target, must, root as checkout, target_dir};
use crate::{packages, programs, root, say};

/// What only tests have: a clock that they set. It is on in each build of theirs, or each would build
/// anew what the other built.
pub const FEATURES: [&str; 2] = ["--features", "bastide/clock-shift"];

/// Runs the tests whose names contain one of `filters`, or all of them.
pub fn run(filters: &[String]) -> anyhow::Result<ExitCode> {
    packages::ensure_installed(&[packages::DEMO, packages::TESTS])?;
    programs::ensure_target(&musl_target())?;
    say::note("building every test and program (the first time takes some minutes)");
    // One build of all, so that the features of what is shared are the same for each runner below.
    must(
        cargo()
            .args(["build", "--locked", "--workspace", "--all-targets"])
            .args(FEATURES),
    )?;
    if !root::is_root() {
        say::note("asking sudo for root: tests make networks and run container engines");
    }

    let mut total = Outcome::default();
    if has_nextest() {
        total.add(watch(&mut nextest(filters)?, Nextest::default())?);
    } else {
        for mut runner in runners(filters)? {
            total.add(watch(&mut runner, Libtest::default())?);
        }
    }
    total.add(watch(&mut hello(filters)?, Libtest::default())?);
    if filters.is_empty() || filters.iter().any(|filter| filter == "demo") {
        total.add(demo()?);
    }
    if !total.skips.is_empty() {
        say::data("\nskipped:");
        for skip in &total.skips {
            say::data(&format!("  {skip}"));
        }
    }
    if !total.failures.is_empty() {
        say::data("\nfailed:");
        for failure in &total.failures {
            say::data(&format!("  {failure}"));
        }
    }
    say::data(&format!("\n{total}"));
    Ok(if total.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn runners(filters: &[String]) -> anyhow::Result<[Command; 2]> {
    let mut units = tests(&["test", "--quiet"])?;
    units
        .args(["--workspace", "--lib", "--bins"])
        .args(FEATURES)
        .args(["--", "--show-output"])
        .args(filters);
    let mut integration = tests(&["test", "--quiet"])?;
    // Networks and engines need the machine for themselves.
    integration
        .args(["--workspace", "--test", "*"])
        .args(FEATURES)
        .args(["--", "--show-output", "--test-threads=1"])
        .args(filters);
    Ok([units, integration])
}

fn hello(filters: &[String]) -> anyhow::Result<Command> {
    let mut hello = tests(&["test", "--quiet"])?;
    hello
        .arg("--manifest-path")
        .arg(checkout().join("examples/hello/Cargo.toml"));
    hello.arg("--target-dir").arg(target_dir().join("hello"));
    hello.args(["--", "--show-output"]).args(filters);
    Ok(hello)
}

/// cargo-nextest takes minutes to build, and so is used where it is found and not asked for. What
/// runs alone is said in `.config/nextest.toml`.
fn has_nextest() -> bool {
    let mut version = cargo();
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn nextest(filters: &[String]) -> anyhow::Result<Command> {
    let mut nextest = tests(&["nextest", "run"])?;
    nextest
        .args([
            "--workspace",
            "--success-output",
            "final",
            "--color",
            "never",
        ])
        .args(FEATURES)
        .args(filters);
    if !filters.is_empty() {
        nextest.args(["--no-tests", "pass"]);
    }
    Ok(nextest)
}

/// Returns a runner of tests, which builds as this user and runs as root.
fn tests(runner: &[&str]) -> anyhow::Result<Command> {
    let mut command = cargo();
    command.args(runner).args(["--locked", "--no-fail-fast"]);
    if !root::is_root() {
        let host = host_target()?;
        let name = host.to_uppercase().replace('-', "_");
        command.env(
            format!("CARGO_TARGET_{name}_RUNNER"),
            "sudo --preserve-env --",
        );
    }
    Ok(command)
}

/// Runs a runner, shows what it prints, and reads the outcome from it.
fn watch<R: Reader>(command: &mut Command, mut reader: R) -> anyhow::Result<Outcome> {
    let command = if R::READS_ERRORS {
        command.stderr(Stdio::piped())
    } else {
        command.stdout(Stdio::piped())
    };
    let mut child = command.spawn().context("could not run cargo")?;
    let output = child.stdout.take().map(|it| Box::new(it) as Box<dyn Read>);
    let errors = child.stderr.take().map(|it| Box::new(it) as Box<dyn Read>);
    let output = output.or(errors).expect("one of the two is piped");
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("could not read from cargo")?;
        let line = String::from_utf8_lossy(&line);
        if reader.line(&line) {
            say::data(&line);
        }
    }
    let status = child.wait().context("could not wait for cargo")?;
    Ok(reader.finish(status.success()))
}

/// Plays the demo's scenario with the program that the tests were built with.
fn demo() -> anyhow::Result<Outcome> {
    let hello = programs::hello()?;
    let bastide = target_dir().join("debug/bastide");
    say::data("\ndemo: three sites, one secured cluster");
    let mut demo = root::command(bastide)?;
    demo.args(["demo", "--json", "--hello"]).arg(hello);
    let status = demo.status().context("could not run the demo")?;
    Ok(Outcome::of_one("the demo's scenario", status.success()))
}
