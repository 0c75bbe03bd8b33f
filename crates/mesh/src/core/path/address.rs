//! Which addresses may be probed at all.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;

/// Ranges that are never an underlay: those of mesh and containers. A tunnel inside itself is a loop
/// that other meshes had to learn of from their users.
#[derive(Debug, Clone, Default)]
pub struct Exclude(pub Vec<Ipv4Net>);

impl Exclude {
    /// Tells whether a datagram may be sent to `address`: a unicast address that is neither this
    /// host's own loopback, nor of one link alone, nor in an excluded range.
    pub fn allows(&self, address: SocketAddr) -> bool {
        if address.port() == 0 {
            return false;
        }
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let odd = ip.is_unspecified()
                    || ip.is_loopback()
                    || ip.is_multicast()
                    || ip.is_link_local()
                    || ip == Ipv4Addr::BROADCAST;
                !odd && !self.0.iter().any(|net| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                !ip.is_unspecified()
                    && !ip.is_loopback()
                    && !ip.is_multicast()
                    && !ip.is_unicast_link_local()
            }
        }
    }
}

#[cfg(test)]
mod tests;
