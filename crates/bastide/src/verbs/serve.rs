//! The daemons: `bastide server` and `bastide agent`.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use bastide_agent::{AgentOptions, HANDOVER_BYTES_MAX, Handover};
use bastide_linux::{file, memory};
use tokio_util::sync::CancellationToken;

use crate::cli::Agent;
use crate::paths;

/// Runs the agent until it is told to end.
pub async fn agent(arguments: Agent) -> anyhow::Result<()> {
    memory::harden().context("could not protect this process's memory")?;
    let handover = if arguments.handover {
        Some(read_handover(std::io::stdin().lock())?)
    } else {
        take_handover_file()?
    };
    let options = AgentOptions {
        state: arguments.state,
        socket: paths::AGENT_SOCKET.into(),
        handover,
    };
    let stop = CancellationToken::new();
    let run = bastide_agent::run(options, stop.clone());
    until_told_to_end(run, stop).await.context("the agent ended")
}

fn read_handover(from: impl Read) -> anyhow::Result<Handover> {
    serde_json::from_reader(from.take(HANDOVER_BYTES_MAX)).context("the handover cannot be read")
}

/// Under systemd `join` leaves the handover in a file; it is deleted before the ticket is spent.
fn take_handover_file() -> anyhow::Result<Option<Handover>> {
    let path = Path::new(paths::AGENT_HANDOVER);
    let bytes = file::read_bounded(path, HANDOVER_BYTES_MAX)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    let Some(bytes) = bytes else { return Ok(None) };
    std::fs::remove_file(path).with_context(|| format!("could not delete `{}`", path.display()))?;
    read_handover(bytes.as_slice()).map(Some)
}

/// Runs a daemon; a signal to end cancels `stop` and waits for it.
async fn until_told_to_end<T>(
    daemon: impl Future<Output = T>,
    stop: CancellationToken,
) -> T {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::pin!(daemon);
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    tokio::select! {
        result = &mut daemon => return result,
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.cancel();
    daemon.await
}

pub async fn server(_arguments: crate::cli::Server) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

pub struct Bootstrapped {
    pub ticket: String,
}

pub async fn bootstrap(
    _arguments: &crate::cli::Up,
    _node: &bastide_agent::NodeSettings,
    _plan: bastide_api::AddressPlan,
) -> anyhow::Result<Bootstrapped> {
    anyhow::bail!("not yet")
}
