//! How many requests a second a secrets server answers, over TLS with keep-alive on loopback, beside
//! Vault and OpenBao where they are installed.
//!
//! Each server is started here, with a store on disk and a file that audits, and asked by `wrk` with one
//! thread; what the load costs is taken from the same machine, so compare the ratios of one run. CPU
//! time per request, of the server alone, is what a busy machine does not blur.

mod operations;
mod server;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use self::operations::OPERATIONS;
use self::server::{Kind, Server};
use crate::packages::{self, Need};
use crate::programs::Build;
use crate::workspace::find_program;
use crate::{programs, say};

/// What it needs.
const NEEDS: &[Need] = &[
    Need {
        program: "wrk",
        packages: &["wrk"],
        purpose: "makes the load",
    },
    Need {
        program: "curl",
        packages: &["curl"],
        purpose: "sets the servers up",
    },
    Need {
        program: "openssl",
        packages: &["openssl"],
        purpose: "makes the servers' certificate",
    },
];

/// What is measured.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The program, where it is built already.
    program: Option<PathBuf>,
    seconds: u32,
    clients: u32,
    /// The operations; none: all.
    operations: Vec<String>,
}

/// Runs the bench.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let plan = plan(words)?;
    packages::ensure_installed(&[NEEDS])?;
    let own = match &plan.program {
        Some(program) => program.clone(),
        None => programs::bastide(Build::Optimised)?,
    };
    let mut servers = vec![(Kind::Bastide, own)];
    for kind in [Kind::OpenBao, Kind::Vault] {
        match find_program(kind.program()) {
            Some(path) => servers.push((kind, path)),
            None => say::note(&format!("`{}` is not on PATH: left out", kind.program())),
        }
    }
    let mut lines = vec![head()];
    for (kind, program) in &servers {
        lines.extend(measure(*kind, program, &plan)?);
    }
    for line in lines {
        say::data(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn head() -> String {
    format!(
        "{:<9} {:<16} {:>10} {:>9} {:>9} {:>12} {:>8}",
        "server", "operation", "requests/s", "p50", "p99", "CPU us each", "refused"
    )
}

fn measure(kind: Kind, program: &std::path::Path, plan: &Plan) -> anyhow::Result<Vec<String>> {
    say::note(&format!("starting {}", program.display()));
    let server = Server::start(kind, program)
        .with_context(|| format!("could not start `{}`", program.display()))?;
    let idle_mb = server.resident_mb()?;
    let served = operations::prepare(&server)?;
    let mut lines = Vec::new();
    let name = kind.program();
    for operation in OPERATIONS {
        let wanted =
            plan.operations.is_empty() || plan.operations.iter().any(|name| name == operation.name);
        if !wanted {
            continue;
        }
        if !served.contains(&operation.engine) {
            lines.push(format!(
                "{name:<9} {:<16} not measured: the engine `{}` is not served",
                operation.name, operation.engine
            ));
            continue;
        }
        say::note(&format!("{name}: {}", operation.name));
        let clients = operation.clients.unwrap_or(plan.clients);
        let before = server.cpu_seconds()?;
        let load = wrk::run(&server, operation, clients, plan.seconds)?;
        let cpu_us = (server.cpu_seconds()? - before) * 1e6 / load.requests.max(1.0);
        lines.push(format!(
            "{name:<9} {:<16} {:>10.0} {:>9} {:>9} {cpu_us:>12.1} {:>8}",
            operation.name, load.per_second, load.p50, load.p99, load.refused
        ));
    }
    lines.push(format!(
        "{name:<9} resident memory: {idle_mb:.0} MB idle, {:.0} MB after",
        server.resident_mb()?
    ));
    Ok(lines)
}

fn plan(words: &[String]) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        program: None,
        seconds: 6,
        clients: 32,
        operations: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("`{word}` needs a value"))
        };
        match word.as_str() {
            "--program" => plan.program = Some(value()?.into()),
            "--seconds" => plan.seconds = value()?.parse().context("`--seconds` takes a number")?,
            "--clients" => plan.clients = value()?.parse().context("`--clients` takes a number")?,
            name if OPERATIONS.iter().any(|known| known.name == name) => {
                plan.operations.push(name.to_owned());
            }
            other => {
                let known: Vec<_> = OPERATIONS.iter().map(|known| known.name).collect();
                bail!(
                    "`{other}` is no option (--seconds N, --clients N, --program FILE) and no \
                     operation ({})",
                    known.join(", ")
                );
            }
        }
    }
    ensure!(
        (1..=600).contains(&plan.seconds) && (1..=1000).contains(&plan.clients),
        "`--seconds` takes 1 to 600, `--clients` 1 to 1000"
    );
    Ok(plan)
}

#[cfg(test)]
mod tests;
