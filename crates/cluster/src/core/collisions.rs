//! Ranges of the cluster that a host uses for something else: its own addresses and routes, and the
//! networks of its engine. A packet would go to whichever was there first, so nothing is begun on
//! such a host.

use std::collections::BTreeMap;
use std::fmt;

use bastide_api::AddressPlan;
use ipnet::Ipv4Net;

use super::state::Network;
use super::swarm::{BRIDGE, GATEWAY_NETWORK, NETWORK, NETWORK_TEMPLATE};

/// The shortest prefix of a route that counts. Wider ones are ways to everywhere, whole or in halves,
/// and ours are more specific.
const PREFIX_MIN: u8 = 8;

/// A range that something else uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// The range.
    pub range: Ipv4Net,
    /// By what.
    pub by: Owner,
}

/// What uses a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A network of the engine.
    Network {
        /// Its name.
        name: String,
    },
    /// An address of the host.
    Address {
        /// The interface that has it.
        interface: String,
    },
    /// A route of the host.
    Route {
        /// The interface that it leads to.
        interface: String,
    },
}

/// One of the cluster's ranges that a host uses for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// The cluster's range.
    pub ours: Ipv4Net,
    /// What it is for.
    pub purpose: &'static str,
    /// The option of `bastide up` that chooses another.
    pub option: &'static str,
    /// What uses it.
    pub taken: Taken,
}

impl Collision {
    /// Returns the command that makes the host give the range up.
    pub fn mend(&self) -> String {
        let range = self.taken.range;
        match &self.taken.by {
            Owner::Network { name } => format!("docker network rm {name}"),
            Owner::Address { interface } => format!("ip address del {range} dev {interface}"),
            Owner::Route { interface } => {
                format!("ip route del {} dev {interface}", range.trunc())
            }
        }
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, purpose, range) = (self.ours, self.purpose, self.taken.range);
        write!(f, "range {ours} of the {purpose} is in use: ")?;
        match &self.taken.by {
            Owner::Network { name } => {
                write!(f, "network `{name}` of the container engine has {range}")
            }
            Owner::Address { interface } => {
                write!(f, "this host has address {} on {interface}", range.addr())
            }
            Owner::Route { interface } => {
                write!(f, "this host has a route to {range} through {interface}")
            }
        }
    }
}

/// Returns whether an interface of the host is one of ours, given the mesh device's name.
pub fn is_own_interface(name: &str, mesh_interface: &str) -> bool {
    [mesh_interface, BRIDGE, GATEWAY_NETWORK].contains(&name)
}

/// Returns what of `plan` is taken, each range of others once.
pub fn find(plan: &AddressPlan, taken: impl IntoIterator<Item = Taken>) -> Vec<Collision> {
    let ranges = [
        (plan.mesh, "mesh", "--mesh"),
        (plan.containers, "containers", "--containers"),
        (plan.swarm_pool, "Swarm's networks", "--swarm-pool"),
        (plan.swarm_gateway, "Swarm's bridge", "--swarm-gateway"),
    ];
    let mut found = Vec::new();
    for taken in taken {
        let is_way = matches!(taken.by, Owner::Route { .. });
        if is_way && taken.range.prefix_len() < PREFIX_MIN {
            continue;
        }
        // An address takes itself; whether its network is taken, its route tells.
        let range = match taken.by {
            Owner::Address { .. } => Ipv4Net::from(taken.range.addr()),
            Owner::Network { .. } | Owner::Route { .. } => taken.range,
        };
        for (ours, purpose, option) in ranges {
            if ours.contains(&range) || range.contains(&ours) {
                found.push(Collision {
                    ours,
                    purpose,
                    option,
                    taken: taken.clone(),
                });
            }
        }
    }
    once(found)
}

/// Returns what of `plan` the networks of an engine take; ours are left out.
pub fn of_networks(plan: &AddressPlan, networks: &BTreeMap<String, Network>) -> Vec<Collision> {
    let others = networks.iter().filter(|(name, network)| {
        let is_own = [NETWORK, NETWORK_TEMPLATE, GATEWAY_NETWORK].contains(&name.as_str());
        // Swarm takes the subnets of its own networks from the cluster's pool.
        !is_own && !network.swarm_scope
    });
    let taken = others.flat_map(|(name, network)| {
        network.subnets.iter().map(|subnet| Taken {
            range: *subnet,
            by: Owner::Network { name: name.clone() },
        })
    });
    find(plan, taken)
}

/// Tells each range of others once: the bridge of an engine's network has an address and a route.
pub fn once(found: impl IntoIterator<Item = Collision>) -> Vec<Collision> {
    let mut sorted: Vec<Collision> = found.into_iter().collect();
    // Networks come before addresses, and those before routes.
    sorted.sort_by(|one, other| one.taken.by.cmp(&other.taken.by));
    let mut told: Vec<Collision> = Vec::new();
    for one in sorted {
        let is_told = told.iter().any(|known| {
            let (known, range) = (&known.taken.range, &one.taken.range);
            known.trunc().contains(&range.trunc()) || range.trunc().contains(&known.trunc())
        });
        if !is_told {
            told.push(one);
        }
    }
    told
}

#[cfg(test)]
mod tests;
