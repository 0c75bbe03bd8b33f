//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LinkIndex, NetlinkError, Request, Socket};

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The link that has it.
    pub link: LinkIndex,
    /// The address and the length of its subnet's prefix.
    pub net: IpNet,
    /// Whether it is valid beyond the link: neither link-local nor of the host alone.
    pub is_global: bool,
    /// Whether it may be used now: not tentative and not found to be a duplicate.
    pub is_usable: bool,
}

impl Request {
    /// Gives a link an address. IPv6 addresses skip the check for duplicates, which takes seconds.
    pub fn add_address(link: LinkIndex, net: IpNet) -> Self {
        let message = RouteNetlinkMessage::NewAddress(message(link, net));
        Self::new(
            message,
            NLM_F_CREATE | NLM_F_EXCL,
            "add address",
            net.to_string(),
        )
    }

    /// Takes an address from a link.
    pub fn delete_address(link: LinkIndex, net: IpNet) -> Self {
        let message = RouteNetlinkMessage::DelAddress(message(link, net));
        Self::new(message, 0, "delete address", net.to_string())
    }
}

impl Socket {
    /// Lists the addresses of all links.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump("list addresses", &query)?;
        Ok(answers.into_iter().filter_map(parse).collect())
    }

    /// Gives a link an address; one that it has already is no error.
    pub fn add_address(&mut self, link: LinkIndex, net: IpNet) -> Result<(), NetlinkError> {
        match self.apply(Request::add_address(link, net)) {
            Err(error) if error.is_existing() => Ok(()),
            result => result,
        }
    }

    /// Takes an address from a link; one that it has not is no error.
    pub fn delete_address(&mut self, link: LinkIndex, net: IpNet) -> Result<(), NetlinkError> {
        match self.apply(Request::delete_address(link, net)) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

fn message(link: LinkIndex, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link.0;
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(net.addr()));
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

pub(super) fn parse(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let mut address: Option<IpAddr> = None;
    let mut local: Option<IpAddr> = None;
    let mut is_usable = true;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(ip),
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Flags(flags) => {
                is_usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
            }
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the far end and `Local` our own.
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address {
        link: LinkIndex(message.header.index),
        net,
        is_global: matches!(
            message.header.scope,
            AddressScope::Universe | AddressScope::Site
        ),
        is_usable,
    })
}
