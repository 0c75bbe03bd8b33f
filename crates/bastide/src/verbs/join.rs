//! `bastide join`: one more host.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bastide_agent::Handover;
use bastide_api::{Secret, Ticket};

use crate::cli::Join;
use crate::exit::{Exit, Failure};
use crate::verbs::{agent_socket, preflight, services, up};
use crate::{output, paths, privilege};

/// Longest ticket that is read from standard input, in bytes.
const TICKET_BYTES_MAX: u64 = 4096;
/// How long joining may take.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Joins the cluster that the ticket is for.
pub async fn run(arguments: Join) -> anyhow::Result<()> {
    privilege::require_root("bastide join")?;
    let node = up::settings(&arguments.node)?;
    let mut running = services::Running::new(arguments.node.foreground)?;
    let ticket = read_ticket(&arguments.ticket)?;
    // Parsed here only to refuse a mistyped one at once; the agent spends it.
    let parsed: Ticket = ticket.expose().parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("{error}"))
            .hint("print a new one on a controller with `bastide ticket`")
    })?;
    drop(parsed);
    if !Path::new(paths::AGENT).exists() {
        preflight::check_engine(&node.engine).await?;
    }
    running
        .start_agent(Some(Handover {
            ticket: ticket.expose().clone(),
            node,
        }))
        .await?;
    running.wait_for_agent(READY_WITHIN).await?;
    let status = agent_socket::status().await?;
    output::note(format!(
        "this host is a node of cluster `{}`; see `bastide status`",
        status.cluster
    ));
    running.wait().await
}

fn read_ticket(argument: &str) -> anyhow::Result<Secret<String>> {
    if argument != "-" {
        return Ok(Secret::new(argument.to_owned()));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(TICKET_BYTES_MAX)
        .read_to_string(&mut text)
        .context("could not read the ticket from standard input")?;
    Ok(Secret::new(text))
}
