//! `bastide node`: what an operator does with nodes, and with machines that want to be some.

use anyhow::Context;
use bastide_api::status::NodeStatus;
use serde_json::{Value, json};

use crate::cli::{Format, NodeVerb};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{agent_socket, operator, status};

const NODES: &str = "/v1/mesh/nodes";
const PENDING: &str = "/v1/auth/join/pending";

/// Runs a verb on a node.
pub async fn run(verb: NodeVerb) -> anyhow::Result<()> {
    match verb {
        NodeVerb::Show { node, format } => show(&node, &format).await,
        NodeVerb::Remove { node } => {
            let (id, _) = find(NODES, &node).await?;
            let path = format!("{NODES}/{id}");
            operator::client()?.call("DELETE", &path, None).await?;
            output::note(format!(
                "node `{node}` is out of the cluster; on it, type `bastide down --forget`"
            ));
            Ok(())
        }
        NodeVerb::Rename { node, name } => {
            let (id, _) = find(NODES, &node).await?;
            let path = format!("{NODES}/{id}/name");
            let body = json!({"name": name});
            operator::client()?.call("POST", &path, Some(body)).await?;
            output::note(format!("node `{node}` is `{name}` from now on"));
            Ok(())
        }
        NodeVerb::Pending(format) => pending(&format).await,
        NodeVerb::Admit { node, name } => {
            let (id, waiting) = find(PENDING, &node).await?;
            let body = json!({"name": name});
            let path = format!("{PENDING}/{id}/admit");
            operator::client()?.call("POST", &path, Some(body)).await?;
            let name = name.map_or_else(|| operator::text(&waiting["name"]), |it| it.to_string());
            output::note(format!("`{name}` is a node as soon as it asks again"));
            Ok(())
        }
        NodeVerb::Refuse { node } => {
            let (id, _) = find(PENDING, &node).await?;
            let path = format!("{PENDING}/{id}");
            operator::client()?.call("DELETE", &path, None).await?;
            output::note(format!("`{node}` was refused; its ticket's use is spent"));
            Ok(())
        }
        NodeVerb::Approve { node, routes } => {
            let (id, _) = find(NODES, &node).await?;
            let routes: Vec<_> = routes.iter().map(ToString::to_string).collect();
            let body = json!({"routes": routes});
            let path = format!("{NODES}/{id}/routes");
            operator::client()?.call("POST", &path, Some(body)).await?;
            output::note(format!(
                "node `{node}` is the gateway for: {}",
                routes.join(", ")
            ));
            Ok(())
        }
    }
}

/// Finds a node, or a machine that waits, by its id or its name.
async fn find(list: &str, wanted: &str) -> anyhow::Result<(String, Value)> {
    let mut all = operator::list(list).await?;
    // What was decided on already stays for a while; it is meant only if nothing else is.
    all.sort_by_key(|one| one["state"] == "refused");
    let ids: Vec<_> = all.iter().map(|one| operator::text(&one["id"])).collect();
    let is_meant = |at: &usize| ids[*at] == wanted || all[*at]["name"] == wanted;
    let is_open = |at: &usize| all[*at]["state"] != "refused";
    let found: Vec<_> = (0..all.len()).filter(is_meant).collect();
    let open: Vec<_> = found.iter().copied().filter(|at| is_open(at)).collect();
    match (&open[..], found.first()) {
        ([at], _) => Ok((ids[*at].clone(), all[*at].clone())),
        ([], Some(at)) => Ok((ids[*at].clone(), all[*at].clone())),
        ([], None) => {
            let (what, hint) = if list == NODES {
                ("node", "`bastide status` lists the nodes")
            } else {
                (
                    "machine that waits as",
                    "`bastide node pending` lists those that wait",
                )
            };
            Err(
                Failure::new(Exit::Usage, format!("there is no {what} `{wanted}`"))
                    .hint(hint)
                    .into(),
            )
        }
        (several, _) => {
            let several: Vec<_> = several.iter().map(|at| ids[*at].as_str()).collect();
            let what = format!("{} machines wait as `{wanted}`", several.len());
            Err(Failure::new(Exit::Usage, what)
                .hint(format!("name one by its id: {}", several.join(" or ")))
                .into())
        }
    }
}

