//! What is looked at before `up` and `join` change anything on a host.

use std::path::Path;
use std::time::Duration;

use bastide_api::AddressPlan;
use bastide_cluster::core::state::Phase;
use bastide_cluster::core::swarm::NETWORK_TEMPLATE;
use bastide_cluster::{Engine, EngineError};

use crate::exit::{Exit, Failure};
use crate::output;

/// How long the engine may take. One that does not answer is waited for by the agent.
const ENGINE_WITHIN: Duration = Duration::from_secs(5);

/// Refuses ranges that this host or its engine uses already, and names the option that chooses another.
pub async fn check_ranges(plan: &AddressPlan, engine: &Path) -> anyhow::Result<()> {
    let found = bastide_agent::collisions(plan, engine).await?;
    let Some(first) = found.first() else {
        return Ok(());
    };
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    Err(Failure::new(Exit::Conflict, lines.join("\n  "))
        .hint(format!(
            "choose another range with `{}`, or give it up: {}",
            first.option,
            first.mend()
        ))
        .into())
}

/// Refuses an engine that is a member of some Swarm: ours would end what runs there. One that is a
/// worker with our network was left behind by a node that this host was before: its agent takes it
/// out of that Swarm.
pub async fn check_engine(engine: &Path) -> anyhow::Result<()> {
    let membership = async {
        let engine = Engine::connect(engine).await?;
        let found = engine.membership().await?;
        let is_ours = engine.networks().await?.contains_key(NETWORK_TEMPLATE);
        Ok::<_, EngineError>((found, is_ours))
    };
    let (found, is_ours) = match tokio::time::timeout(ENGINE_WITHIN, membership).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            output::note(format!(
                "{error}; this host runs no services until one does: systemctl start docker"
            ));
            return Ok(());
        }
        Err(_) => {
            output::note(format!(
                "the container engine at `{}` does not answer; this host runs no services until it \
                 does: systemctl restart docker",
                engine.display()
            ));
            return Ok(());
        }
    };
    if found.phase == Phase::Inactive {
        return Ok(());
    }
    if is_ours && !found.manager {
        output::note("this host was a node before: its container engine leaves the Swarm of that");
        return Ok(());
    }
    let what =
        "the container engine of this host is a member of another Swarm; nothing was changed";
    Err(Failure::new(Exit::Conflict, what)
        .hint("if nothing there is needed any more: docker swarm leave --force")
        .into())
}
