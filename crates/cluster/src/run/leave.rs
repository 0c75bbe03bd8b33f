//! Taking an engine out of what Bastide made of it.

use std::net::Ipv4Addr;

use tracing::info;

use crate::core::state::Phase;
use crate::core::swarm::{GATEWAY_NETWORK, NETWORK, NETWORK_TEMPLATE};
use crate::engine::{Engine, EngineError};

/// Takes the engine out of the Swarm in which it is a member at `address`, and removes our networks.
/// May be repeated. A member at another address is one of a Swarm that is not ours, and stays; `None`
/// leaves whatever Swarm it is.
pub async fn leave(engine: &Engine, address: Option<Ipv4Addr>) -> Result<(), EngineError> {
    let found = engine.membership().await?;
    let is_elsewhere = match (found.address, address) {
        (Some(there), Some(ours)) => there != ours,
        _ => false,
    };
    if is_elsewhere {
        info!("engine is a member of a Swarm of its own, and stays one");
    } else if found.phase != Phase::Inactive {
        engine.leave_swarm().await?;
    }
    for name in [NETWORK, NETWORK_TEMPLATE] {
        engine.remove_network(name).await?;
    }
    if !is_elsewhere {
        engine.remove_network(GATEWAY_NETWORK).await?;
    }
    Ok(())
}
