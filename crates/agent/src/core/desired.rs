//! From the view and the reports of other nodes: what this host's mesh should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use bastide_api::v1::{NodeFacts, PathFact};
use bastide_api::{DiscoveryKey, NodeId, UnixTime, View, WireGuardKey, ports};
use ipnet::Ipv4Net;

/// Most candidate addresses that are taken from one node's report.
pub const CANDIDATES_MAX: usize = 16;

/// A member that this node talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// The key its device answers to.
    pub wireguard: WireGuardKey,
    /// The key that seals its discovery messages.
    pub discovery: DiscoveryKey,
    /// What may come from it and goes to it.
    pub allowed: Vec<Ipv4Net>,
    /// Where it may be reached, best first: what its operator declared, then what it reported.
    pub candidates: Vec<SocketAddr>,
    /// Whether its operator declared it reachable, so that it may relay.
    pub relay: bool,
    /// When its certificate ends, and with it its being a peer.
    pub until: UnixTime,
}

/// What the kernel should hold for the mesh device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Addresses of the device: the node's own and the resolver's.
    pub addresses: Vec<Ipv4Net>,
    /// Destinations behind the device.
    pub routes: BTreeSet<Ipv4Net>,
    /// The source of what this host itself sends there.
    pub source: Ipv4Addr,
    /// The device's MTU in bytes.
    pub mtu: u16,
}

/// Returns the members that node `me` should have as peers at `now`.
///
/// A member whose certificate is past its end is left out: with the control plane away that, and a
/// signed removal, are the only reasons to drop a peer.
pub fn peers(
    view: &View,
    facts: &BTreeMap<NodeId, NodeFacts>,
    me: NodeId,
    now: UnixTime,
) -> Vec<Peer> {
    let members = view
        .nodes
        .values()
        .filter(|node| node.id != me && now < node.expires);
    members
        .map(|node| {
            let mut allowed = vec![Ipv4Net::from(node.address), node.containers];
            allowed.extend(&node.routes);
            let reported = facts.get(&node.id).map(|facts| facts.endpoints.as_slice());
            let mut candidates = node.public.clone();
            for endpoint in reported.unwrap_or_default().iter().take(CANDIDATES_MAX) {
                if !candidates.contains(endpoint) {
                    candidates.push(*endpoint);
                }
            }
            Peer {
                node: node.id,
                wireguard: node.wireguard,
                discovery: node.discovery,
                allowed,
                candidates,
                relay: !node.public.is_empty(),
                until: node.expires,
            }
        })
        .collect()
}

/// Returns what node `me` should have as mesh device; `None` when the view does not hold it.
pub fn device(view: &View, me: NodeId) -> Option<Device> {
    let own = view.nodes.get(&me)?;
    let plan = &view.cluster.plan;
    let mut routes = BTreeSet::from([plan.mesh]);
    for node in view.nodes.values().filter(|node| node.id != me) {
        routes.insert(node.containers);
        routes.extend(
            node.routes
                .iter()
                .filter(|route| !own.routes.contains(route)),
        );
    }
    Some(Device {
        addresses: vec![own.address.into(), plan.dns.into()],
        routes,
        source: own.address,
        mtu: plan.mtu,
    })
}

/// Returns the destinations that take packets no longer than this, bytes: those behind peers whose
/// path carries less than the mesh device.
pub fn limits(
    view: &View,
    paths: &BTreeMap<NodeId, PathFact>,
    me: NodeId,
) -> BTreeMap<Ipv4Net, u16> {
    let mut limits = BTreeMap::new();
    let Some(device) = device(view, me) else {
        return limits;
    };
    for (id, fact) in paths {
        let (Some(node), Some(mtu)) = (view.nodes.get(id), fact.mtu) else {
            continue;
        };
        if *id == me || device.mtu <= mtu {
            continue;
        }
        limits.insert(node.address.into(), mtu);
        let behind = std::iter::once(&node.containers).chain(&node.routes);
        limits.extend(
            behind
                .filter(|net| device.routes.contains(net))
                .map(|net| (*net, mtu)),
        );
    }
    limits
}

/// Returns the addresses at which the control plane answers members over the mesh.
pub fn controllers(view: &View) -> Vec<SocketAddr> {
    let nodes = view
        .cluster
        .controllers
        .iter()
        .filter_map(|one| view.nodes.get(&one.node));
    nodes
        .map(|node| SocketAddr::new(node.address.into(), ports::API))
        .collect()
}

/// Returns whether node `me` runs the control plane, and so manages the Swarm.
pub fn is_controller(view: &View, me: NodeId) -> bool {
    view.cluster.controllers.iter().any(|one| one.node == me)
}

#[cfg(test)]
mod tests;
