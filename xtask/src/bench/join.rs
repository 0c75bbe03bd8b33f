//! How long joining takes: from the start of `bastide join -` on a fresh host behind a NAT router of
//! its own until the controller's mesh address has answered a ping.
//!
//! All in a lab of the program's own, by its verbs, as a user would type them. The clock is read on
//! the joining host, so that what the lab costs does not count; pings follow each other at
//! [`PING_WITHIN_S`], which is how exact a time is. No container engine runs.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};

use super::table::median;
use crate::packages::{self, Need};
use crate::programs::Build;
use crate::workspace::{must, output};
use crate::{programs, root, say};

/// What it needs.
const NEEDS: &[Need] = &[
    Need {
        program: "nft",
        packages: &["nftables"],
        purpose: "the lab's NAT routers and Bastide's firewall",
    },
    Need {
        program: "ping",
        packages: &["iputils-ping"],
        purpose: "tells when a host is on the mesh",
    },
];
/// Most hosts: each has an address of its own in the lab's internet.
const COUNT_MAX: usize = 100;
/// How long one ping waits for its answer.
const PING_WITHIN_S: f64 = 0.02;
/// The controller's address in the lab's internet, and in the mesh: the first of the default plan.
const CONTROLLER: &str = "203.0.113.10";
const CONTROLLER_IN_MESH: &str = "100.72.0.1";

/// What is measured.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The program, where it is built already.
    program: Option<PathBuf>,
    /// How many hosts join, one after the other.
    count: usize,
}

/// Runs the bench.
pub fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let plan = plan(words)?;
    packages::ensure_installed(&[NEEDS])?;
    let program = match plan.program {
        Some(program) => program,
        None => programs::bastide(Build::Optimised)?,
    };
    if !root::is_root() {
        return super::again_as_root("join", words, &program);
    }
    let lab = Lab::up(&program, plan.count)?;
    let _controller = lab.begin()?;
    let mut times_ms = Vec::new();
    for number in 1..=plan.count {
        let ms = lab.join(number)?;
        say::data(&format!("join {number:>3}: {ms:>6.0} ms"));
        times_ms.push(ms);
    }
    say::data(&summary(times_ms));
    Ok(ExitCode::SUCCESS)
}

fn plan(words: &[String]) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        program: None,
        count: 10,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("`{word}` needs a value"))?;
        match word.as_str() {
            "--program" => plan.program = Some(value.into()),
            "--count" => plan.count = value.parse().context("`--count` takes a number")?,
            _ => bail!("`{word}` is no option: --count N, --program FILE"),
        }
    }
    ensure!(
        (1..=COUNT_MAX).contains(&plan.count),
        "`--count` takes 1 to {COUNT_MAX}"
    );
    Ok(plan)
}

fn summary(mut times_ms: Vec<f64>) -> String {
    times_ms.sort_by(f64::total_cmp);
    let (fastest, slowest) = (times_ms.first(), times_ms.last());
    format!(
        "median of {}: {:.0} ms (fastest {:.0} ms, slowest {:.0} ms)",
        times_ms.len(),
        median(times_ms.clone()),
        fastest.unwrap_or(&f64::NAN),
        slowest.unwrap_or(&f64::NAN),
    )
}

/// Returns the lab's file: a controller in the internet, and hosts behind a router each.
fn file(name: &str, count: usize) -> String {
    let mut text = format!(
        "lab: {name}\n\
         nodes:\n\
         \x20 internet: {{ kind: switch }}\n\
         \x20 controller:\n\
         \x20   kind: host\n\
         \x20   interfaces:\n\
         \x20     eth0: {{ link: internet, address: {CONTROLLER}/24 }}\n"
    );
    for number in 1..=count {
        write!(
            text,
            "\x20 router-{number}:\n\
             \x20   kind: router\n\
             \x20   nat: port-restricted\n\
             \x20   wan: wan\n\
             \x20   interfaces:\n\
             \x20     wan: {{ link: internet, address: 203.0.113.{outside}/24 }}\n\
             \x20     lan: {{ link: host-{number}, address: 192.168.1.1/24 }}\n\
             \x20 host-{number}:\n\
             \x20   kind: host\n\
             \x20   interfaces:\n\
             \x20     eth0: {{ link: router-{number}, address: 192.168.1.10/24 }}\n\
             \x20   routes: {{ default: 192.168.1.1 }}\n",
            outside = 100 + number,
        )
        .expect("writing to a string does not fail");
    }
    text
}

/// A lab of the program; gone when dropped.
struct Lab<'a> {
    program: &'a Path,
    file: PathBuf,
}

impl<'a> Lab<'a> {
    fn up(program: &'a Path, count: usize) -> anyhow::Result<Self> {
        let name = format!("bench-join-{}", std::process::id());
        let path = std::env::temp_dir().join(format!("{name}.yaml"));
        fs::write(&path, file(&name, count)).context("could not write the lab's file")?;
        let lab = Self {
            program,
            file: path,
        };
        must(&mut lab.verb("up"))?;
        Ok(lab)
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program);
        command.args(["lab", verb]).arg(&self.file);
        command
    }

    /// A command on a host.
    fn on(&self, host: &str, words: &[&str]) -> Command {
        let mut command = self.verb("exec");
        command.arg(host).args(words);
        command
    }

    /// `bastide up` on the controller.
    fn begin(&self) -> anyhow::Result<Running> {
        let program = self.program.to_string_lossy();
        let words = [&program, "up", "--foreground", "--public", CONTROLLER];
        let mut up = self.on("controller", &words);
        let mut child = up
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not run the program")?;
        let stdout = child.stdout.take().expect("its output is a pipe");
        let controller = Running(child);
        let mut ticket = String::new();
        BufReader::new(stdout)
            .read_line(&mut ticket)
            .context("could not read from `bastide up`")?;
        ensure!(!ticket.is_empty(), "`bastide up` printed no ticket");
        Ok(controller)
    }

    /// Joins a host and returns how long that took, in milliseconds.
    fn join(&self, number: usize) -> anyhow::Result<f64> {
        let program = self.program.to_string_lossy();
        let ticket = output(&mut self.on("controller", &[&program, "ticket"]))?;
        let host = format!("host-{number}");
        let script = script(&program);
        let mut child = self
            .on(&host, &["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not run a shell")?;
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        stdin
            .write_all(ticket.as_bytes())
            .context("could not hand over the ticket")?;
        drop(stdin);
        let ended = child.wait_with_output().context("could not wait")?;
        ensure!(ended.status.success(), "{host} did not get onto the mesh");
        let text = String::from_utf8(ended.stdout).context("the time is no text")?;
        let us: f64 = text.trim().parse().context("the time is no number")?;
        Ok(us / 1000.0)
    }
}

/// What runs on a joining host: it prints the time in microseconds. `join` stays until the lab ends.
fn script(program: &str) -> String {
    format!(
        "read -r ticket
        began=$(date +%s%N)
        echo \"$ticket\" | {program} join - --foreground >/dev/null 2>/run/join.log &
        tries=0
        until ping -n -q -c 1 -W {PING_WITHIN_S} {CONTROLLER_IN_MESH} >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 1500 ] || {{ cat /run/join.log >&2; exit 1; }}
        done
        echo $((($(date +%s%N) - began) / 1000))"
    )
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if let Err(error) = must(&mut self.verb("down")) {
            say::note(&format!("error: {error:#}"));
        }
        // Only how the lab was made is in it.
        let _ = fs::remove_file(&self.file);
    }
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests;
