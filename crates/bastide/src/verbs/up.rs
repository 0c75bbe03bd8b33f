//! `bastide up`: the first host of a cluster, or its return.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bastide_agent::{Handover, NodeSettings};
use bastide_api::AddressPlan;

use crate::cli::{NodeArgs, Up};
use crate::exit::{Exit, Failure};
use crate::verbs::services::Ready;
use crate::verbs::{agent_socket, preflight, sealing, serve, services, ticket};
use crate::{output, paths, privilege};

/// How long the control plane and the agent may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the ticket that is printed is good.
const TICKET_MINUTES: u32 = 60;

/// Begins a cluster on this host, or starts it again.
pub async fn run(arguments: Up) -> anyhow::Result<()> {
    privilege::require_root("bastide up")?;
    let node = settings(&arguments.node)?;
    let plan = plan(&arguments)?;
    let mut running = services::Running::new(arguments.node.foreground)?;
    let first = if Path::new(paths::SERVER).join("store.redb").exists() {
        check_begun()?;
        None
    } else {
        preflight::check_engine(&node.engine).await?;
        preflight::check_ranges(&plan, &node.engine).await?;
        let answer = serve::bootstrap(&arguments, &node, plan, None).await?;
        serve::settle()?;
        output::note(format!(
            "cluster `{}` begins on this host",
            arguments.cluster
        ));
        Some(answer)
    };
    running.start_server().await?;
    let mut ready = running.wait_for_server(READY_WITHIN).await?;
    if ready == Ready::Sealed {
        sealing::note_sealed().await?;
        // After `init` this host's own agent has yet to join, which takes an open server.
        if Path::new(paths::AGENT_HANDOVER).exists() {
            running.wait_until_open().await?;
            ready = Ready::Open;
        }
    }
    let ticket = match first {
        Some(first) => Some(first.ticket),
        // Cut off before this host was a node of its own cluster.
        None if ready == Ready::Open
            && !bastide_agent::is_member(Path::new(paths::AGENT))
            && !Path::new(paths::AGENT_HANDOVER).exists() =>
        {
            Some(ticket::create(TICKET_MINUTES).await?)
        }
        None => None,
    };
    let handover = ticket.map(|ticket| Handover { ticket, node });
    running.start_agent(handover).await?;
    running.wait_for_agent(READY_WITHIN).await?;
    if ready == Ready::Sealed {
        return running.wait().await;
    }
    let ticket = ticket::create(TICKET_MINUTES).await?;
    let status = agent_socket::status().await?;
    output::note(format!(
        "cluster `{}` is up; on another machine, type",
        status.cluster
    ));
    output::note("  bastide join -");
    output::note("and give it this ticket (one machine, 60 minutes):");
    output::data(ticket);
    running.wait().await
}

/// A first start that was cut off before its answer was kept cannot be taken up again.
fn check_begun() -> anyhow::Result<()> {
    if Path::new(paths::OPERATOR_TOKEN).exists() {
        return Ok(());
    }
    let what = format!(
        "a cluster was begun here, but `{}` is missing",
        paths::OPERATOR_TOKEN
    );
    Err(Failure::new(Exit::Conflict, what)
        .hint(format!(
            "put it back from your backup; if the cluster never came up: rm -r {}",
            paths::SERVER
        ))
        .into())
}

/// Returns how this host wants to be a node.
pub fn settings(arguments: &NodeArgs) -> anyhow::Result<NodeSettings> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => services::host_name()?.parse().map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("the host name cannot name the node: {error}"),
            )
            .hint("choose one with `--name`")
        })?,
    };
    Ok(NodeSettings {
        name,
        site: arguments.site.clone(),
        public: arguments.public.clone(),
        routes: arguments.route.clone(),
        engine: arguments.engine.clone(),
    })
}

/// Returns the address plan that was asked for.
pub fn plan(arguments: &Up) -> anyhow::Result<AddressPlan> {
    let mut plan = AddressPlan::default();
    if let Some(mesh) = arguments.mesh {
        plan.mesh = mesh;
        let dns = mesh.hosts().nth(52).or_else(|| mesh.hosts().last());
        plan.dns = dns.context("the mesh range holds no address")?;
    }
    if let Some(containers) = arguments.containers {
        plan.containers = containers;
    }
    if let Some(pool) = arguments.swarm_pool {
        plan.swarm_pool = pool;
    }
    if let Some(gateway) = arguments.swarm_gateway {
        plan.swarm_gateway = gateway;
    }
    if let Some(mtu) = arguments.mtu {
        plan.mtu = mtu;
    }
    plan.check()
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    Ok(plan)
}
