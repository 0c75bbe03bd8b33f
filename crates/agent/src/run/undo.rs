//! Putting a host back: every recorded change, last first, without an agent.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bastide_api::{NodeId, View};
use bastide_cluster::{Engine, filter, firewall};
use bastide_linux::lock::Lock;
use bastide_linux::netlink::Socket;
use bastide_linux::sysctl;
use ipnet::IpNet;
use tracing::debug;

use super::follow;
use super::host::{HostError, INTERFACE};
use super::ledger::Ledger;
use super::membership::{Member, MembershipError, identity};
use super::socket;
use super::state::{LOCK, StateDir, StateError};
use crate::core::journal::Change;

/// How long undoing one change may take. An engine may hang; leaving a Swarm takes it seconds.
const ONE_WITHIN: Duration = Duration::from_secs(60);

/// What leaving starts from.
pub struct LeaveOptions {
    /// The agent's folder.
    pub state: PathBuf,
    /// The agent's socket, which one that was killed leaves behind.
    pub socket: PathBuf,
    /// The engine's socket, if the journal does not know.
    pub engine: PathBuf,
}

/// Why a host could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// An agent would do again what is undone.
    #[error("the agent of this host still runs")]
    AgentRuns,
    /// The agent's folder.
    #[error("the agent's folder cannot be used")]
    State(#[from] StateError),
    /// The journal.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Where the lock is that an agent with this folder holds.
pub fn lock_of(state: &Path) -> PathBuf {
    state.join(LOCK)
}

/// Returns whether a host with this folder is a node of a cluster.
pub fn is_member(state: &Path) -> bool {
    // What cannot be read is told by the agent.
    let membership = |state: StateDir| state.membership();
    state.is_dir() && !matches!(StateDir::open(state).and_then(membership), Ok(None))
}

/// Returns this node and the last view that it kept, if it ever was a node.
pub fn last_view(state: &Path) -> Result<Option<(NodeId, View)>, MembershipError> {
    if !state.is_dir() {
        return Ok(None);
    }
    let state = StateDir::open(state)?;
    let Some(membership) = state.membership()? else {
        return Ok(None);
    };
    let clock = state.clock();
    let member = Member::new(state.clone(), identity(&state)?, membership, clock)?;
    let picture = follow::first_picture(&state, &member);
    Ok(Some((member.node(), View::clone(&picture.view))))
}

/// Undoes what the journal holds, and tells each change: one that stays because undoing it failed,
/// with the reason. It stays in the journal too. Returns whether all was undone.
///
/// It can be ended at any time, however that comes, and be called again.
pub async fn leave(
    options: &LeaveOptions,
    mut tell: impl FnMut(String),
) -> Result<bool, LeaveError> {
    if !options.state.is_dir() {
        return Ok(true);
    }
    let state = StateDir::open(&options.state)?;
    let _alone: Lock = state.take()?.ok_or(LeaveError::AgentRuns)?;
    let ledger = Ledger::open(&state)?;
    let mut is_whole = true;
    for change in ledger.to_undo() {
        let said = say(&change);
        if let Err(error) = within(undo(&change, options)).await {
            tell(format!("NOT undone: {said}: {error}"));
            is_whole = false;
            continue;
        }
        tell(format!("undone: {said}"));
        if let Err(error) = ledger.forget(&change) {
            // It is undone once more the next time, if there is one.
            debug!(%error, "not written down");
        }
    }
    let damaged = ledger.damaged();
    if !damaged.is_empty() {
        for change in ours(options) {
            if let Err(error) = within(undo(&change, options)).await {
                tell(format!("NOT undone: {}: {error}", say(&change)));
            }
        }
        tell(format!(
            "NOT undone: what stood in lines {damaged:?} of the journal `{}`, which cannot be read; \
             what is ours by its name is gone, kernel settings may be left (`sysctl net`)",
            state.journal().display()
        ));
        is_whole = false;
    }
    ledger.close()?;
    socket::close(&options.socket);
    Ok(is_whole)
}

/// What a node changes and is ours by its name, so that it can be undone without a journal.
fn ours(options: &LeaveOptions) -> [Change; 4] {
    [
        Change::DockerUserRule,
        Change::Swarm {
            engine: Some(options.engine.clone()),
            address: node_address(&options.state),
        },
        Change::NftTable {
            family: "inet".to_owned(),
            name: firewall::TABLE.to_owned(),
        },
        Change::Interface {
            name: INTERFACE.to_owned(),
        },
    ]
}

/// This node's own address, by what it was told when it joined.
fn node_address(state: &Path) -> Option<Ipv4Addr> {
    let membership = StateDir::open(state).ok()?.membership().ok()??;
    Some(membership.answer.node.address)
}

async fn within(undoing: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    match tokio::time::timeout(ONE_WITHIN, undoing).await {
        Ok(result) => result,
        Err(_) => Err(format!("no end of it within {} s", ONE_WITHIN.as_secs())),
    }
}

async fn undo(change: &Change, options: &LeaveOptions) -> Result<(), String> {
    match change {
        Change::Sysctl { name, before } => match sysctl::write(name, before) {
            // The setting of a device that is gone went with it.
            Err(error) if error.is_unknown() => Ok(()),
            result => result.map_err(told),
        },
        Change::NftTable { .. } => filter::remove().map_err(told),
        Change::DockerUserRule => filter::remove_docker_jump().await.map_err(told),
        Change::Interface { name } => {
            let mut socket = Socket::open().map_err(told)?;
            match socket.link(name).map_err(told)? {
                Some(_) => socket.delete_link(name).map_err(told),
                None => Ok(()),
            }
        }
        Change::Unreachable { to } => {
            let mut socket = Socket::open().map_err(told)?;
            socket.delete_unreachable(IpNet::V4(*to)).map_err(told)
        }
        Change::Swarm { engine, address } => {
            let socket = engine.as_ref().unwrap_or(&options.engine);
            let engine = Engine::connect(socket).await.map_err(|error| {
                format!(
                    "{}; start the engine first: `systemctl start docker`",
                    told(error)
                )
            })?;
            bastide_cluster::leave(&engine, *address)
                .await
                .map_err(told)
        }
    }
}

/// An error with its causes, in one line.
fn told(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

fn say(change: &Change) -> String {
    match change {
        Change::Sysctl { name, before } => format!("{name} is {before} again"),
        Change::NftTable { family, name } => format!("table {family} {name}"),
        Change::DockerUserRule => "our rules in Docker's chain DOCKER-USER".to_owned(),
        Change::Interface { name } if name == INTERFACE => format!("mesh device {name}"),
        Change::Interface { name } => format!("interface {name}"),
        Change::Unreachable { to } => format!("route that closes {to}"),
        Change::Swarm { .. } => "membership in the Swarm, with its networks".to_owned(),
    }
}
