//! `cargo xtask test`: every test, as root, and the demo's scenario last.
//!
//! ```text
//! units (parallel) -> integration (one at a time) -> examples/hello -> demo  ==> N passed, ...
//! ```

mod outcome;

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

use self::outcome::{Outcome, Reader};
use crate::workspace::{cargo, musl_target, must, output, root as checkout, target_dir};
use crate::{packages, programs, root, say};

/// Runs the tests whose names contain one of `filters`, or all of them.
pub fn run(filters: &[String]) -> anyhow::Result<ExitCode> {
    packages::ensure_installed(&[packages::DEMO, packages::TESTS])?;
    programs::ensure_target(&musl_target())?;
    say::note("building every test and program (the first time takes some minutes)");
    // One build of all, so that the features of what is shared are the same for each runner below.
    must(cargo().args(["build", "--locked", "--workspace", "--all-targets"]))?;
    if !root::is_root() {
        say::note("asking sudo for root: tests make networks and run container engines");
    }

    let mut total = Outcome::default();
    for mut runner in runners(filters)? {
        total.add(watch(&mut runner)?);
    }
    if filters.is_empty()
        || filters
            .iter()
            .any(|filter| "demo".contains(filter.as_str()))
    {
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

fn runners(filters: &[String]) -> anyhow::Result<Vec<Command>> {
    let mut units = tests()?;
    units
        .args(["--workspace", "--lib", "--bins", "--", "--show-output"])
        .args(filters);
    let mut integration = tests()?;
    // Networks and engines need the machine for themselves.
    integration.args([
        "--workspace",
        "--test",
        "*",
        "--",
        "--show-output",
        "--test-threads=1",
    ]);
    integration.args(filters);
    let mut hello = tests()?;
    hello
        .arg("--manifest-path")
        .arg(checkout().join("examples/hello/Cargo.toml"));
    hello.arg("--target-dir").arg(target_dir().join("hello"));
    hello.args(["--", "--show-output"]).args(filters);
    Ok(vec![units, integration, hello])
}

/// Returns `cargo test`, which builds as this user and runs as root.
fn tests() -> anyhow::Result<Command> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--locked", "--no-fail-fast"]);
    command.env("CARGO_TERM_QUIET", "true");
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

fn host_target() -> anyhow::Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say for which host it is")?
        .to_owned())
}

/// Runs a runner, shows what it prints, and reads the outcome from it.
fn watch(command: &mut Command) -> anyhow::Result<Outcome> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("could not run cargo")?;
    let lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    let mut reader = Reader::default();
    for line in lines {
        let line = line.context("a test printed what is no text")?;
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
