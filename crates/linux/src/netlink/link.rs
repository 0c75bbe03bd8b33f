//! Links: what `ip link` does, as far as it is needed here.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};

use super::{NetlinkError, Request, Socket};

/// The number of a link within its network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What kind of device a link is, as far as this crate cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A device that was not made by software, or the loopback device.
    Hardware,
    /// One end of a pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A macvlan.
    MacVlan,
    /// A TUN or TAP device.
    Tun,
    /// A WireGuard device of the kernel.
    WireGuard,
    /// Another, by the kernel's name of it.
    Other(String),
}

/// A link as the kernel tells of it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the kernel's own"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: LinkKind,
    /// Whether it is set up.
    pub is_up: bool,
    /// Whether it can carry frames: set up and with a carrier. The kernel's `RUNNING` flag lags
    /// behind this, because it follows from a queue of its own.
    pub is_running: bool,
    /// Whether it is the loopback device.
    pub is_loopback: bool,
    /// Whether it connects two points, like a tunnel.
    pub is_point_to_point: bool,
    /// Largest payload in bytes.
    pub mtu: u32,
    /// Frames that may wait to be sent.
    pub queue_length: u32,
    /// Hardware address; empty where there is none.
    pub mac: Vec<u8>,
    /// The bridge (or other controller) it is a port of.
    pub master: Option<LinkIndex>,
}

/// One end of a pair of virtual Ethernet devices.
#[derive(Debug, Clone)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// The namespace to make it in; that of the socket if `None`.
    pub network: Option<BorrowedFd<'a>>,
    /// The index it shall have; the kernel chooses if `None`. Of a pair, give both or neither: the
    /// kernel ignores the far end's if the near end has none.
    pub index: Option<LinkIndex>,
    /// The bridge it shall be a port of, in the socket's own namespace.
    pub master: Option<LinkIndex>,
    /// Largest payload in bytes; 1500 if `None`.
    pub mtu: Option<u32>,
    /// Hardware address; random if `None`.
    pub mac: Option<[u8; 6]>,
}

impl<'a> VethEnd<'a> {
    /// An end called `name` in the socket's own namespace, with everything else chosen by the kernel.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            network: None,
            index: None,
            master: None,
            mtu: None,
            mac: None,
        }
    }

    fn message_up(&self) -> LinkMessage {
        let mut message = self.message();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = self.index.map_or(0, |index| index.0);
        message
            .attributes
            .push(LinkAttribute::IfName(self.name.to_owned()));
        if let Some(network) = self.network {
            message
                .attributes
                .push(LinkAttribute::NetNsFd(network.as_raw_fd()));
        }
        if let Some(LinkIndex(master)) = self.master {
            message.attributes.push(LinkAttribute::Controller(master));
        }
        if let Some(mtu) = self.mtu {
            message.attributes.push(LinkAttribute::Mtu(mtu));
        }
        if let Some(mac) = self.mac {
            message
                .attributes
                .push(LinkAttribute::Address(mac.to_vec()));
        }
        message
    }
}

