//! `bastide init`, `bastide unseal`, `bastide seal`: a control plane that opens only when people
//! bring shares of its key.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bastide_agent::Handover;
use bastide_api::Secret;
use bastide_client::{Client, ClientError};
use bastide_linux::file;
use bastide_store::Sharing;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{Init, Unseal};
use crate::exit::{Exit, Failure};
use crate::verbs::{operator, preflight, serve, up};
use crate::{output, paths, privilege};

/// Longest line with a share, in bytes; one has 66 at most.
const LINE_BYTES_MAX: u64 = 1024;
/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the server tells of its seal.
#[derive(Deserialize)]
struct Status {
    #[serde(rename = "type")]
    kind: String,
    sealed: bool,
    t: u8,
    n: u8,
    progress: usize,
}

/// Begins a cluster that is sealed by shares, prints them, and starts nothing.
pub async fn init(arguments: Init) -> anyhow::Result<()> {
    privilege::require_root("bastide init")?;
    if Path::new(paths::SERVER).join("store.redb").exists() {
        return Err(
            Failure::new(Exit::Conflict, "this host has a cluster already")
                .hint("start it with `bastide up`")
                .into(),
        );
    }
    let sharing = Sharing::new(arguments.shares.into(), arguments.threshold.into())
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let node = up::settings(&arguments.up.node)?;
    let plan = up::plan(&arguments.up)?;
    preflight::check_engine(&node.engine).await?;
    preflight::check_ranges(&plan, &node.engine).await?;
    let made = serve::bootstrap(&arguments.up, &node, plan, Some(sharing)).await?;
    let handover = Handover {
        ticket: made.ticket,
        node,
    };
    let handover = Secret::new(serde_json::to_vec(&handover)?);
    file::create_private_dir(Path::new(paths::AGENT))
        .with_context(|| format!("could not make `{}`", paths::AGENT))?;
    file::write_private(Path::new(paths::AGENT_HANDOVER), handover.expose())
        .with_context(|| format!("could not write `{}`", paths::AGENT_HANDOVER))?;
    // Before it counts: shares that nobody saw would close the store for ever.
    if arguments.format.json {
        output::data(
            json!({ "threshold": sharing.threshold(), "shares": made.shares }).to_string(),
        );
    } else {
        for share in &made.shares {
            output::data(share);
        }
    }
    serve::settle()?;
    output::note(format!(
        "cluster `{}` begins on this host. The lines above are its shares: give each to another\n\
         person, and keep none here. They are not shown again.",
        arguments.up.cluster
    ));
    output::note(meaning(sharing.threshold(), sharing.shares()));
    output::note("start it with `bastide up`, then open it with `bastide unseal`");
    Ok(())
}

/// Returns what it means that a controller is sealed by shares.
fn meaning(threshold: u8, shares: u8) -> String {
    format!(
        "Any {threshold} of the {shares} shares open the control plane, which starts sealed: after each reboot,\n\
         update or crash of this host it waits for `bastide unseal`. If more than {} are lost, nothing\n\
         brings back what is stored.\n\
         While it is sealed, mesh, names and running containers go on; nothing joins, nothing is\n\
         deployed or changed, and no certificate is renewed. Nodes' certificates are good for 24 hours\n\
         and are renewed after 12: from the moment of sealing every node is safe for at least\n\
         12 hours. A node whose certificate ended is dropped by the others and needs a new ticket.",
        shares - threshold
    )
}

/// Says that the server waits for shares.
pub async fn note_sealed() -> anyhow::Result<()> {
    let status = status().await?;
    output::note(format!(
        "the control plane is sealed: {} of {} shares open it; type `bastide unseal` on this host",
        status.t, status.n
    ));
    Ok(())
}

/// Returns whether the server of this host is sealed; `None` if it does not answer.
pub async fn is_sealed() -> Option<bool> {
    status().await.ok().map(|status| status.sealed)
}

