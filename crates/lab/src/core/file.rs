//! The lab's file: YAML, read strictly. Whatever is wrong is told with its line and what was
//! expected there.
//!
//! ```yaml
//! lab: two-sites                      # its name, one lab of a name at a time
//! nodes:
//!   internet: { kind: switch }        # one Ethernet
//!   atlas:
//!     kind: host                      # a machine of its own
//!     interfaces:
//!       eth0: { link: internet, address: 203.0.113.10/24 }
//!   gate:
//!     kind: router                    # forwards between its interfaces
//!     nat: port-restricted            # or `symmetric`, or `none`
//!     wan: wan                        # the interface outside of the translation
//!     interfaces:
//!       wan: { link: internet, address: 203.0.113.20/24, mtu: 1492 }
//!       lan: { link: boreas, address: 192.168.1.1/24, more_addresses: ['fd00::1/64'] }
//!   boreas:
//!     kind: host
//!     interfaces:
//!       eth0: { link: gate, address: 192.168.1.10/24 }   # a wire: both ends name the other
//!     routes:
//!       default: 192.168.1.1          # or a subnet, by way of a neighbour
//! ```
//!
//! `link` is a switch, a node, or `node/interface` where two wires join the same nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::plan::{
    INTERFACES_MAX, Interface, InterfaceName, LabName, NODES_MAX, Nat, NatKind, Node, NodeName,
    Plan, Role, Segment,
};

/// Longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a lab's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// The line, from 1; 0 if it is the whole file.
    pub line: u64,
    /// The column, from 1; 0 if it is the whole line.
    pub column: u64,
    /// What is wrong and what was expected.
    pub what: String,
}

impl ParseError {
    fn at(location: Location, what: impl Into<String>) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
            what: what.into(),
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabFile {
    lab: Spanned<String>,
    nodes: Spanned<BTreeMap<String, Spanned<NodeFile>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    kind: Spanned<String>,
    nat: Option<Spanned<String>>,
    wan: Option<Spanned<String>>,
    #[serde(default)]
    interfaces: BTreeMap<String, Spanned<InterfaceFile>>,
    #[serde(default)]
    routes: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceFile {
    link: Spanned<String>,
    address: Option<Spanned<String>>,
    #[serde(default)]
    more_addresses: Vec<Spanned<String>>,
    mtu: Option<Spanned<u32>>,
}

impl Plan {
    /// Reads and checks a lab's file.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if FILE_BYTES_MAX < text.len() {
            let what = format!(
                "the file has {} bytes; expected at most {FILE_BYTES_MAX}",
                text.len()
            );
            return Err(ParseError {
                line: 0,
                column: 0,
                what,
            });
        }
        let file: LabFile = serde_saphyr::from_str(text).map_err(|error| syntax(&error))?;
        read(&file, text)
    }
}

/// Turns the reader's error, whose first line says what and where, into ours.
fn syntax(error: &serde_saphyr::Error) -> ParseError {
    let (line, column) = error
        .location()
        .map_or((0, 0), |at| (at.line(), at.column()));
    let text = error.without_snippet().to_string();
    let mut what = text.lines().next().unwrap_or_default().to_owned();
    if let Some(prefix) = what.find(&format!(" at line {line}")) {
        what.truncate(prefix);
    }
    ParseError { line, column, what }
}

fn read(file: &LabFile, text: &str) -> Result<Plan, ParseError> {
    let name: LabName = parse(&file.lab)?;
    if file.nodes.value.is_empty() || NODES_MAX < file.nodes.value.len() {
        let what = format!("expected 1 to {NODES_MAX} nodes");
        return Err(ParseError::at(file.nodes.referenced, what));
    }
    let mut nodes = BTreeMap::new();
    for (node, written) in &file.nodes.value {
        let location = written.referenced;
        let node: NodeName = node.parse().map_err(|error| fail(location, &error))?;
        nodes.insert(node, read_node(written)?);
    }
    let segments = connect(file, &mut nodes)?;
    check_addresses(file, &nodes)?;
    Ok(Plan {
        name,
        nodes,
        segments,
        text: text.to_owned(),
    })
}

fn read_node(written: &Spanned<NodeFile>) -> Result<Node, ParseError> {
    let node = &written.value;
    if INTERFACES_MAX < node.interfaces.len() {
        let what = format!("expected at most {INTERFACES_MAX} interfaces");
        return Err(ParseError::at(written.referenced, what));
    }
    let mut interfaces = BTreeMap::new();
    for (name, written) in &node.interfaces {
        let name: InterfaceName = name
            .parse()
            .map_err(|error| fail(written.referenced, &error))?;
        interfaces.insert(name, read_interface(&written.value)?);
    }
    let mut routes = Vec::new();
    for (to, via) in &node.routes {
        routes.push(read_route(to, via, &interfaces)?);
    }
    let role = read_role(node, &interfaces)?;
    Ok(Node {
        role,
        interfaces,
        routes,
    })
}

