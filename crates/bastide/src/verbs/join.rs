//! `bastide join`: one more host.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bastide_agent::{Handover, JoinError, Joining};
use bastide_api::Secret;
use bastide_client::ClientError;
use bastide_linux::memory;

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
    memory::harden().context("could not protect this process's memory")?;
    let node = up::settings(&arguments.node)?;
    let mut running = services::Running::new(arguments.node.foreground)?;
    let ticket = read_ticket(&arguments.ticket)?;
    // A join that was refused has left a folder, but no membership.
    let was_node = bastide_agent::last_view(Path::new(paths::AGENT));
    if was_node.is_ok_and(|was_node| was_node.is_none()) {
        preflight::check_engine(&node.engine).await?;
    }
    let handover = Handover {
        ticket: ticket.expose().clone(),
        node,
    };
    // By this process and not by the agent: whoever typed it is told at once how it went.
    bastide_agent::join_host(Path::new(paths::AGENT), handover, tell)
        .await
        .map_err(said)?;
    running.start_agent(None).await?;
    running.wait_for_agent(READY_WITHIN).await?;
    let status = agent_socket::status().await?;
    output::note(format!(
        "this host is a node of cluster `{}`; see `bastide status`",
        status.cluster
    ));
    running.wait().await
}

fn tell(how: Joining) {
    match how {
        Joining::Joined(_) => {}
        Joining::WasMember(name) => output::note(format!(
            "this host is node `{name}` already: the ticket is not spent"
        )),
        Joining::Waits(join) => {
            let key: String = join.fingerprint.chars().take(16).collect();
            output::note(format!(
                "the ticket is good, and an operator has to let this host in; on a controller, type\n  \
                 bastide node admit {}\nif `bastide node pending` shows this host's key there: {key}",
                join.name
            ));
            output::note(format!("waiting until {} at most", join.expires));
        }
    }
}

/// Says why a join went wrong, with the code and the command that mends it.
fn said(error: JoinError) -> anyhow::Error {
    let new = "print a new ticket on a controller with `bastide ticket`";
    let failure = match &error {
        JoinError::Ticket(why) => Failure::new(Exit::Usage, why.to_string()).hint(new),
        JoinError::OtherCluster { .. } => Failure::new(Exit::Conflict, error.to_string())
            .hint("leave that one first: `bastide down --forget`"),
        JoinError::Removed { .. } => Failure::new(Exit::Refused, error.to_string())
            .hint("`bastide down --forget`, then join with a new ticket"),
        JoinError::Busy => {
            Failure::new(Exit::Conflict, error.to_string()).hint("see `bastide status`")
        }
        JoinError::Refused(ClientError::Refused { status, errors }) => {
            let why = errors.join("; ");
            let what = format!("the cluster did not take this host in: {why}");
            // What it says names the command, but for these.
            match status {
                429 => Failure::new(Exit::Refused, what).hint("wait, then type the same again"),
                503 => Failure::new(Exit::Unreachable, what).hint("type the same again later"),
                _ => Failure::new(Exit::Refused, what),
            }
        }
        JoinError::Refused(ClientError::Untrusted { address, .. }) => {
            let what = format!(
                "whoever answers at {address} is not of the cluster that the ticket is for: nothing \
                 was sent to it"
            );
            Failure::new(Exit::Refused, what).hint(new)
        }
        JoinError::Refused(ClientError::Unreachable(_) | ClientError::Lost { .. }) => {
            let what = "no controller that the ticket names answers";
            return anyhow::Error::new(error).context(Failure::new(Exit::Unreachable, what).hint(
                "make sure that TCP port 7443 of the controller is reached from here, then type \
                 the same again",
            ));
        }
        JoinError::Refused(_) | JoinError::Membership(_) => return error.into(),
    };
    failure.into()
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
