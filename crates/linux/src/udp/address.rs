//! Addresses as the kernel reads and writes them, and the control messages that carry ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Family;

/// A socket address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    // SAFETY: both are plain C structures for which all bytes zero is a valid value.
    pub(super) const ZERO: Self = unsafe { std::mem::zeroed() };

    #[expect(clippy::cast_possible_truncation, reason = "28 bytes")]
    pub(super) const LEN: libc::socklen_t = size_of::<Self>() as libc::socklen_t;
    #[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
    const V4_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

    /// Writes an address for a socket of a family; `None` if it cannot reach it.
    pub(super) fn write(family: Family, to: SocketAddr) -> Option<(Self, libc::socklen_t)> {
        let mut address = Self::ZERO;
        let (ip, scope) = match (family, to) {
            (Family::V4, SocketAddr::V4(v4)) => {
                address.v4 = libc::sockaddr_in {
                    sin_family: family_number(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                return Some((address, Self::V4_LEN));
            }
            (Family::V4, SocketAddr::V6(_)) => return None,
            (Family::Both, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), 0),
            (Family::Both, SocketAddr::V6(v6)) => (*v6.ip(), v6.scope_id()),
        };
        address.v6 = libc::sockaddr_in6 {
            sin6_family: family_number(libc::AF_INET6),
            sin6_port: to.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr {
                s6_addr: ip.octets(),
            },
            sin6_scope_id: scope,
        };
        Some((address, Self::LEN))
    }

    /// Reads what the kernel wrote.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        // SAFETY: both members begin with the family and all bytes of the union are initialised.
        let family = libc::c_int::from(unsafe { self.v4.sin_family });
        if family == libc::AF_INET {
            // SAFETY: the family says that this member was written; any bytes are valid in it.
            let v4 = unsafe { self.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            return Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))));
        }
        if family != libc::AF_INET6 {
            return None;
        }
        // SAFETY: as above.
        let v6 = unsafe { self.v6 };
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        let port = u16::from_be(v6.sin6_port);
        Some(match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
            None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
        })
    }
}

fn family_number(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small")
}

/// Room for the control messages of one datagram.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control([u8; Control::LEN]);

impl Control {
    /// One `in6_pktinfo`, the larger of the two, with its header.
    pub(super) const LEN: usize = 40;
    pub(super) const ZERO: Self = Self([0; Self::LEN]);

    /// Writes the message that sets a datagram's source, and its length.
    pub(super) fn source(family: Family, local: IpAddr) -> Option<(Self, usize)> {
        let mut control = Self::ZERO;
        match (family, local) {
            (Family::V4, IpAddr::V4(v4)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let len = control.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                Some((control, len))
            }
            (Family::V4, IpAddr::V6(_)) => None,
            (Family::Both, _) => {
                let ip = match local {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                let len = control.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                Some((control, len))
            }
        }
    }

    /// Writes one message and returns its length.
    fn put<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
        let size = u32::try_from(size_of::<T>()).expect("a few bytes");
        // SAFETY: CMSG_SPACE only calculates.
        let len = usize::try_from(unsafe { libc::CMSG_SPACE(size) }).expect("a few bytes");
        assert!(len <= Self::LEN, "room is made for the largest message");
        // SAFETY: CMSG_LEN only calculates.
        let cmsg_len = unsafe { libc::CMSG_LEN(size) };
        let header = self.0.as_mut_ptr().cast::<libc::cmsghdr>();
        // WHY: control messages have no safe writer for this type among our dependencies.
        // SAFETY: the buffer is aligned to 8 and has `len` bytes, which is a header and the value
        // after it by the definition of CMSG_SPACE; CMSG_DATA points behind that header, and the
        // value is written without an assumption about its alignment.
        unsafe {
            (*header).cmsg_len = cmsg_len as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        len
    }
}

/// Reads which of our addresses a datagram was sent to.
pub(super) fn local_of(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the control buffer that the header names, and its length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header in the buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
            // SAFETY: the kernel puts one `in6_pktinfo` behind a header of this kind.
            let info: libc::in6_pktinfo = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::in6_pktinfo>()
                    .read_unaligned()
            };
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            return Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4));
        }
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
            // SAFETY: the kernel puts one `in_pktinfo` behind a header of this kind.
            let info: libc::in_pktinfo = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::in_pktinfo>()
                    .read_unaligned()
            };
            return Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
        }
        // SAFETY: `header` is a header of this message's control buffer.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