fn read_role(
    node: &NodeFile,
    interfaces: &BTreeMap<InterfaceName, Interface>,
) -> Result<Role, ParseError> {
    let refused = |field: &Option<Spanned<String>>, name: &str| match field {
        Some(field) => {
            let what = format!("a {} has no `{name}`: only a router has", node.kind.value);
            Err(ParseError::at(field.referenced, what))
        }
        None => Ok(()),
    };
    match node.kind.value.as_str() {
        "router" => Ok(Role::Router(read_nat(node, interfaces)?)),
        "host" => {
            refused(&node.nat, "nat")?;
            refused(&node.wan, "wan")?;
            Ok(Role::Host)
        }
        "switch" => {
            refused(&node.nat, "nat")?;
            refused(&node.wan, "wan")?;
            if !node.interfaces.is_empty() || !node.routes.is_empty() {
                let what = "a switch has no `interfaces` and no `routes`: name it as the `link` of \
                            a host's or router's interface";
                return Err(ParseError::at(node.kind.referenced, what));
            }
            Ok(Role::Switch)
        }
        other => {
            let what = format!("unknown kind `{other}`: expected `host`, `router` or `switch`");
            Err(ParseError::at(node.kind.referenced, what))
        }
    }
}

fn read_nat(
    node: &NodeFile,
    interfaces: &BTreeMap<InterfaceName, Interface>,
) -> Result<Option<Nat>, ParseError> {
    let (kind, at) = match &node.nat {
        None => (None, node.kind.referenced),
        Some(nat) => match nat.value.as_str() {
            "none" => (None, nat.referenced),
            "port-restricted" => (Some(NatKind::PortRestricted), nat.referenced),
            "symmetric" => (Some(NatKind::Symmetric), nat.referenced),
            other => {
                let what = format!(
                    "unknown nat `{other}`: expected `none`, `port-restricted` or `symmetric`"
                );
                return Err(ParseError::at(nat.referenced, what));
            }
        },
    };
    match (kind, &node.wan) {
        (None, None) => Ok(None),
        (None, Some(wan)) => Err(ParseError::at(
            wan.referenced,
            "`wan` is given without `nat`: expected both or none",
        )),
        (Some(_), None) => Err(ParseError::at(
            at,
            "`nat` needs `wan`: expected the name of the outer interface",
        )),
        (Some(kind), Some(written)) => {
            let wan: InterfaceName = parse(written)?;
            let has_address = interfaces
                .get(&wan)
                .is_some_and(|found| found.addresses.iter().any(|net| net.addr().is_ipv4()));
            if !has_address {
                let what = format!("`{wan}` is no interface of this router with an IPv4 address");
                return Err(ParseError::at(written.referenced, what));
            }
            Ok(Some(Nat { kind, wan }))
        }
    }
}

fn read_interface(written: &InterfaceFile) -> Result<Interface, ParseError> {
    let mut addresses = Vec::new();
    for address in written.address.iter().chain(&written.more_addresses) {
        let net: IpNet = address.value.parse().map_err(|_| {
            let what = format!(
                "`{}` is not an address with a prefix length: expected the like of `192.168.1.10/24`",
                address.value
            );
            ParseError::at(address.referenced, what)
        })?;
        let is_subnet_itself = net.prefix_len() < net.max_prefix_len() - 1
            && (net.addr() == net.network()
                || (net.addr().is_ipv4() && net.addr() == net.broadcast()));
        if is_subnet_itself {
            let what = format!("`{net}` is the subnet's own or its broadcast address");
            return Err(ParseError::at(address.referenced, what));
        }
        addresses.push(net);
    }
    let mtu = match &written.mtu {
        Some(mtu) if !(576..=65_535).contains(&mtu.value) => {
            return Err(ParseError::at(
                mtu.referenced,
                "expected an mtu of 576 to 65535",
            ));
        }
        mtu => mtu.as_ref().map(|mtu| mtu.value),
    };
    // The segment is set when all nodes are known.
    Ok(Interface {
        segment: Segment(usize::MAX),
        addresses,
        mtu,
    })
}

fn read_route(
    to: &str,
    via: &Spanned<String>,
    interfaces: &BTreeMap<InterfaceName, Interface>,
) -> Result<(IpNet, IpAddr), ParseError> {
    let at = via.referenced;
    let next: IpAddr = via.value.parse().map_err(|_| {
        ParseError::at(
            at,
            format!("`{}` is not an address: expected the next hop's", via.value),
        )
    })?;
    let to: IpNet = match (to, next) {
        ("default", IpAddr::V4(_)) => "0.0.0.0/0".parse().expect("constant"),
        ("default", IpAddr::V6(_)) => "::/0".parse().expect("constant"),
        (to, _) => to.parse().map_err(|_| {
            let what = format!("`{to}` is not a destination: expected `default` or a subnet");
            ParseError::at(at, what)
        })?,
    };
    let mut subnets = interfaces
        .values()
        .flat_map(|interface| &interface.addresses);
    if !subnets.any(|net| net.contains(&next)) {
        let what = format!("next hop `{next}` is in no subnet of this node's interfaces");
        return Err(ParseError::at(at, what));
    }
    if to.addr().is_ipv4() != next.is_ipv4() {
        return Err(ParseError::at(
            at,
            "destination and next hop are of two IP versions",
        ));
    }
    Ok((to.trunc(), next))
}

