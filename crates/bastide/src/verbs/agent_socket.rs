//! Asking the agent of this host, over its socket.

use std::path::Path;

use anyhow::Context;
use bastide_api::status::Status;
use bastide_client::{Client, ClientError};
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::paths;

/// Calls the agent; `path` begins with `/v1/`.
pub async fn call(method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
    if !Path::new(paths::AGENT_SOCKET).exists() {
        return Err(not_running().into());
    }
    let client = Client::unix(Path::new(paths::AGENT_SOCKET));
    match client.call(method, path, body).await {
        Err(ClientError::Unreachable(_)) => Err(not_running().into()),
        result => result.with_context(|| format!("the agent refused `{path}`")),
    }
}

/// Returns the agent's picture of the cluster.
pub async fn status() -> anyhow::Result<Status> {
    let value = call("GET", "/v1/status", None).await?;
    serde_json::from_value(value).context("the agent's status is of another version")
}

fn not_running() -> Failure {
    let failure = Failure::new(Exit::Unreachable, "no agent runs on this host");
    if Path::new(paths::AGENT).exists() {
        // Its keys, its certificate and its last view are all that it needs.
        return failure
            .hint("start it again: `systemctl start bastide-agent`, or `bastide agent` by hand");
    }
    failure.hint("begin a cluster with `bastide up`, or join one with `bastide join -`")
}
