//! Device, addresses, routes, packet filter, and the way to each peer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bastide_api::doctor::{Check, Layer};
use ipnet::Ipv4Net;

/// What was seen of the mesh.
#[derive(Debug, Clone)]
pub struct MeshSeen {
    /// The device's name.
    pub interface: &'static str,
    /// The device; none: there is none.
    pub device: Option<DeviceSeen>,
    /// The addresses that it should have.
    pub addresses_wanted: BTreeSet<Ipv4Addr>,
    /// The destinations that should lie behind it.
    pub routes_wanted: BTreeSet<Ipv4Net>,
    /// The MTU that the cluster has, in bytes.
    pub mtu_wanted: u32,
    /// Which of our tables of nftables are missing, as `family name`; or why that is not known.
    pub tables_missing: Result<Vec<String>, String>,
    /// The peers, by name.
    pub peers: Vec<PeerSeen>,
    /// Whether the agent answers.
    pub agent: bool,
}

/// What was seen of the device.
#[derive(Debug, Clone)]
pub struct DeviceSeen {
    /// Whether it is up.
    pub is_up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The destinations behind it.
    pub routes: BTreeSet<Ipv4Net>,
}

/// What was seen of a peer.
#[derive(Debug, Clone)]
pub struct PeerSeen {
    /// Its name.
    pub name: String,
    /// How the agent reaches it, in words; none: not at all.
    pub path: Option<String>,
    /// Whether a connection to it through the mesh was answered, or why not.
    pub answers: Result<(), String>,
}

/// What starts the agent, which puts all of this in place.
const RESTART: &str = "systemctl restart bastide-agent, or by hand `bastide agent`";

/// Judges the mesh.
pub fn judge(seen: &MeshSeen) -> Vec<Check> {
    let layer = Layer::Mesh;
    let mut checks = vec![if seen.agent {
        Check::pass(layer, "agent", "answers")
    } else {
        Check::fail(layer, "agent", "it does not answer", RESTART)
    }];
    checks.extend(device(seen));
    checks.push(tables(seen));
    checks.extend(seen.peers.iter().map(|peer| one(peer, seen.agent)));
    checks
}

fn device(seen: &MeshSeen) -> Vec<Check> {
    let (layer, name) = (Layer::Mesh, seen.interface);
    let Some(device) = &seen.device else {
        let found = format!("there is no device `{name}`");
        return vec![Check::fail(layer, "device", found, RESTART)];
    };
    let mut checks = vec![if device.is_up {
        Check::pass(layer, "device", format!("`{name}` is up"))
    } else {
        Check::fail(
            layer,
            "device",
            format!("`{name}` is down"),
            format!("ip link set {name} up"),
        )
    }];
    checks.push(if device.mtu == seen.mtu_wanted {
        Check::pass(layer, "mtu", device.mtu.to_string())
    } else {
        let wanted = seen.mtu_wanted;
        Check::fail(
            layer,
            "mtu",
            format!("it is {}; the cluster's is {wanted}", device.mtu),
            format!("ip link set {name} mtu {wanted}"),
        )
    });
    checks.push(complete(
        "addresses",
        &seen.addresses_wanted,
        &device.addresses,
    ));
    checks.push(complete("routes", &seen.routes_wanted, &device.routes));
    checks
}

fn complete<T: Ord + std::fmt::Display>(
    what: &str,
    wanted: &BTreeSet<T>,
    present: &BTreeSet<T>,
) -> Check {
    let missing: Vec<_> = wanted
        .difference(present)
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        let found = format!("all {} are there", wanted.len());
        return Check::pass(Layer::Mesh, what, found);
    }
    let found = format!("missing: {}", missing.join(", "));
    Check::fail(Layer::Mesh, what, found, RESTART)
}

fn tables(seen: &MeshSeen) -> Check {
    let (layer, name) = (Layer::Mesh, "packet filter");
    match &seen.tables_missing {
        Err(error) => Check::skip(layer, name, error),
        Ok(missing) if missing.is_empty() => Check::pass(layer, name, "our tables are in place"),
        Ok(missing) => {
            let found = format!("missing: table {}", missing.join(", table "));
            Check::fail(layer, name, found, RESTART)
        }
    }
}

fn one(peer: &PeerSeen, agent: bool) -> Check {
    let name = format!("peer {}", peer.name);
    if !agent {
        return Check::skip(Layer::Mesh, name, "the agent does not answer");
    }
    let node = &peer.name;
    match (&peer.path, &peer.answers) {
        (Some(path), Ok(())) => Check::pass(Layer::Mesh, name, path),
        (Some(path), Err(why)) => Check::fail(
            Layer::Mesh,
            name,
            format!("{path}, but nothing comes back through the mesh: {why}"),
            format!("bastide doctor (on {node})"),
        ),
        (None, _) => Check::fail(
            Layer::Mesh,
            name,
            "no path: neither direct nor through a relay",
            format!(
                "see that {node} runs and is connected (there: bastide doctor); gone for good: \
                 bastide node remove {node}"
            ),
        ),
    }
}