/// Gives each interface its segment and returns the number of segments.
fn connect(file: &LabFile, nodes: &mut BTreeMap<NodeName, Node>) -> Result<usize, ParseError> {
    let mut segments: BTreeMap<NodeName, Segment> = BTreeMap::new();
    for (name, node) in nodes.iter() {
        if node.role == Role::Switch {
            segments.insert(name.clone(), Segment(segments.len()));
        }
    }
    let mut count = segments.len();
    let mut wires: BTreeMap<[(NodeName, InterfaceName); 2], Segment> = BTreeMap::new();
    let names: Vec<NodeName> = nodes.keys().cloned().collect();
    for name in &names {
        for (interface, written) in &file.nodes.value[name.as_str()].value.interfaces {
            let interface: InterfaceName = interface
                .parse()
                .map_err(|error| fail(written.referenced, &error))?;
            let link = &written.value.link;
            let segment = if let Some((_, segment)) = segments
                .iter()
                .find(|(switch, _)| switch.as_str() == link.value)
            {
                *segment
            } else {
                let far = far_end(file, name, &interface, link)?;
                let mut wire = [(name.clone(), interface.clone()), far];
                wire.sort();
                *wires.entry(wire).or_insert_with(|| {
                    count += 1;
                    Segment(count - 1)
                })
            };
            let node = nodes.get_mut(name).expect("the name is one of the map's");
            let found = node
                .interfaces
                .get_mut(&interface)
                .expect("read from the same file");
            found.segment = segment;
        }
    }
    Ok(count)
}

/// Finds the interface at the other end of a wire, which must name this one in turn.
fn far_end(
    file: &LabFile,
    name: &NodeName,
    interface: &InterfaceName,
    link: &Spanned<String>,
) -> Result<(NodeName, InterfaceName), ParseError> {
    let at = link.referenced;
    let (far_name, far_interface) = match link.value.split_once('/') {
        Some((node, interface)) => (node, Some(interface)),
        None => (link.value.as_str(), None),
    };
    let Some(far) = file.nodes.value.get(far_name) else {
        let what = format!(
            "no node is called `{far_name}`: expected a switch, `node` or `node/interface`"
        );
        return Err(ParseError::at(at, what));
    };
    let here = [name.as_str().to_owned(), format!("{name}/{interface}")];
    let candidates: Vec<&String> = far
        .value
        .interfaces
        .iter()
        .filter(|(found, written)| {
            far_interface.is_none_or(|wanted| wanted == found.as_str())
                && here.contains(&written.value.link.value)
                && !(far_name == name.as_str() && found.as_str() == interface.as_str())
        })
        .map(|(found, _)| found)
        .collect();
    match candidates.as_slice() {
        [one] => {
            let node = far_name
                .parse()
                .map_err(|error: bastide_api::NameError| fail(at, &error))?;
            Ok((node, one.parse().map_err(|error| fail(at, &error))?))
        }
        [] => {
            let what = format!(
                "no interface of `{far_name}` links back: expected one with `link: {name}`"
            );
            Err(ParseError::at(at, what))
        }
        _ => {
            let what = format!(
                "several interfaces of `{far_name}` link back: expected `link: {far_name}/<interface>` \
                 on both sides"
            );
            Err(ParseError::at(at, what))
        }
    }
}

/// No address stands twice on one Ethernet.
fn check_addresses(file: &LabFile, nodes: &BTreeMap<NodeName, Node>) -> Result<(), ParseError> {
    let mut seen: BTreeMap<(Segment, IpAddr), &NodeName> = BTreeMap::new();
    for (name, node) in nodes {
        for (interface_name, interface) in &node.interfaces {
            for net in &interface.addresses {
                if let Some(other) = seen.insert((interface.segment, net.addr()), name) {
                    let written = &file.nodes.value[name.as_str()].value.interfaces;
                    let at = written[interface_name.as_str()].referenced;
                    let what = format!("`{}` is taken by `{other}` on the same link", net.addr());
                    return Err(ParseError::at(at, what));
                }
            }
        }
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(written: &Spanned<String>) -> Result<T, ParseError>
where
    T::Err: std::fmt::Display,
{
    written
        .value
        .parse()
        .map_err(|error: T::Err| fail(written.referenced, &error))
}

fn fail(at: Location, error: &impl std::fmt::Display) -> ParseError {
    ParseError::at(at, error.to_string())
}

#[cfg(test)]
mod tests;
