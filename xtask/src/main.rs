//! `cargo xtask`: builds, tests, checks and shows Bastide.
//!
//! Works on a machine that holds nothing but Rust and Debian's base system: what a verb needs
//! besides, it installs, and says what for. Verbs are thin; what decides (rules, needs, outcomes of
//! tests) is pure and tested. It never starts or stops a service of this machine.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod demo;
mod fuzz;
mod packages;
mod programs;
mod root;
mod say;
mod ship;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::bail;

/// The verbs and what they do; `tidy` holds the README to them.
const VERBS: [(&str, &str); 10] = [
    (
        "demo [ARGS]",
        "three sites, one cluster, on this machine: runs `bastide demo ARGS`",
    ),
    ("test [FILTER]", "every test, the demo's scenario last"),
    ("check", "format, lints and tidy"),
    ("tidy", "layers, purity, unsafe code, licences, documents"),
    (
        "bench mesh [PEERS]",
        "throughput of the mesh beside others, in one run",
    ),
    (
        "bench join",
        "time from `bastide join` to the first ping over the mesh",
    ),
    (
        "bench secrets [OPERATIONS]",
        "requests a second of the control plane beside Vault's and OpenBao's, in one run",
    ),
    (
        "fuzz [--seconds N] [TARGET]",
        "looks for inputs that break a parser; all targets for a minute each",
    ),
    ("ship", "the static binary that is shipped"),
    ("install PACKAGES", "what the other verbs ask root for"),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            say::note(&format!("error: {error}"));
            for cause in error.chain().skip(1) {
                say::note(&format!("  cause: {cause}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let Some((verb, rest)) = words.split_first() else {
        say::note(&usage());
        return Ok(ExitCode::from(2));
    };
    match verb.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "check" => done(check::run),
        "tidy" => done(tidy::run),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "ship" => ship::run(),
        "install" => packages::install_as_root(rest).map(|()| ExitCode::SUCCESS),
        "help" | "--help" | "-h" => {
            say::data(&usage());
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("`{other}` is no verb\n\n{}", usage()),
    }
}

fn done(verb: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<ExitCode> {
    Ok(if verb()? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn usage() -> String {
    let line = |(verb, what): (&str, &str)| format!("  cargo xtask {verb:<20} {what}\n");
    VERBS.into_iter().map(line).collect()
}
