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
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Control([u64; Control::LEN / 8]);

impl Control {
    /// One `in6_pktinfo`, the larger of the two, and one segment size, each with its header.
    pub(super) const LEN: usize = 64;
    pub(super) const ZERO: Self = Self([0; Self::LEN / 8]);

    /// Writes the first message, the datagram's source, and returns its length: 0 if a socket of
    /// this family cannot have that source.
    pub(super) fn put_source(&mut self, family: Family, local: IpAddr) -> usize {
        match (family, local) {
            (Family::V4, IpAddr::V4(v4)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.put(0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            (Family::V4, IpAddr::V6(_)) => 0,
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
                self.put(0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }

    /// Writes, behind `at` bytes of messages, the size of a train's datagrams; returns its length.
    pub(super) fn put_segment(&mut self, at: usize, size: u16) -> usize {
        self.put(at, libc::SOL_UDP, libc::UDP_SEGMENT, size)
    }

    /// Writes one message at an offset and returns its length.
    fn put<T: Copy>(
        &mut self,
        at: usize,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        let size = u32::try_from(size_of::<T>()).expect("a few bytes");
        // SAFETY: CMSG_SPACE only calculates.
        let len = usize::try_from(unsafe { libc::CMSG_SPACE(size) }).expect("a few bytes");
        let (at, end) = (at.div_ceil(8), at.div_ceil(8) + len.div_ceil(8));
        let room = &mut self.0[at..end];
        // SAFETY: CMSG_LEN only calculates.
        let cmsg_len = unsafe { libc::CMSG_LEN(size) };
        let header = room.as_mut_ptr().cast::<libc::cmsghdr>();
        // WHY: control messages have no safe writer for these types among our dependencies.
        // SAFETY: `room` is aligned to 8 and has `len` bytes, which is a header and the value after
        // it by the definition of CMSG_SPACE; CMSG_DATA points behind that header, and the value is
        // written without an assumption about its alignment.
        unsafe {
            (*header).cmsg_len = cmsg_len as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        len
    }
}

/// Reads the size of the datagrams in a train; `None` if it is a lone datagram.
pub(super) fn segment_size_of(message: &libc::msghdr) -> Option<usize> {
    find(message, |level, kind, data| {
        if (level, kind) != (libc::SOL_UDP, libc::UDP_GRO) {
            return None;
        }
        // SAFETY: the kernel puts one int behind a header of this kind.
        let size = unsafe { data.cast::<libc::c_int>().read_unaligned() };
        usize::try_from(size).ok()
    })
}

/// Reads which of our addresses a datagram was sent to.
pub(super) fn local_of(message: &libc::msghdr) -> Option<IpAddr> {
    find(message, |level, kind, data| match (level, kind) {
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: the kernel puts one `in6_pktinfo` behind a header of this kind.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: the kernel puts one `in_pktinfo` behind a header of this kind.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into())
        }
        _ => None,
    })
}

/// Shows the control messages of a datagram to `pick` until it takes one: level, type, data.
fn find<T>(
    message: &libc::msghdr,
    pick: impl Fn(libc::c_int, libc::c_int, *const u8) -> Option<T>,
) -> Option<T> {
    // SAFETY: the kernel has filled the control buffer that the header names, and its length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header in the buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        // SAFETY: CMSG_DATA only calculates from a valid header.
        let data = unsafe { libc::CMSG_DATA(header) };
        if let Some(picked) = pick(level, kind, data) {
            return Some(picked);
        }
        // SAFETY: `header` is a header of this message's control buffer.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
