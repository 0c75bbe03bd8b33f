//! Networks that something is bound to: a token, a role, a secret id.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;

use crate::core::fields::Fields;
use crate::core::refusal::Refusal;

/// Most networks of one list.
pub const CIDRS_MAX: usize = 256;

/// Reads a field that lists networks: addresses, or networks in CIDR form.
pub fn field(fields: Fields<'_>, name: &str) -> Result<Option<Vec<IpNet>>, Refusal> {
    let Some(given) = fields.list(name)? else {
        return Ok(None);
    };
    if CIDRS_MAX < given.len() {
        return Err(Refusal::invalid(format!(
            "{name} has at most {CIDRS_MAX} networks"
        )));
    }
    let parsed = given.iter().filter(|text| !text.is_empty()).map(|text| {
        parse(text).ok_or_else(|| {
            Refusal::invalid(format!(
                "error parsing {name}: not an address or a network such as 10.0.0.0/8"
            ))
        })
    });
    parsed.collect::<Result<_, _>>().map(Some)
}

/// Parses a network in CIDR form, or an address, which is the network of that one address.
pub fn parse(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => text.parse().ok().map(canonical),
    }
}

/// Returns a network of IPv4 addresses in IPv6's form, `::ffff:10.0.0.0/104`, as what it is: addresses
/// are compared in their own form, so that it would hold none otherwise.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(six) = net else {
        return net;
    };
    let mapped = six.prefix_len().checked_sub(96);
    let four = six.addr().to_ipv4_mapped().zip(mapped);
    four.and_then(|(addr, len)| Ipv4Net::new(addr, len).ok())
        .map_or(net, IpNet::V4)
}

/// Shows networks as they were given: one address without its length.
pub fn shown(cidrs: &[IpNet]) -> Value {
    let text = |net: &IpNet| {
        if net.prefix_len() == net.max_prefix_len() {
            net.addr().to_string()
        } else {
            net.to_string()
        }
    };
    cidrs.iter().map(text).collect::<Vec<_>>().into()
}

/// Shows networks in full: one address with its length.
pub fn shown_in_full(cidrs: &[IpNet]) -> Value {
    cidrs
        .iter()
        .map(IpNet::to_string)
        .collect::<Vec<_>>()
        .into()
}

/// Returns whether each of `inner` lies in one of `outer`.
pub fn lie_within(inner: &[IpNet], outer: &[IpNet]) -> bool {
    inner
        .iter()
        .all(|inner| outer.iter().any(|outer| outer.contains(inner)))
}

/// Returns whether `peer` lies in one of the networks. Without networks everybody does; with them
/// nobody does whose address is not known.
pub fn admit(cidrs: &[IpNet], peer: Option<SocketAddr>) -> bool {
    if cidrs.is_empty() {
        return true;
    }
    let Some(peer) = peer else {
        return false;
    };
    // An IPv4 peer of a listener on `::` has an address such as `::ffff:10.0.0.1`.
    let address = peer.ip().to_canonical();
    cidrs.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests;
