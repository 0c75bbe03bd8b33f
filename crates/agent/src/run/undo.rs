//! Putting a host back: every recorded change, last first.

use std::path::Path;

use bastide_api::NodeId;
use bastide_cluster::{Engine, Reconciler, filter};
use bastide_linux::netlink::Socket;
use bastide_linux::sysctl;

use super::host::{INTERFACE, Ledger};
use super::state::StateDir;
use crate::core::journal::Change;

/// Undoes what the ledger holds; returns a line for each change, and for each that stays because
/// undoing it failed, with the reason. What failed stays in the ledger.
pub async fn all(ledger: &Ledger, engine: &Path, me: NodeId) -> Vec<String> {
    let mut lines = Vec::new();
    for change in ledger.to_undo() {
        let said = say(&change);
        match one(&change, engine, me).await {
            Ok(()) => match ledger.forget(&change) {
                Ok(()) => lines.push(format!("undone: {said}")),
                Err(error) => lines.push(format!("undone, but not written down: {said}: {error}")),
            },
            Err(error) => lines.push(format!("NOT undone: {said}: {error}")),
        }
    }
    lines
}

/// Deletes keys, membership and the rest of the agent's folder.
pub fn forget(state: &StateDir, mut lines: Vec<String>) -> Vec<String> {
    lines.push(match state.delete() {
        Ok(()) => "deleted: keys, membership, images".to_owned(),
        Err(error) => format!("NOT deleted: {error}"),
    });
    lines
}

async fn one(change: &Change, engine: &Path, me: NodeId) -> Result<(), String> {
    match change {
        Change::Sysctl { name, before } => match sysctl::write(name, before) {
            // The setting of a device that is gone went with it.
            Err(error) if error.is_unknown() => Ok(()),
            result => result.map_err(|error| error.to_string()),
        },
        Change::NftTable { .. } => filter::remove().map_err(|error| error.to_string()),
        Change::DockerUserRule => filter::remove_docker_jump()
            .await
            .map_err(|error| error.to_string()),
        Change::Interface { name } => {
            let mut socket = Socket::open().map_err(|error| error.to_string())?;
            match socket.link(name).map_err(|error| error.to_string())? {
                Some(_) => socket.delete_link(name).map_err(|error| error.to_string()),
                None => Ok(()),
            }
        }
        Change::Swarm => {
            let engine = Engine::connect(engine)
                .await
                .map_err(|error| error.to_string())?;
            let left = Reconciler::new(engine, me, INTERFACE).leave().await;
            left.map_err(|error| error.to_string())
        }
    }
}

fn say(change: &Change) -> String {
    match change {
        Change::Sysctl { name, before } => format!("{name} is {before} again"),
        Change::NftTable { family, name } => format!("table {family} {name}"),
        Change::DockerUserRule => "our rules in Docker's chain DOCKER-USER".to_owned(),
        Change::Interface { name } if name == INTERFACE => format!("mesh device {name}"),
        Change::Interface { name } => format!("interface {name}"),
        Change::Swarm => "membership in the Swarm, with its networks".to_owned(),
    }
}
