//! `cargo xtask bench`: Bastide beside what a user would pick instead.
//!
//! Every peer runs in the same two networks on the same machine, in rounds that go through all of
//! them in turn, so that what the machine does meanwhile meets each alike. Compare the ratios; the
//! absolute numbers are this machine's.

mod iperf;
mod join;
mod network;
mod peers;
mod secrets;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use self::network::Network;
use self::peers::Peer;
use crate::programs::Build;
use crate::workspace::status;
use crate::{packages, programs, root, say};

/// What is measured.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The program, where it is built already.
    program: Option<String>,
    seconds: u32,
    rounds: u32,
    peers: Vec<Peer>,
}

/// Runs a bench.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let split = words.split_first();
    match split.map(|(name, rest)| (name.as_str(), rest)) {
        Some(("mesh", rest)) => mesh(rest),
        Some(("join", rest)) => join::run(rest),
        Some(("secrets", rest)) => secrets::run(rest),
        _ => bail!(
            "there are three benches: `mesh [--seconds N] [--rounds N] [PEER...]`, `join [--count N]`, \
             `secrets [--seconds N] [--clients N] [OPERATION...]`"
        ),
    }
}

/// Runs this bench again, as root, with the program that was built as this user.
fn again_as_root(name: &str, words: &[String], program: &Path) -> anyhow::Result<ExitCode> {
    say::note("asking sudo for root: the bench makes networks");
    let own = std::env::current_exe().context("could not find this program")?;
    let mut again = root::command(own)?;
    again.args(["bench", name]).args(words);
    let code = status(again.arg("--program").arg(program))?
        .code()
        .and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn mesh(words: &[String]) -> anyhow::Result<ExitCode> {
    let plan = plan(words)?;
    packages::ensure_installed(&[packages::BENCH])?;
    let program = match plan.program {
        Some(program) => PathBuf::from(program),
        None => programs::bastide(Build::Optimised)?,
    };
    if !root::is_root() {
        return again_as_root("mesh", words, &program);
    }

    let mut results = Vec::new();
    for round in 1..=plan.rounds {
        for &peer in &plan.peers {
            say::note(&format!("round {round} of {}: {peer}", plan.rounds));
            let network = Network::up()?;
            let tunnel = peer.start(&network, &program)?;
            let sample = iperf::measure(&network, &tunnel, plan.seconds)
                .with_context(|| format!("could not measure {peer}"))?;
            results.push((peer, sample));
        }
    }
    for line in table::lines(&results) {
        say::data(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(words: &[String]) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        program: None,
        seconds: 5,
        rounds: 3,
        peers: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("`{word}` needs a value"))
        };
        match word.as_str() {
            "--program" => plan.program = Some(value()?.clone()),
            "--seconds" => plan.seconds = value()?.parse().context("`--seconds` takes a number")?,
            "--rounds" => plan.rounds = value()?.parse().context("`--rounds` takes a number")?,
            name => plan.peers.push(name.parse()?),
        }
    }
    ensure!(
        0 < plan.seconds && 0 < plan.rounds,
        "nothing would be measured"
    );
    if plan.peers.is_empty() {
        plan.peers = Peer::ALL.to_vec();
    }
    Ok(plan)
}

#[cfg(test)]
mod tests;