/// Gives the server shares from standard input, a line each, until it is open or there are no more.
pub async fn unseal(arguments: Unseal) -> anyhow::Result<()> {
    privilege::require_root("bastide unseal")?;
    let mut known = status().await.map_err(absent)?;
    if !known.sealed {
        output::note("the control plane is open");
        return Ok(());
    }
    if known.kind != "shamir" {
        let what = "this control plane is not sealed by shares: its key file opens it at its start";
        return Err(Failure::new(Exit::Conflict, what)
            .hint("systemctl restart bastide-server")
            .into());
    }
    if arguments.reset {
        tell("unseal", json!({ "reset": true })).await?;
        output::note("no share is given");
        return Ok(());
    }
    while known.sealed {
        let Some(share) = read_share()? else {
            break;
        };
        let given = tell("unseal", json!({ "key": share.expose().trim() })).await;
        known = given.map_err(refused)?;
        output::note(if known.sealed {
            format!("{} of {} shares are given", known.progress, known.t)
        } else {
            "the control plane is open".to_owned()
        });
    }
    Ok(())
}

/// Seals the server.
pub async fn seal() -> anyhow::Result<()> {
    privilege::require_root("bastide seal")?;
    let known = status().await.map_err(absent)?;
    if known.sealed {
        output::note("the control plane is sealed already");
        return Ok(());
    }
    let client = Client::unix_as(Path::new(paths::SERVER_SOCKET), operator::token()?);
    client.call("PUT", "/v1/sys/seal", Some(json!({}))).await?;
    output::note("the control plane is sealed, and its keys are gone from memory");
    if known.kind == "shamir" {
        output::note(meaning(known.t, known.n));
    } else {
        output::note("its key file opens it when it is started: systemctl restart bastide-server");
    }
    Ok(())
}

async fn status() -> Result<Status, ClientError> {
    let answer = Client::unix(Path::new(paths::SERVER_SOCKET))
        .ask(
            "GET",
            "/v1/sys/seal-status",
            None,
            Instant::now() + ANSWER_WITHIN,
        )
        .await?;
    parsed(answer)
}

async fn tell(what: &str, body: Value) -> Result<Status, ClientError> {
    let body = Secret::new(body.to_string().into_bytes());
    let answer = Client::unix(Path::new(paths::SERVER_SOCKET))
        .ask(
            "PUT",
            &format!("/v1/sys/{what}"),
            Some(body),
            Instant::now() + ANSWER_WITHIN,
        )
        .await?;
    parsed(answer)
}

fn parsed(answer: Value) -> Result<Status, ClientError> {
    serde_json::from_value(answer).map_err(|_| ClientError::Answer {
        address: paths::SERVER_SOCKET.to_owned(),
        what: "it is no seal status",
    })
}

fn absent(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Unreachable(_) => {
            Failure::new(Exit::Unreachable, "no control plane runs on this host")
                .hint("start it with `bastide up`")
                .into()
        }
        other => other.into(),
    }
}

fn refused(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Refused {
            status: 400,
            errors,
        } => Failure::new(Exit::Refused, errors.join("; "))
            .hint("give all shares again, with `bastide unseal`")
            .into(),
        other => other.into(),
    }
}

/// Reads one share; on a terminal it is asked for and not shown.
fn read_share() -> anyhow::Result<Option<Secret<String>>> {
    let input = std::io::stdin();
    let hidden = if input.is_terminal() {
        let mut errors = std::io::stderr().lock();
        let _ = write!(errors, "share (not shown): ").and_then(|()| errors.flush());
        Some(Hidden::new()?)
    } else {
        None
    };
    let mut line = String::new();
    let read = input.lock().take(LINE_BYTES_MAX).read_line(&mut line);
    let line = Secret::new(line);
    let bytes = read.context("could not read a share")?;
    if hidden.is_some() {
        output::note("");
    }
    Ok((0 < bytes && !line.expose().trim().is_empty()).then_some(line))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn new() -> anyhow::Result<Self> {
        let input = std::io::stdin();
        let before = tcgetattr(&input).context("could not ask the terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Now, &silent).context("could not quiet the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests;
