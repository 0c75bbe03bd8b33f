//! `bastide down`: leave the cluster, undo every change made to this machine.

use serde_json::json;

use crate::cli::Down;
use crate::output;
use crate::verbs::agent_socket;

/// Takes this host out of the cluster.
pub async fn run(arguments: Down) -> anyhow::Result<()> {
    let answer = agent_socket::call(
        "POST",
        "/v1/down",
        Some(json!({"forget": arguments.forget})),
    )
    .await?;
    for line in answer["undone"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|line| line.as_str())
    {
        output::note(line);
    }
    Ok(())
}
