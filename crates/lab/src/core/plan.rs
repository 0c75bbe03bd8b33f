//! A lab as a value: nodes, their interfaces, and the segments that connect them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use bastide_api::NodeName;
use ipnet::IpNet;

/// Longest name of a lab. Names of its control groups and its socket are made from it.
pub const LAB_NAME_MAX: usize = 32;
/// Longest name of an interface: the kernel's `IFNAMSIZ` less the final zero.
pub const INTERFACE_NAME_MAX: usize = 15;
/// Most nodes of a lab.
pub const NODES_MAX: usize = 1024;
/// Most interfaces of a node.
pub const INTERFACES_MAX: usize = 64;

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: expected {expected}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

/// The name of a lab: a DNS label of at most 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabName(String);

impl FromStr for LabName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= LAB_NAME_MAX && text.parse::<NodeName>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError {
            text: text.chars().take(2 * LAB_NAME_MAX).collect(),
            kind: "a lab's name",
            expected: "1 to 32 lower-case letters, digits or hyphens, \
                       with a letter or digit at both ends",
        })
    }
}

impl LabName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an interface within a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl FromStr for InterfaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if text.len() <= INTERFACE_NAME_MAX
            && starts_well
            && text.bytes().all(is_inner)
            && text != "lo"
        {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError {
            text: text.chars().take(2 * INTERFACE_NAME_MAX).collect(),
            kind: "an interface's name",
            expected: "a letter and up to 14 letters, digits, hyphens, underscores or dots; not `lo`",
        })
    }
}

impl InterfaceName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a router translates addresses (terms of RFC 4787).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// Endpoint-independent mapping, address-and-port-dependent filtering, ports kept where free:
    /// what most routers at home do.
    PortRestricted,
    /// Address-and-port-dependent mapping and filtering: another port for each destination.
    Symmetric,
}

/// A translation of addresses on the way out of a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// How.
    pub kind: NatKind,
    /// The interface that faces outside.
    pub wan: InterfaceName,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A machine: network, files, processes and hostname of its own. It does not forward.
    Host,
    /// Forwards between its interfaces, translating addresses if so told.
    Router(Option<Nat>),
    /// Connects what is linked to it, as one Ethernet.
    Switch,
}

impl Role {
    /// Returns the word of the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Router(_) => "router",
            Self::Switch => "switch",
        }
    }
}

/// One Ethernet: a switch, or the wire between two interfaces. It is a bridge either way, so that
/// it can be cut without either end losing its carrier, addresses or routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment(pub usize);

/// An interface of a host or router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The Ethernet it is on.
    pub segment: Segment,
    /// Its addresses with the lengths of their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// Largest payload in bytes; 1500 if `None`.
    pub mtu: Option<u32>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Its interfaces; none for a switch.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// Destinations beyond its own subnets and their next hops.
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// One end of a link, by which the link is named: `node/interface`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The node.
    pub node: NodeName,
    /// Its interface.
    pub interface: InterfaceName,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.interface)
    }
}

/// A whole lab. Made by [`Plan::parse`] only, which checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(crate) name: LabName,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) segments: usize,
    pub(crate) text: String,
}

impl Plan {
    /// Returns the lab's name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// Returns the nodes, switches included.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// Returns the number of Ethernets.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Returns the file that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the node called `name`.
    pub fn node(&self, name: &str) -> Option<(&NodeName, &Node)> {
        self.nodes.iter().find(|(node, _)| node.as_str() == name)
    }

    /// Returns the end that `link` (`node/interface`) names.
    pub fn end(&self, link: &str) -> Option<End> {
        let (node, interface) = link.split_once('/')?;
        let (node, found) = self.node(node)?;
        let interface = found
            .interfaces
            .keys()
            .find(|name| name.as_str() == interface)?;
        Some(End {
            node: node.clone(),
            interface: interface.clone(),
        })
    }

    /// Returns all ends with their interfaces, in the order of the nodes' and interfaces' names.
    pub fn ends(&self) -> impl Iterator<Item = (End, &Interface)> {
        self.nodes.iter().flat_map(|(node, found)| {
            found.interfaces.iter().map(|(interface, value)| {
                (
                    End {
                        node: node.clone(),
                        interface: interface.clone(),
                    },
                    value,
                )
            })
        })
    }
}
