//! What runs on the routed bridge, for the names and for `bastide ps`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bastide_api::v1::TaskFact;
use bastide_api::{ServiceName, StackName};
use ipnet::Ipv4Net;

/// Most containers of one node that are reported: as many as its subnet has addresses.
pub const TASKS_MAX: usize = 254;

/// The label in which Swarm tells a task's service.
pub const LABEL_SERVICE: &str = "com.docker.swarm.service.name";
/// The label in which a deployer tells a service's stack, the same that `docker stack` uses.
pub const LABEL_STACK: &str = "com.docker.stack.namespace";

/// A running container, as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address on the service network; `None` if it is not on it.
    pub address: Option<Ipv4Addr>,
    /// What its health check says.
    pub health: Health,
}

/// What a container's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    Unchecked,
    /// It passed.
    Healthy,
    /// It failed, or has not passed yet.
    Unhealthy,
}

impl Health {
    /// Reads the engine's one-line status, the only place where engines before API 1.52 list it:
    /// `Up 5 minutes (healthy)`, `(unhealthy)`, `(health: starting)`.
    pub fn of_status(status: &str) -> Self {
        if status.ends_with("(healthy)") {
            Self::Healthy
        } else if status.ends_with("(unhealthy)") || status.ends_with("(health: starting)") {
            Self::Unhealthy
        } else {
            Self::Unchecked
        }
    }
}

/// Returns what a node publishes of its `containers`: those with an address inside its own `subnet`,
/// sorted by address. A node can publish nothing else.
pub fn tasks(containers: &[Container], subnet: Ipv4Net) -> Vec<TaskFact> {
    let published = containers.iter().filter_map(|container| {
        let address = container
            .address
            .filter(|address| subnet.contains(address))?;
        let service = service_of(&container.labels);
        Some((
            address,
            TaskFact {
                address,
                name: service.is_none().then(|| container.name.clone()),
                service,
                healthy: container.health != Health::Unhealthy,
            },
        ))
    });
    let by_address: BTreeMap<Ipv4Addr, TaskFact> = published.collect();
    by_address.into_values().take(TASKS_MAX).collect()
}

/// Returns the stack and service of a task by its labels; Swarm overwrites what a user writes there.
fn service_of(labels: &BTreeMap<String, String>) -> Option<(StackName, ServiceName)> {
    let stack = labels.get(LABEL_STACK)?;
    let service = labels
        .get(LABEL_SERVICE)?
        .strip_prefix(stack.as_str())?
        .strip_prefix('_')?;
    Some((stack.parse().ok()?, service.parse().ok()?))
}

#[cfg(test)]
mod tests;
