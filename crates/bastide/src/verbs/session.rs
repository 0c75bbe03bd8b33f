//! Opening sessions with containers: a grant from the control plane, taken to the node over the mesh.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bastide_api::session::SignedGrant;
use bastide_api::status::{NodeStatus, Status};
use bastide_api::{NodeName, ServiceName, StackName, ports};
use bastide_client::{Client, SessionInput, SessionOutput, open_session};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::{Exit, Failure};

/// How long a node may take to answer.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// A grant, and where to take it.
#[derive(Deserialize)]
struct Granted {
    grant: String,
    signature: String,
    address: Ipv4Addr,
}

/// Opens a session with a service's containers on a node. `kind` is `logs` or `exec`, and `asked`
/// what is asked for besides the node.
pub async fn open(
    client: &Client,
    kind: &str,
    (stack, service): &(StackName, ServiceName),
    node: &NodeStatus,
    mut asked: Value,
) -> anyhow::Result<(SessionOutput, SessionInput)> {
    asked["node"] = json!(node.id);
    let path = format!("/v1/cluster/{kind}/{stack}/{service}");
    let answer = client.call("POST", &path, Some(asked)).await;
    let answer = answer.with_context(|| format!("no grant for {kind} of `{stack}/{service}`"))?;
    let granted: Granted =
        serde_json::from_value(answer).context("the control plane's grant cannot be read")?;
    let address = SocketAddr::from((granted.address, ports::SESSIONS));
    let signed = SignedGrant {
        grant: granted.grant,
        signature: granted.signature,
    };
    open_session(address, &signed, Instant::now() + OPEN_WITHIN)
        .await
        .map_err(|error| {
            let what = format!("node `{}` does not answer: {error}", node.name);
            let hint = format!("`bastide doctor` here, then on {}", node.name);
            Failure::new(Exit::Unreachable, what).hint(hint).into()
        })
}

/// Returns the node of this name.
pub fn node<'s>(status: &'s Status, name: &NodeName) -> anyhow::Result<&'s NodeStatus> {
    let node = status.nodes.iter().find(|node| node.name == *name);
    node.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no node `{name}`"))
            .hint("see `bastide status`")
            .into()
    })
}

/// Refuses a service that is not deployed.
pub fn check_deployed(
    status: &Status,
    (stack, service): &(StackName, ServiceName),
) -> anyhow::Result<()> {
    let known = status.stacks.iter().find(|one| one.name == *stack);
    let is_known = known.is_some_and(|stack| stack.services.iter().any(|one| one.name == *service));
    if is_known {
        return Ok(());
    }
    let what = format!("there is no service `{stack}/{service}`");
    Err(Failure::new(Exit::Usage, what)
        .hint("see `bastide ps`")
        .into())
}
