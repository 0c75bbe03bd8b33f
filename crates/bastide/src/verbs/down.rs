//! `bastide down`: leave the cluster, undo every change made to this machine.
//!
//! First nothing of ours runs any more; then the journal is played backwards, by this process. So it
//! needs no agent, goes on where an earlier one was cut off, and an agent that hangs is no obstacle.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use bastide_agent::LeaveOptions;

use crate::cli::Down;
use crate::exit::{Exit, Failure};
use crate::verbs::{ending, services, ssh};
use crate::{output, paths, privilege};

/// Takes this host out of the cluster.
pub async fn run(arguments: Down) -> anyhow::Result<()> {
    privilege::require_root("bastide down")?;
    if arguments.forget {
        check_not_needed()?;
    }
    let was_here = [paths::AGENT, paths::SERVER, paths::SETTINGS]
        .iter()
        .any(|path| Path::new(path).exists());
    // While its files are there: an `sshd` that cannot read what is revoked lets nobody in by key.
    ssh::undo_if_set_up()?;
    ending::end_daemons().await?;
    let options = LeaveOptions {
        state: paths::AGENT.into(),
        socket: paths::AGENT_SOCKET.into(),
        engine: arguments.engine,
    };
    let is_whole = bastide_agent::leave(&options, output::note).await?;
    services::remove_units().await?;
    if !is_whole {
        return Err(
            Failure::new(Exit::Failed, "some changes to this machine remain")
                .hint("mend what is named above, then `bastide down` again")
                .into(),
        );
    }
    if arguments.forget {
        match bastide_agent::tell_leaving(Path::new(paths::AGENT)).await {
            Some(Ok(())) => output::note("told the cluster: this host's name is free there"),
            Some(Err(error)) => output::note(format!(
                "the cluster does not know ({error}); on a controller, type `bastide node remove` \
                 and this host's name"
            )),
            None => {}
        }
        // The agent's folder last: while it is there, this host is not forgotten.
        for path in [paths::SETTINGS, paths::SERVER, paths::STATE] {
            delete(path)?;
        }
    } else if !was_here {
        output::note("this host is no node: nothing to undo");
    }
    Ok(())
}

fn delete(path: &str) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("could not delete `{path}`")),
        Ok(()) => {
            output::note(format!("deleted: {path}"));
            Ok(())
        }
    }
}

/// Refuses to delete a control plane that other nodes need.
fn check_not_needed() -> anyhow::Result<()> {
    let Some((me, view)) = bastide_agent::last_view(Path::new(paths::AGENT))
        .ok()
        .flatten()
    else {
        // Not a node, or one whose keys are lost: others cannot need it any more.
        return Ok(());
    };
    let is_controller = view
        .cluster
        .controllers
        .iter()
        .any(|controller| controller.node == me);
    let others: Vec<_> = view.nodes.values().filter(|node| node.id != me).collect();
    if !is_controller || others.is_empty() {
        return Ok(());
    }
    let what = format!(
        "this host runs the control plane of {} other nodes",
        others.len()
    );
    let remove: Vec<_> = others
        .iter()
        .map(|node| format!("bastide node remove {}", node.name))
        .collect();
    Err(Failure::new(Exit::Conflict, what)
        .hint(format!("take them out first: {}", remove.join("; ")))
        .into())
}
