//! `bastide node`: remove a node, or approve it as a gateway.

use bastide_api::NodeId;
use serde_json::json;

use crate::cli::NodeVerb;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{agent_socket, operator};

/// Runs a verb on a node.
pub async fn run(verb: NodeVerb) -> anyhow::Result<()> {
    match verb {
        NodeVerb::Rm { node } => {
            let id = find(&node).await?;
            operator::client()?
                .call("DELETE", &format!("/v1/mesh/nodes/{id}"), None)
                .await?;
            output::note(format!("node `{node}` is out of the cluster"));
        }
        NodeVerb::Approve { node, routes } => {
            let id = find(&node).await?;
            let routes: Vec<_> = routes.iter().map(ToString::to_string).collect();
            let body = json!({"routes": routes});
            let path = format!("/v1/mesh/nodes/{id}/routes");
            operator::client()?.call("POST", &path, Some(body)).await?;
            output::note(format!(
                "node `{node}` is the gateway for: {}",
                routes.join(", ")
            ));
        }
    }
    Ok(())
}

/// Finds a node by its id or its name.
async fn find(node: &str) -> anyhow::Result<NodeId> {
    if let Ok(id) = node.parse() {
        return Ok(id);
    }
    let status = agent_socket::status().await?;
    let found = status.nodes.iter().find(|one| one.name.as_str() == node);
    found.map(|one| one.id).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no node `{node}`"))
            .hint("bastide status lists the nodes")
            .into()
    })
}
