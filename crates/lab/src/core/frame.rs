//! Reads the headers of captured frames, the inner ones of each encapsulation too.
//!
//! Bytes come from a wire, so any bytes are taken: what cannot be read ends the reading of that
//! frame and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many headers within headers are followed.
const DEPTH_MAX: u8 = 8;
/// How many IPv6 extension headers are followed.
const EXTENSIONS_MAX: u8 = 8;

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header.
    Ethernet,
    /// An IP header at once, as on TUN devices.
    Ip,
}

/// The message types of WireGuard (its white paper, section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireGuard {
    /// Handshake initiation.
    Initiation,
    /// Handshake response.
    Response,
    /// Cookie reply.
    Cookie,
    /// Transport data.
    Data,
}

/// A header, as it is met from the outside to the inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// An ARP packet, which holds addresses too.
    Arp {
        /// Of the sender.
        source: Ipv4Addr,
        /// Of the one asked for.
        destination: Ipv4Addr,
    },
    /// An IP header.
    Ip {
        /// Source address.
        source: IpAddr,
        /// Destination address.
        destination: IpAddr,
        /// How many encapsulations it is inside of.
        depth: u8,
    },
    /// A UDP header.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// A TCP header.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// A VXLAN header (RFC 7348).
    Vxlan {
        /// The network's number.
        vni: u32,
    },
    /// A message of WireGuard, told by its shape: type, reserved zeros, length.
    WireGuard(WireGuard),
}

/// Calls `visit` with each header of a frame.
pub fn read(kind: LinkKind, frame: &[u8], visit: &mut impl FnMut(Layer)) {
    let _ = match kind {
        LinkKind::Ethernet => ethernet(frame, 0, visit),
        LinkKind::Ip => ip(frame, 0, visit),
    };
}

fn ethernet(frame: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    let mut rest = frame.get(12..)?;
    loop {
        let kind = be16(rest, 0)?;
        rest = rest.get(2..)?;
        match kind {
            // VLAN tags: 802.1Q, 802.1ad, and the older double tag.
            0x8100 | 0x88a8 | 0x9100 => rest = rest.get(2..)?,
            0x0800 | 0x86dd => return ip(rest, depth, visit),
            0x0806 => return arp(rest, visit),
            _ => return None,
        }
    }
}

fn arp(packet: &[u8], visit: &mut impl FnMut(Layer)) -> Option<()> {
    // Ethernet and IPv4 only: hardware kind 1, protocol 0x0800, lengths 6 and 4.
    if packet.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let source = ipv4(packet.get(14..18)?)?;
    let destination = ipv4(packet.get(24..28)?)?;
    visit(Layer::Arp {
        source,
        destination,
    });
    Some(())
}

fn ip(packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    if DEPTH_MAX < depth {
        return None;
    }
    match packet.first()? >> 4 {
        4 => ip4(packet, depth, visit),
        6 => ip6(packet, depth, visit),
        _ => None,
    }
}

fn ip4(packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if header < 20 {
        return None;
    }
    let source = ipv4(packet.get(12..16)?)?.into();
    let destination = ipv4(packet.get(16..20)?)?.into();
    visit(Layer::Ip {
        source,
        destination,
        depth,
    });
    let total = usize::from(be16(packet, 2)?);
    // Zero where the network card shall split the packet later.
    let end = if total == 0 {
        packet.len()
    } else {
        total.min(packet.len())
    };
    let fragment_offset = be16(packet, 6)? & 0x1fff;
    if fragment_offset != 0 {
        return None;
    }
    transport(*packet.get(9)?, packet.get(header..end)?, depth, visit)
}

fn ip6(packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    let source = ipv6(packet.get(8..24)?)?.into();
    let destination = ipv6(packet.get(24..40)?)?.into();
    visit(Layer::Ip {
        source,
        destination,
        depth,
    });
    let mut next = *packet.get(6)?;
    let mut rest = packet.get(40..)?;
    for _ in 0..EXTENSIONS_MAX {
        match next {
            // Hop by hop, routing, destination options: length in units of 8, less one.
            0 | 43 | 60 => {
                next = *rest.first()?;
                rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
            }
            44 => {
                if be16(rest, 2)? & 0xfff8 != 0 {
                    return None;
                }
                next = *rest.first()?;
                rest = rest.get(8..)?;
            }
            _ => return transport(next, rest, depth, visit),
        }
    }
    None
}

fn transport(protocol: u8, packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    match protocol {
        // ICMP errors (of IPv4 and IPv6) quote the packet that they are about.
        1 if matches!(packet.first()?, 3 | 4 | 5 | 11 | 12) => {
            ip(packet.get(8..)?, depth + 1, visit)
        }
        58 if matches!(packet.first()?, 1..=4) => ip(packet.get(8..)?, depth + 1, visit),
        4 | 41 => ip(packet, depth + 1, visit),
        47 => gre(packet, depth, visit),
        6 => {
            visit(Layer::Tcp {
                source: be16(packet, 0)?,
                destination: be16(packet, 2)?,
            });
            Some(())
        }
        17 => udp(packet, depth, visit),
        _ => None,
    }
}

/// RFC 2784 and 2890: optional checksum, key and sequence number, four bytes each.
fn gre(packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    let flags = be16(packet, 0)?;
    let options = (flags & 0xb000).count_ones() as usize;
    let rest = packet.get(4 + 4 * options..)?;
    match be16(packet, 2)? {
        0x0800 | 0x86dd => ip(rest, depth + 1, visit),
        0x6558 => ethernet(rest, depth + 1, visit),
        _ => None,
    }
}

fn udp(packet: &[u8], depth: u8, visit: &mut impl FnMut(Layer)) -> Option<()> {
    let (source, destination) = (be16(packet, 0)?, be16(packet, 2)?);
    visit(Layer::Udp {
        source,
        destination,
    });
    let payload = packet.get(8..)?;
    // 4789 is the registered port, 8472 the kernel's default.
    if matches!(destination, 4789 | 8472) && DEPTH_MAX > depth {
        let header = payload.get(..8)?;
        if header[0] & 0x08 != 0 {
            visit(Layer::Vxlan {
                vni: u32::from_be_bytes([0, header[4], header[5], header[6]]),
            });
            return ethernet(payload.get(8..)?, depth + 1, visit);
        }
    }
    visit(Layer::WireGuard(wireguard(payload)?));
    Some(())
}

fn wireguard(payload: &[u8]) -> Option<WireGuard> {
    if payload.get(1..4)? != [0, 0, 0] {
        return None;
    }
    match (payload.first()?, payload.len()) {
        (1, 148) => Some(WireGuard::Initiation),
        (2, 92) => Some(WireGuard::Response),
        (3, 64) => Some(WireGuard::Cookie),
        (4, length) if 32 <= length && length % 16 == 0 => Some(WireGuard::Data),
        _ => None,
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

#[cfg(test)]
pub(in crate::core) mod tests;