impl Request {
    /// Makes a pair of connected Ethernet devices, each straight in its namespace, so that neither
    /// is ever seen in another one. The near end is set up; the far end is down, because the kernel
    /// cannot set up both at once. `near.network` must be `None`: the near end is made in the
    /// socket's own namespace.
    pub fn add_veth(near: &VethEnd<'_>, far: &VethEnd<'_>) -> Self {
        let mut message = near.message_up();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far.message()))),
        ]));
        Self::create(message, format!("{} and {}", near.name, far.name))
    }

    /// Makes a bridge, set up, that forwards at once: no spanning tree, no multicast snooping.
    pub fn add_bridge(name: &str, index: Option<LinkIndex>) -> Self {
        let mut message = VethEnd {
            index,
            ..VethEnd::new(name)
        }
        .message_up();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                InfoBridge::ForwardDelay(0),
                InfoBridge::StpState(BridgeStpState::Disabled),
                InfoBridge::MulticastSnooping(false),
            ])),
        ]));
        Self::create(message, name)
    }

    /// Makes a macvlan in bridge mode on `parent`, set up, in `network` if given.
    pub fn add_macvlan(name: &str, parent: LinkIndex, network: Option<BorrowedFd<'_>>) -> Self {
        let mut message = VethEnd {
            network,
            ..VethEnd::new(name)
        }
        .message_up();
        message.attributes.push(LinkAttribute::Link(parent.0));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                MacVlanMode::Bridge,
            )])),
        ]));
        Self::create(message, name)
    }

    /// Deletes a link; the other end of a pair goes with it.
    pub fn delete_link(index: LinkIndex) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        let message = RouteNetlinkMessage::DelLink(message);
        Self::new(message, 0, "delete link", index.to_string())
    }

    /// Sets a link up.
    pub fn set_up(index: LinkIndex) -> Self {
        Self::set_flags(index, LinkFlags::Up, "set up link")
    }

    /// Sets a link down. The kernel drops the link's routes then.
    pub fn set_down(index: LinkIndex) -> Self {
        Self::set_flags(index, LinkFlags::empty(), "set down link")
    }

    /// Sets the largest payload of a link, in bytes.
    pub fn set_mtu(index: LinkIndex, mtu: u32) -> Self {
        Self::change(index, LinkAttribute::Mtu(mtu), "set the mtu of link")
    }

    /// Sets how many frames may wait to be sent.
    pub fn set_queue_length(index: LinkIndex, frames: u32) -> Self {
        Self::change(
            index,
            LinkAttribute::TxQueueLen(frames),
            "set the queue length of link",
        )
    }

    /// Makes a link a port of the bridge `master`, or of none. One that is plugged out this way
    /// keeps its carrier, so the device at its other end notices nothing.
    pub fn set_master(index: LinkIndex, master: Option<LinkIndex>) -> Self {
        let attribute = LinkAttribute::Controller(master.map_or(0, |master| master.0));
        Self::change(index, attribute, "set the master of link")
    }

    fn create(message: LinkMessage, object: impl Into<String>) -> Self {
        let message = RouteNetlinkMessage::NewLink(message);
        Self::new(message, NLM_F_CREATE | NLM_F_EXCL, "create link", object)
    }

    fn set_flags(index: LinkIndex, flags: LinkFlags, operation: &'static str) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        Self::new(
            RouteNetlinkMessage::NewLink(message),
            0,
            operation,
            index.to_string(),
        )
    }

    fn change(index: LinkIndex, attribute: LinkAttribute, operation: &'static str) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.attributes.push(attribute);
        Self::new(
            RouteNetlinkMessage::NewLink(message),
            0,
            operation,
            index.to_string(),
        )
    }
}

impl Socket {
    /// Lists all links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.dump("list links", &query)?;
        Ok(answers.into_iter().filter_map(parse).collect())
    }

    /// Finds a link by name; `None` if there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// See [`Request::add_veth`].
    pub fn add_veth(&mut self, near: &VethEnd<'_>, far: &VethEnd<'_>) -> Result<(), NetlinkError> {
        self.apply(Request::add_veth(near, far))
    }

    /// See [`Request::add_bridge`].
    pub fn add_bridge(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.apply(Request::add_bridge(name, None))
    }

    /// Deletes the link called `name`; one that is not there is no error.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name)? else {
            return Ok(());
        };
        match self.apply(Request::delete_link(link.index)) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: LinkIndex) -> Result<(), NetlinkError> {
        self.apply(Request::set_up(index))
    }

    /// Sets a link down. The kernel drops the link's routes then.
    pub fn set_down(&mut self, index: LinkIndex) -> Result<(), NetlinkError> {
        self.apply(Request::set_down(index))
    }

    /// Sets the largest payload of a link, in bytes.
    pub fn set_mtu(&mut self, index: LinkIndex, mtu: u32) -> Result<(), NetlinkError> {
        self.apply(Request::set_mtu(index, mtu))
    }
}

pub(super) fn parse(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: LinkIndex(message.header.index),
        name: String::new(),
        kind: LinkKind::Hardware,
        is_up: flags.contains(LinkFlags::Up),
        is_running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_point_to_point: flags.contains(LinkFlags::Pointopoint),
        mtu: 0,
        queue_length: 0,
        mac: Vec::new(),
        master: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::TxQueueLen(frames) => link.queue_length = frames,
            LinkAttribute::Address(mac) => link.mac = mac,
            LinkAttribute::Controller(index) => link.master = Some(LinkIndex(index)),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = parse_kind(&kind);
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_kind(kind: &InfoKind) -> LinkKind {
    match kind {
        InfoKind::Veth => LinkKind::Veth,
        InfoKind::Bridge => LinkKind::Bridge,
        InfoKind::MacVlan => LinkKind::MacVlan,
        InfoKind::Tun => LinkKind::Tun,
        InfoKind::Wireguard => LinkKind::WireGuard,
        other => LinkKind::Other(other.to_string()),
    }
}
