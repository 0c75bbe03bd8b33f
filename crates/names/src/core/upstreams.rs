//! Which resolvers to ask for the names of others.

use std::net::{IpAddr, SocketAddr};

use bastide_api::ports;

/// Most resolvers that are asked for one name (glibc's `MAXNS`).
const UPSTREAMS_MAX: usize = 3;

/// Reads the resolvers out of a `resolv.conf`. `own`, the resolver's own address, is left out: it
/// would ask itself.
pub fn upstreams(resolv_conf: &str, own: IpAddr) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A scope (`fe80::1%eth0`) would need the interface; such a server is passed over.
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        let upstream = SocketAddr::new(address, ports::DNS);
        if address != own && !found.contains(&upstream) && found.len() < UPSTREAMS_MAX {
            found.push(upstream);
        }
    }
    found
}

#[cfg(test)]
mod tests;
