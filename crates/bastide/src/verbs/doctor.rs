//! `bastide doctor`: this host, layer by layer.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use bastide_agent::{Doctor, examine, is_sound};
use bastide_api::doctor::{Check, Outcome};

use crate::cli::Format;
use crate::exit::{Exit, Failure};
use crate::{output, paths, privilege};

/// The container engine's socket of a host that is no node yet.
const ENGINE: &str = "/var/run/docker.sock";

/// Prints every check; ends without success if one failed.
pub async fn run(format: Format) -> anyhow::Result<ExitCode> {
    privilege::require_root("bastide doctor")?;
    let doctor = Doctor {
        state: paths::AGENT.into(),
        socket: paths::AGENT_SOCKET.into(),
        engine: ENGINE.into(),
    };
    let checks = examine(&doctor).await.map_err(|error| {
        let what = "this node's own keys, membership or view cannot be read";
        let failure = Failure::new(Exit::Failed, what)
            .hint("`bastide down --forget`, then `bastide join -` with a new ticket");
        anyhow::Error::new(error).context(failure)
    })?;
    if format.json {
        output::data(serde_json::to_string(&checks).context("could not print the checks")?);
    } else {
        output::data(page(&checks).trim_end());
    }
    Ok(if is_sound(&checks) {
        ExitCode::SUCCESS
    } else {
        Exit::Failed.into()
    })
}

fn page(checks: &[Check]) -> String {
    let mut text = String::new();
    let mut layer = None;
    let width = checks.iter().map(|check| check.name.chars().count()).max();
    let width = width.unwrap_or(0);
    for check in checks {
        if layer != Some(check.layer) {
            layer = Some(check.layer);
            text.push_str(check.layer.heading());
            text.push('\n');
        }
        let outcome = match check.outcome {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
            Outcome::Skip => "skip",
        };
        let (name, found) = (&check.name, &check.found);
        let _ = writeln!(text, "  {outcome}  {name:<width$}  {found}");
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "        {:<width$}  -> {mend}", "");
        }
    }
    let failed = checks
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .count();
    let _ = match failed {
        0 => writeln!(text, "\nEverything is as it should be."),
        1 => writeln!(
            text,
            "\n1 check failed: mend it, then `bastide doctor` again."
        ),
        _ => writeln!(text, "\n{failed} checks failed: mend the first one first."),
    };
    text
}

#[cfg(test)]
mod tests;
