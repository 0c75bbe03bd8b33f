//! What must hold before anything on a host is changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bastide_api::AddressPlan;
use bastide_cluster::Engine;
use bastide_cluster::core::collisions::{self, Collision};
use tracing::debug;

use super::host::{self, HostError};

/// How long the engine may take to list its networks. One that does not answer is judged later.
const ENGINE_WITHIN: Duration = Duration::from_secs(5);

/// Returns what of the cluster's ranges this host or its engine uses for something else.
pub async fn collisions(plan: &AddressPlan, engine: &Path) -> Result<Vec<Collision>, HostError> {
    let networks = async { Engine::connect(engine).await?.networks().await };
    let networks = match tokio::time::timeout(ENGINE_WITHIN, networks).await {
        Ok(Ok(networks)) => networks,
        Ok(Err(error)) => {
            debug!(%error, "networks of the engine not listed");
            BTreeMap::new()
        }
        Err(_) => BTreeMap::new(),
    };
    let of_host = collisions::find(plan, host::taken()?);
    let of_engine = collisions::of_networks(plan, &networks);
    Ok(collisions::once(of_host.into_iter().chain(of_engine)))
}
