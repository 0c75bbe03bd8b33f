//! `bastide status` and `bastide ps`: one screen that a tired operator understands.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use bastide_api::UnixTime;
use bastide_api::status::{NodeStatus, Status};
use bastide_api::v1::PathKind;

use crate::cli::{Format, Ps};
use crate::output;
use crate::verbs::{agent_socket, mesh, operator};

/// What happened to a path longer ago is not told here.
const LATELY_MS: u64 = 10 * 60 * 1000;
/// How long a join that was refused is told of.
const REFUSED_TOLD_FOR: Duration = Duration::from_secs(3600);

/// Prints the agent's picture of the cluster.
pub async fn status(format: Format) -> anyhow::Result<()> {
    let mut status = agent_socket::status().await?;
    status.troubles.extend(refused_joins().await);
    if format.json {
        output::data(serde_json::to_string(&status).context("could not print the status")?);
    } else {
        output::data(screen(&status).trim_end());
    }
    Ok(())
}

/// Says which machines held a ticket and were not let in within the last hour. Only a host with the
/// operator's token can know.
async fn refused_joins() -> Vec<String> {
    let Ok(client) = operator::client() else {
        return Vec::new();
    };
    let told = client.call("GET", "/v1/auth/join/refused", None).await;
    let told = told.unwrap_or_default();
    let now = bastide_linux::clock::wall();
    let mut lines = Vec::new();
    for one in told["refused"].as_array().into_iter().flatten() {
        let at = UnixTime::from_millis(one["at"].as_u64().unwrap_or_default());
        if REFUSED_TOLD_FOR < now.since(at) {
            continue;
        }
        let (name, from) = (operator::text(&one["name"]), operator::text(&one["from"]));
        let (why, ticket) = (operator::text(&one["why"]), operator::text(&one["ticket"]));
        let line = format!(
            "a machine at {from} could not join as `{name}`: {why}; if it was none of yours: \
             `bastide ticket revoke {ticket}`"
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Prints the tasks of all nodes.
pub async fn ps(arguments: Ps) -> anyhow::Result<()> {
    let mut status = agent_socket::status().await?;
    if let Some(stack) = &arguments.stack {
        status.stacks.retain(|one| one.name == *stack);
    }
    if arguments.format.json {
        output::data(serde_json::to_string(&status.stacks).context("could not print the tasks")?);
    } else {
        output::data(tasks(&status).trim_end());
        for trouble in &status.troubles {
            let names = |name: String| trouble.contains(&name);
            let mut stacks = status.stacks.iter();
            if stacks.any(|stack| names(format!("`{}_", stack.name))) {
                output::note(format!("! {trouble}"));
            }
        }
    }
    Ok(())
}

/// Draws the status as text.
fn screen(status: &Status) -> String {
    let alive = status.nodes.iter().filter(|node| node.alive).count();
    let mut text = format!(
        "cluster {}: {alive} of {} nodes reachable, control plane {}\n\n",
        status.cluster,
        status.nodes.len(),
        if status.controller {
            "answers"
        } else {
            "does not answer (mesh and services go on)"
        },
    );
    let mut rows = vec![row(["NODE", "SITE", "ADDRESS", "PATH", "LATENCY", "SWARM"])];
    for node in &status.nodes {
        let name = if node.controller {
            format!("{}*", node.name)
        } else {
            node.name.to_string()
        };
        let swarm = if node.swarm { "member" } else { "-" };
        rows.push(vec![
            name,
            node.site.to_string(),
            node.address.to_string(),
            path(node, status),
            latency(node),
            swarm.to_owned(),
        ]);
    }
    text.push_str(&output::table(&rows));
    if !status.joins.is_empty() {
        let mut rows = vec![row(["JOINING", "SITE", "TAGS", "SINCE", "TO LET IT IN"])];
        for join in &status.joins {
            let tags: Vec<_> = join.tags.iter().map(ToString::to_string).collect();
            rows.push(vec![
                join.name.to_string(),
                join.site.to_string(),
                tags.join(", "),
                join.asked.to_string(),
                format!("bastide node admit {}", join.name),
            ]);
        }
        text.push('\n');
        text.push_str(&output::table(&rows));
    }
    let services: Vec<_> = status
        .stacks
        .iter()
        .flat_map(|stack| stack.services.iter().map(move |service| (stack, service)))
        .collect();
    if !services.is_empty() {
        let mut rows = vec![row(["SERVICE", "HEALTHY", "ON"])];
        for (stack, service) in services {
            let on: Vec<_> = service
                .tasks
                .iter()
                .filter(|task| task.healthy && task.reachable)
                .map(|task| task.node.to_string())
                .collect();
            rows.push(vec![
                format!("{}.{}", service.name, stack.name),
                format!("{} of {}", service.healthy, service.wanted),
                on.join(", "),
            ]);
        }
        text.push('\n');
        text.push_str(&output::table(&rows));
    }
    let paths = paths(status);
    if !paths.is_empty() {
        text.push_str("\nwhat happened to paths lately (`bastide mesh why` tells more):\n");
        text.push_str(&paths);
    }
    text.push('\n');
    if status.troubles.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    for trouble in &status.troubles {
        let _ = writeln!(text, "! {trouble}");
    }
    text
}

/// Draws the tasks as text.
fn tasks(status: &Status) -> String {
    let mut rows = vec![row(["SERVICE", "NODE", "ADDRESS", "STATE"])];
    for stack in &status.stacks {
        for service in &stack.services {
            for task in &service.tasks {
                let state = match (task.reachable, task.healthy) {
                    (false, _) => "unreachable",
                    (true, true) => "healthy",
                    (true, false) => "starting or unhealthy",
                };
                rows.push(vec![
                    format!("{}.{}", service.name, stack.name),
                    task.node.to_string(),
                    task.address.to_string(),
                    state.to_owned(),
                ]);
            }
        }
    }
    output::table(&rows)
}

/// Says how a node is reached.
pub fn path(node: &NodeStatus, status: &Status) -> String {
    match &node.path {
        None => "this node".to_owned(),
        Some(fact) if fact.kind == PathKind::None => "none".to_owned(),
        Some(fact) => mesh::way(status, fact.kind),
    }
}

/// Tells the last trouble of each path, if it was lately.
fn paths(status: &Status) -> String {
    let mut text = String::new();
    for node in &status.nodes {
        let events = node.events.iter().rev();
        let mut troubles = events.filter(|event| mesh::is_trouble(event));
        if let Some(last) = troubles.next().filter(|event| event.ago_ms < LATELY_MS) {
            let _ = writeln!(text, "~ {}: {}", node.name, mesh::event(status, last));
        }
    }
    text
}

/// Says how far away a node is.
pub fn latency(node: &NodeStatus) -> String {
    mesh::latency(node.path.as_ref().and_then(|fact| fact.rtt_us))
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
