//! A UDP socket that moves datagrams in batches: one call for up to [`BATCH_MAX`] of them.

mod address;
mod send;
mod train;

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::batch::{BATCH_MAX, Received, Slots};

use address::{Address, Control, local_of, segment_size_of};
use train::Abilities;

pub use send::SendReport;
pub use train::Offload;

/// Bytes of each socket buffer: what a gigabit brings in 50 ms, as other userspace WireGuards have
/// it. The usual 212 KiB lose datagrams whenever the reader sleeps for a few ticks.
const BUFFER_BYTES: usize = 7 << 20;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// A socket could not be made or bound.
    #[error("could not {operation} UDP port {port}")]
    Bind {
        /// What was tried.
        operation: &'static str,
        /// The port; 0 if the kernel was to choose.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The mark could not be set.
    #[error("could not mark the packets of UDP port {port} with {mark}")]
    Mark {
        /// The port.
        port: u16,
        /// The mark.
        mark: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A socket for IPv6 and IPv4, or for IPv4 alone where the kernel has no IPv6. Addresses of IPv4
/// are always given and taken as such, never mapped into IPv6.
#[derive(Debug)]
pub struct UdpSocket {
    socket: OwnedFd,
    family: Family,
    port: u16,
    /// Whether trains are sent: switched off for good when the kernel refuses one.
    segments: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Both,
    V4,
}

impl UdpSocket {
    /// Opens a socket on all addresses of the calling thread's network namespace. Port 0 lets the
    /// kernel choose.
    pub fn bind(port: u16) -> Result<Self, UdpError> {
        match Self::bind_both(port) {
            Err(UdpError::Bind { source, .. }) if no_ipv6(&source) => Self::bind_v4(port),
            done => done,
        }
    }

    fn bind_both(port: u16) -> Result<Self, UdpError> {
        let failed = |operation| {
            move |source: rustix::io::Errno| UdpError::Bind {
                operation,
                port,
                source: source.into(),
            }
        };
        let socket = open(AddressFamily::INET6).map_err(failed("open"))?;
        sockopt::set_ipv6_v6only(&socket, false).map_err(failed("open"))?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
        bind(&socket, &any).map_err(failed("bind"))?;
        Self::finish(socket, Family::Both, port)
    }

    fn bind_v4(port: u16) -> Result<Self, UdpError> {
        let failed = |operation| {
            move |source: rustix::io::Errno| UdpError::Bind {
                operation,
                port,
                source: source.into(),
            }
        };
        let socket = open(AddressFamily::INET).map_err(failed("open"))?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).map_err(failed("bind"))?;
        Self::finish(socket, Family::V4, port)
    }

    fn finish(socket: OwnedFd, family: Family, port: u16) -> Result<Self, UdpError> {
        let failed = |source: io::Error| UdpError::Bind {
            operation: "name",
            port,
            source,
        };
        for force in [
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES),
            sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES),
        ] {
            // Without CAP_NET_ADMIN the limit of the sysctl holds: slower, and not wrong.
            if force.is_err() {
                tracing::debug!(port, "socket buffers stay at the system's limit");
            }
        }
        // The tunnel's packets may be fragmented outside, like those of the kernel's WireGuard: an
        // underlay that is too small then costs speed and loses nothing.
        set_option(
            &socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        )
        .map_err(failed)?;
        // Tells to which of our addresses a datagram was sent, so that it can be answered from there:
        // a peer behind a NAT would not get an answer from another.
        match family {
            Family::V4 => set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
            Family::Both => {
                let dont = libc::IPV6_PMTUDISC_DONT;
                set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont)
                    .map_err(failed)?;
                set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
            }
        }
        .map_err(failed)?;
        let bound = rustix::net::getsockname(&socket).map_err(|errno| failed(errno.into()))?;
        let port = SocketAddr::try_from(bound)
            .map_err(|errno| failed(errno.into()))?
            .port();
        let socket = Self {
            socket,
            family,
            port,
            segments: AtomicBool::new(false),
        };
        socket.set_offload(Offload::Auto);
        Ok(socket)
    }

    /// Uses trains where this kernel does them well, or never. Best effort, as they only save time.
    pub fn set_offload(&self, offload: Offload) {
        let able = match offload {
            Offload::Auto => Abilities::of_this_kernel(),
            Offload::Off => Abilities {
                segment: false,
                coalesce: false,
            },
        };
        let coalesce = libc::c_int::from(able.coalesce);
        if let Err(error) = set_option(&self.socket, libc::SOL_UDP, libc::UDP_GRO, coalesce) {
            tracing::debug!(port = self.port, %error, "datagrams come one by one");
        }
        self.segments.store(able.segment, Ordering::Relaxed);
    }

    /// Returns the port that is bound.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Marks all packets of the socket for policy routing and filters; 0 is no mark.
    pub fn set_mark(&self, mark: u32) -> Result<(), UdpError> {
        let value = i32::from_ne_bytes(mark.to_ne_bytes());
        set_option(&self.socket, libc::SOL_SOCKET, libc::SO_MARK, value).map_err(|source| {
            UdpError::Mark {
                port: self.port,
                mark,
                source,
            }
        })
    }

    /// Reads the datagrams that wait, into the first `slots_max` slots, and appends them to
    /// `received`: one for each slot, or several where the kernel hands over a train. Never waits; a
    /// datagram longer than its slot is dropped.
    pub fn receive(
        &self,
        slots: &mut Slots,
        slots_max: usize,
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let mut addresses = [Address::ZERO; BATCH_MAX];
        let mut controls = [Control::ZERO; BATCH_MAX];
        let mut parts = [EMPTY_PART; BATCH_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH_MAX];
        let count = slots.count().min(slots_max);
        for slot in 0..count {
            let space = slots.space(slot);
            parts[slot] = libc::iovec {
                iov_base: space.as_mut_ptr().cast(),
                iov_len: space.len(),
            };
            let message = fill(
                &mut messages[slot],
                &raw mut addresses[slot],
                &raw mut parts[slot],
            );
            message.msg_control = (&raw mut controls[slot]).cast();
            message.msg_controllen = Control::LEN as _;
        }
        // WHY: one call for many datagrams has no safe wrapper among our dependencies.
        // SAFETY: `messages` are `count` headers, all bytes initialised; each points to an address,
        // a control buffer and an I/O vector that live until the call returns and are not touched
        // meanwhile, and each vector to a slot of that length, which `slots` holds and lends mutably
        // for this call.
        let got = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                u32::try_from(count).expect("at most BATCH_MAX"),
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            let none = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            );
            return if none { Ok(()) } else { Err(error) };
        };
        let start = slots.start();
        for slot in 0..got {
            // SAFETY: zeroed above, all of whose bytes are valid for a header, and written by the
            // kernel since.
            let message = unsafe { messages[slot].assume_init_ref() };
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let Some(from) = addresses[slot].read().filter(|_| !cut) else {
                continue;
            };
            let len = usize::try_from(message.msg_len).expect("a datagram is below 64 KiB");
            let local = local_of(&message.msg_hdr);
            let size = segment_size_of(&message.msg_hdr).unwrap_or(0);
            received.extend(train::cut(start, len, size).map(|range| Received {
                slot,
                range,
                from,
                local,
            }));
        }
        Ok(())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("4");
    // WHY: these options have no safe wrapper among our dependencies.
    // SAFETY: the options that are passed here are ints, `value` is one that lives over the call,
    // and `len` is its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const EMPTY_PART: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// Completes a zeroed message header: one address, one piece of memory, no control data.
fn fill(
    message: &mut MaybeUninit<libc::mmsghdr>,
    address: *mut Address,
    part: *mut libc::iovec,
) -> &mut libc::msghdr {
    // WHY: the header has private padding on some targets, so it cannot be written as a literal.
    // SAFETY: it was zeroed, and all bytes zero is a valid header.
    let header = unsafe { &mut message.assume_init_mut().msg_hdr };
    header.msg_name = address.cast();
    header.msg_namelen = Address::LEN;
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests;
