//! `cargo xtask bench`: Bastide beside what a user would pick instead.
//!
//! Every peer runs in the same two networks on the same machine, in rounds that go through all of
//! them in turn, so that what the machine does meanwhile meets each alike. Compare the ratios; the
//! absolute numbers are this machine's.

mod iperf;
mod network;
mod peers;
mod table;

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use self::network::Network;
use self::peers::Peer;
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
    let Some(("mesh", rest)) = words
        .split_first()
        .map(|(name, rest)| (name.as_str(), rest))
    else {
        bail!("there is one bench: `mesh [--seconds N] [--rounds N] [PEER...]`");
    };
    let plan = plan(rest)?;
    packages::ensure_installed(&[packages::BENCH])?;
    let program = match plan.program {
        Some(program) => program.into(),
        None => programs::bastide()?,
    };
    if !root::is_root() {
        say::note("asking sudo for root: the bench makes networks");
        let own = std::env::current_exe().context("could not find this program")?;
        let mut again = root::command(own)?;
        again
            .args(["bench", "mesh"])
            .args(rest)
            .arg("--program")
            .arg(program);
        let code = status(&mut again)?
            .code()
            .and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
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
