//! Routes of the main table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LinkIndex, NetlinkError, Request, Socket};

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; a prefix of length zero is the default route.
    pub to: IpNet,
    /// The link to send on. The kernel finds it by `via` if it is `None`.
    pub dev: Option<LinkIndex>,
    /// The next hop; the destination is on the link itself if `None`.
    pub via: Option<IpAddr>,
    /// Largest packet in bytes, if smaller than the link's.
    pub mtu: Option<u32>,
    /// The address to send from when the program did not choose.
    pub src: Option<IpAddr>,
}

impl Route {
    /// A route to `to` that is on the link `dev` itself.
    pub fn on_link(to: IpNet, dev: LinkIndex) -> Self {
        Self {
            to,
            dev: Some(dev),
            via: None,
            mtu: None,
            src: None,
        }
    }

    /// A route to `to` by way of the neighbour `via`.
    pub fn via(to: IpNet, via: IpAddr) -> Self {
        Self {
            to,
            dev: None,
            via: Some(via),
            mtu: None,
            src: None,
        }
    }

    fn message(&self) -> RouteMessage {
        let to = self.to.trunc();
        let mut message = RouteMessage::default();
        message.header.address_family = family(&to);
        message.header.destination_prefix_length = to.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match (self.via, &to) {
            (None, IpNet::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        if to.prefix_len() != 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(to.addr().into()));
        }
        if let Some(LinkIndex(dev)) = self.dev {
            message.attributes.push(RouteAttribute::Oif(dev));
        }
        if let Some(via) = self.via {
            message.attributes.push(RouteAttribute::Gateway(via.into()));
        }
        if let Some(src) = self.src {
            message
                .attributes
                .push(RouteAttribute::PrefSource(src.into()));
        }
        if let Some(mtu) = self.mtu {
            message
                .attributes
                .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        message
    }
}

/// The metric of routes that say that nothing is there: any other route to the same range wins.
const LAST_RESORT: u32 = u32::MAX - 1;

/// The route that says that nothing is in `to`, unless another one says where.
fn unreachable(to: IpNet) -> RouteMessage {
    let mut message = Route {
        to,
        dev: None,
        via: None,
        mtu: None,
        src: None,
    }
    .message();
    message.header.kind = RouteType::Unreachable;
    message.header.scope = RouteScope::Universe;
    message
        .attributes
        .push(RouteAttribute::Priority(LAST_RESORT));
    message
}

impl Request {
    /// Makes a route, in place of an older one to the same destination.
    pub fn replace_route(route: &Route) -> Self {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        Self::new(
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
            "set route",
            route.to.to_string(),
        )
    }

    /// Deletes a route; the fields that are given must match.
    pub fn delete_route(route: &Route) -> Self {
        let mut message = route.message();
        // What was not given matches any: `NoWhere` and `Unspec` are the kernel's wildcards.
        message.header.scope = RouteScope::NoWhere;
        message.header.protocol = RouteProtocol::Unspec;
        let message = RouteNetlinkMessage::DelRoute(message);
        Self::new(message, 0, "delete route", route.to.to_string())
    }
}

impl Socket {
    /// Lists the unicast routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let query = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let answers = self.dump("list routes", &query)?;
        Ok(answers.into_iter().filter_map(parse).collect())
    }

    /// See [`Request::replace_route`].
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.apply(Request::replace_route(route))
    }

    /// Lets the kernel answer that nothing is in `to`, in place of the default route, where no other
    /// route leads into it. Returns whether that is news.
    pub fn add_unreachable(&mut self, to: IpNet) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(unreachable(to));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.apply(Request::new(message, flags, "set route", to.to_string())) {
            Err(error) if error.is_existing() => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Undoes [`Self::add_unreachable`].
    pub fn delete_unreachable(&mut self, to: IpNet) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(unreachable(to));
        match self.apply(Request::new(message, 0, "delete route", to.to_string())) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// Deletes a route; one that is not there is no error.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        match self.apply(Request::delete_route(route)) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

fn family(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn parse(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let length = header.destination_prefix_length;
    let mut to = unspecified;
    let (mut dev, mut via, mut mtu, mut src) = (None, None, None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(&address)?,
            RouteAttribute::Oif(index) => dev = Some(LinkIndex(index)),
            RouteAttribute::Gateway(address) => via = ip(&address),
            RouteAttribute::PrefSource(address) => src = ip(&address),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(bytes) = metric {
                        mtu = Some(bytes);
                    }
                }
            }
            _ => {}
        }
    }
    Some(Route {
        to: IpNet::new(to, length).ok()?,
        dev,
        via,
        mtu,
        src,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
