//! `bastide down`: leave the cluster, undo every change made to this machine.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context;
use serde_json::json;

use crate::cli::Down;
use crate::exit::{Exit, Failure};
use crate::verbs::{agent_socket, services};
use crate::{output, paths, privilege};

/// Takes this host out of the cluster.
pub async fn run(arguments: Down) -> anyhow::Result<()> {
    privilege::require_root("bastide down")?;
    if arguments.forget {
        check_not_needed().await?;
    }
    let body = json!({"forget": arguments.forget});
    let answer = agent_socket::call("POST", "/v1/down", Some(body)).await?;
    let lines: Vec<_> = answer["undone"].as_array().into_iter().flatten().collect();
    for line in lines.iter().filter_map(|line| line.as_str()) {
        output::note(line);
    }
    services::remove_units().await?;
    if arguments.forget {
        for path in [paths::SETTINGS, paths::STATE] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("could not delete `{path}`"));
                }
                _ => output::note(format!("deleted: {path}")),
            }
        }
    }
    if lines
        .iter()
        .filter_map(|line| line.as_str())
        .any(|line| line.starts_with("NOT"))
    {
        return Err(
            Failure::new(Exit::Failed, "some changes to this machine remain")
                .hint("mend what is named above, then `bastide down` again")
                .into(),
        );
    }
    Ok(())
}

/// Refuses to delete a control plane that other nodes need.
async fn check_not_needed() -> anyhow::Result<()> {
    let status = agent_socket::status().await?;
    let is_controller = status
        .nodes
        .iter()
        .any(|node| node.id == status.node && node.controller);
    let others: Vec<_> = status
        .nodes
        .iter()
        .filter(|node| node.id != status.node)
        .collect();
    if !is_controller || others.is_empty() {
        return Ok(());
    }
    let what = format!(
        "this host runs the control plane of {} other nodes",
        others.len()
    );
    let remove: Vec<_> = others
        .iter()
        .map(|node| format!("bastide node rm {}", node.name))
        .collect();
    Err(Failure::new(Exit::Conflict, what)
        .hint(format!("take them out first: {}", remove.join("; ")))
        .into())
}