/// Prints all that the control plane knows of a node, and how this host reaches it.
async fn show(node: &str, format: &Format) -> anyhow::Result<()> {
    let (id, _) = find(NODES, node).await?;
    let path = format!("{NODES}/{id}");
    let mut told = operator::client()?.call("GET", &path, None).await?;
    // The agent of this host may be away: then nothing is known of paths.
    let seen = agent_socket::status().await.ok();
    let mut troubles = Vec::new();
    if let Some(seen) = &seen {
        let own = |one: &&NodeStatus| one.id.to_string() == id;
        let status_of = seen.nodes.iter().find(own);
        told["seen"] = json!(status_of);
        let prefix = status_of.map(|one| format!("{}: ", one.name));
        let about = |line: &&String| prefix.as_ref().is_some_and(|it| line.starts_with(it));
        troubles = seen.troubles.iter().filter(about).cloned().collect();
        told["troubles"] = json!(troubles);
    }
    if format.json {
        output::data(serde_json::to_string(&told).context("could not print the node")?);
        return Ok(());
    }
    let mut rows = vec![
        ["name", &operator::text(&told["name"])].map(str::to_owned),
        ["id", &id].map(str::to_owned),
        ["site", &operator::text(&told["site"])].map(str::to_owned),
        ["tags", &operator::words(&told["tags"])].map(str::to_owned),
        ["address", &operator::text(&told["address"])].map(str::to_owned),
        ["containers", &operator::text(&told["containers"])].map(str::to_owned),
        ["reached at", &operator::words(&told["public"])].map(str::to_owned),
        ["gateway for", &operator::words(&told["routes"])].map(str::to_owned),
        ["offers", &operator::words(&told["offered_routes"])].map(str::to_owned),
        ["joined", &operator::time(&told["joined"])].map(str::to_owned),
        ["with ticket", &operator::text(&told["ticket"])].map(str::to_owned),
        ["certificate to", &operator::time(&told["expires"])].map(str::to_owned),
        ["WireGuard key", &operator::text(&told["wireguard"])].map(str::to_owned),
    ];
    if let Some(seen) = &seen
        && let Some(node) = seen.nodes.iter().find(|one| one.id.to_string() == id)
    {
        rows.push(["path", &status::path(node, seen)].map(str::to_owned));
        rows.push(["latency", &status::latency(node)].map(str::to_owned));
        let swarm = if node.swarm { "member" } else { "-" };
        rows.push(["Swarm", swarm].map(str::to_owned));
    }
    let rows: Vec<_> = rows.into_iter().map(|row| row.to_vec()).collect();
    output::data(output::table(&rows).trim_end());
    for trouble in troubles {
        output::data(format!("! {trouble}"));
    }
    Ok(())
}

async fn pending(format: &Format) -> anyhow::Result<()> {
    let waiting = operator::list(PENDING).await?;
    if format.json {
        output::data(serde_json::to_string(&waiting).context("could not print them")?);
        return Ok(());
    }
    if waiting.is_empty() {
        output::note("no machine waits");
        return Ok(());
    }
    let head = [
        "NAME", "STATE", "SITE", "TAGS", "FROM", "ASKED", "KEY", "ID",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in &waiting {
        let key = operator::text(&one["fingerprint"]);
        rows.push(vec![
            operator::text(&one["name"]),
            operator::text(&one["state"]),
            operator::text(&one["site"]),
            operator::words(&one["tags"]),
            operator::text(&one["from"]),
            operator::time(&one["asked"]),
            key.chars().take(16).collect(),
            operator::text(&one["id"]),
        ]);
    }
    output::data(output::table(&rows).trim_end());
    output::note(
        "compare KEY with what the machine shows; then `bastide node admit NAME`, or `refuse`",
    );
    Ok(())
}
