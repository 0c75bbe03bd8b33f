//! `bastide cluster`: the Swarm below the cluster, when it must be rebuilt.

use std::time::{Duration, Instant};

use anyhow::Context;
use bastide_api::status::{RebuildPlan, SwarmStatus};
use serde_json::json;

use crate::cli::{ClusterVerb, Rebuild};
use crate::exit::{Exit, Failure};
use crate::verbs::agent_socket;
use crate::{output, privilege};

/// How long to wait for members and services.
const WHOLE_WITHIN: Duration = Duration::from_secs(300);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs a verb on the cluster.
pub async fn run(verb: ClusterVerb) -> anyhow::Result<()> {
    match verb {
        ClusterVerb::Rebuild(arguments) => rebuild(arguments).await,
    }
}

/// Shows what a rebuild does; with `--yes` does it and waits until services are whole again.
async fn rebuild(arguments: Rebuild) -> anyhow::Result<()> {
    privilege::require_root("bastide cluster rebuild")?;
    let body = json!({"anew": arguments.anew});
    let plan = agent_socket::call("POST", "/v1/swarm/plan", Some(body.clone())).await?;
    let plan: RebuildPlan =
        serde_json::from_value(plan).context("the agent's plan is of another version")?;
    for line in describe(&plan) {
        output::note(line);
    }
    if !arguments.yes {
        let again = if arguments.anew { " --anew" } else { "" };
        output::note(format!(
            "nothing is done yet; to do it: bastide cluster rebuild{again} --yes"
        ));
        return Ok(());
    }
    let began = Instant::now();
    agent_socket::call("POST", "/v1/swarm/rebuild", Some(body)).await?;
    output::note("the Swarm is begun; members and services return");
    wait_until_whole(began).await
}

/// Says a plan in lines.
fn describe(plan: &RebuildPlan) -> Vec<String> {
    let (nodes, services) = (&plan.nodes, &plan.services);
    let mut lines = vec![format!("this node's engine is now: {}", plan.now)];
    if plan.keeps {
        lines.push(
            "the Swarm is kept, with this engine as its only manager; managers that are gone are \
             managers no more"
                .to_owned(),
        );
        lines.push("tasks on this node are started anew, those on other workers go on".to_owned());
    } else {
        lines.push("a new Swarm is begun here; what the old one held is forgotten".to_owned());
        lines.push(format!(
            "every other node leaves the old one and joins by itself: {} in all ({})",
            nodes.len(),
            nodes.join(", ")
        ));
        lines
            .push("every task is stopped and started anew; volumes stay where they are".to_owned());
    }
    lines.push(if services.is_empty() {
        "no services are deployed".to_owned()
    } else {
        format!("services, from the stacks: {}", services.join(", "))
    });
    lines
}

async fn wait_until_whole(began: Instant) -> anyhow::Result<()> {
    let mut shown = String::new();
    loop {
        let status = agent_socket::status().await?;
        let swarm = agent_socket::call("GET", "/v1/swarm", None).await?;
        let swarm: SwarmStatus =
            serde_json::from_value(swarm).context("the agent's answer is of another version")?;
        let alive = status.nodes.iter().filter(|node| node.alive).count();
        let services = status.stacks.iter().map(|stack| stack.services.len());
        let running = |one: &&bastide_api::status::SwarmServiceStatus| one.wanted <= one.running;
        let whole = swarm.services.iter().filter(running).count();
        let wanted: usize = services.sum();
        let line = format!(
            "members {} of {alive}, services whole {whole} of {wanted}",
            swarm.ready
        );
        if line != shown {
            output::note(&line);
            shown = line;
        }
        let is_healthy = status
            .stacks
            .iter()
            .flat_map(|stack| &stack.services)
            .all(|service| service.wanted <= service.healthy);
        let has_members = usize::try_from(swarm.ready).is_ok_and(|ready| alive <= ready);
        if swarm.manager && has_members && whole == wanted && is_healthy {
            output::note(format!("whole again after {:.1?}", began.elapsed()));
            return Ok(());
        }
        if WHOLE_WITHIN < began.elapsed() {
            let mut what = format!("the Swarm is not whole: {shown}");
            for trouble in &status.troubles {
                what.push_str("\n  ");
                what.push_str(trouble);
            }
            return Err(Failure::new(Exit::Failed, what)
                .hint("bastide status")
                .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
