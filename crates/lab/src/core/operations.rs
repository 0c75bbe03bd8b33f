//! What to ask of the kernel to make a plan real, in order, and what remains to be undone.

use std::net::IpAddr;

use ipnet::IpNet;

use super::nat;
use super::plan::{End, InterfaceName, NodeName, Plan, Role, Segment};

/// The loopback device's number in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// The number of the first bridge in the namespace of the switches.
const BRIDGE_FIRST: u32 = 10;
/// The number of the first port there: above all bridges.
const PORT_FIRST: u32 = 10_000;
/// The number of a node's first interface.
const INTERFACE_FIRST: u32 = 2;

/// One change. Numbers of links are chosen here, so that no answer of the kernel is needed to ask
/// for the next change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make a node's network namespace, and write these settings before any link is in it.
    Network {
        /// The node.
        node: NodeName,
        /// Settings below `net/` and their values.
        sysctls: Vec<(&'static str, &'static str)>,
    },
    /// Make the bridge of a segment in the namespace of the switches.
    Bridge {
        /// Its number.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Make a pair of devices: a port of a bridge, and an interface of a node.
    Wire {
        /// The port's number.
        port: u32,
        /// The port's name.
        port_name: String,
        /// The number of its bridge.
        bridge: u32,
        /// The node.
        node: NodeName,
        /// The interface's name there.
        interface: InterfaceName,
        /// The interface's number there.
        index: u32,
        /// Largest payload in bytes, if not the usual.
        mtu: Option<u32>,
    },
    /// Set a link of a node up and give it addresses.
    Address {
        /// The node.
        node: NodeName,
        /// The link's number.
        index: u32,
        /// The addresses.
        addresses: Vec<IpNet>,
    },
    /// Give a node a route.
    Route {
        /// The node.
        node: NodeName,
        /// Where to.
        to: IpNet,
        /// By way of whom.
        via: IpAddr,
    },
    /// Load a ruleset of nftables into a node.
    Firewall {
        /// The node.
        node: NodeName,
        /// The ruleset.
        ruleset: String,
    },
    /// Start a host's first process, in a control group of the host's own.
    Host {
        /// The node.
        node: NodeName,
    },
}

/// What undoes an [`Operation`] when the supervisor is gone. All else goes with the namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inverse {
    /// Nothing: the kernel does it.
    Kernel,
    /// Remove the host's control group.
    RemoveGroup {
        /// The host.
        node: NodeName,
    },
}

impl Operation {
    /// Returns what undoes this.
    pub fn inverse(&self) -> Inverse {
        match self {
            Self::Host { node } => Inverse::RemoveGroup { node: node.clone() },
            Self::Network { .. }
            | Self::Bridge { .. }
            | Self::Wire { .. }
            | Self::Address { .. }
            | Self::Route { .. }
            | Self::Firewall { .. } => Inverse::Kernel,
        }
    }
}

/// Settings of the namespace of the switches: they have no addresses, and say nothing by themselves.
pub const SWITCH_SYSCTLS: [(&str, &str); 2] = [
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Settings of every node. Checking IPv6 addresses for duplicates takes two seconds per link; the
/// other settings are what a machine fresh from the kernel has, whatever this machine has now,
/// because new namespaces copy some of them.
const SYSCTLS: [(&str, &str); 8] = [
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];
const HOST_SYSCTLS: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
];
const ROUTER_SYSCTLS: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

/// Returns the operations that make `plan` real.
pub fn operations(plan: &Plan) -> Vec<Operation> {
    let mut operations = Vec::new();
    for segment in 0..plan.segments() {
        let index = bridge_index(Segment(segment));
        operations.push(Operation::Bridge {
            index,
            name: format!("b{segment}"),
        });
    }
    for (name, node) in plan.nodes() {
        let own: &[_] = match node.role {
            Role::Host => &HOST_SYSCTLS,
            Role::Router(_) => &ROUTER_SYSCTLS,
            Role::Switch => continue,
        };
        let sysctls = SYSCTLS.iter().chain(own).copied().collect();
        operations.push(Operation::Network {
            node: name.clone(),
            sysctls,
        });
    }
    let mut port = PORT_FIRST;
    for (name, node) in plan.nodes() {
        for ((interface, value), index) in node.interfaces.iter().zip(INTERFACE_FIRST..) {
            operations.push(Operation::Wire {
                port,
                port_name: format!("p{}", port - PORT_FIRST),
                bridge: bridge_index(value.segment),
                node: name.clone(),
                interface: interface.clone(),
                index,
                mtu: value.mtu,
            });
            port += 1;
        }
    }
    for (name, node) in plan.nodes() {
        if node.role == Role::Switch {
            continue;
        }
        let node_name = || name.clone();
        let loopback = Operation::Address {
            node: node_name(),
            index: LOOPBACK_INDEX,
            addresses: Vec::new(),
        };
        operations.push(loopback);
        for (value, index) in node.interfaces.values().zip(INTERFACE_FIRST..) {
            let addresses = value.addresses.clone();
            operations.push(Operation::Address {
                node: node_name(),
                index,
                addresses,
            });
        }
        for &(to, via) in &node.routes {
            operations.push(Operation::Route {
                node: node_name(),
                to,
                via,
            });
        }
    }
    for (name, node) in plan.nodes() {
        match &node.role {
            Role::Host => operations.push(Operation::Host { node: name.clone() }),
            Role::Router(Some(nat)) => operations.push(Operation::Firewall {
                node: name.clone(),
                ruleset: nat::ruleset(nat),
            }),
            Role::Router(None) | Role::Switch => {}
        }
    }
    operations
}

/// Returns the numbers, in the namespace of the switches, of the port that an end is plugged into
/// and of that port's bridge.
pub fn port_of(plan: &Plan, end: &End) -> Option<(u32, u32)> {
    let found = plan.ends().enumerate().find(|(_, (other, _))| other == end);
    let (at, (_, interface)) = found?;
    Some((
        PORT_FIRST + u32::try_from(at).ok()?,
        bridge_index(interface.segment),
    ))
}

fn bridge_index(segment: Segment) -> u32 {
    BRIDGE_FIRST + u32::try_from(segment.0).expect("segments are fewer than interfaces")
}

#[cfg(test)]
mod tests;
