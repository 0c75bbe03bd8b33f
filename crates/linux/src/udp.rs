//! A UDP socket that moves datagrams in batches: one call for up to [`BATCH_MAX`] of them.

mod address;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::batch::{BATCH_MAX, Outgoing, Received, Slots};

use address::{Address, Control, local_of};

/// Bytes of each socket buffer: what a gigabit brings in 50 ms, as other userspace WireGuards have
/// it. The usual 212 KiB lose datagrams whenever the reader sleeps for a few ticks.
const BUFFER_BYTES: usize = 7 << 20;

/// How long a send waits for room in the socket's buffer before the datagram is dropped.
const SEND_PATIENCE: Duration = Duration::from_millis(10);

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Both,
    V4,
}

/// What a send came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Datagrams that the kernel took.
    pub sent: usize,
    /// Datagrams that it refused: no route, no room, a filter.
    pub refused: usize,
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
        Ok(Self {
            socket,
            family,
            port,
        })
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

    /// Reads the datagrams that wait, up to one for each slot, and appends them to `received`.
    /// Never waits; a datagram longer than its slot is dropped.
    pub fn receive(&self, slots: &mut Slots, received: &mut Vec<Received>) -> io::Result<()> {
        let mut addresses = [Address::ZERO; BATCH_MAX];
        let mut controls = [Control::ZERO; BATCH_MAX];
        let mut parts = [EMPTY_PART; BATCH_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH_MAX];
        let count = slots.count();
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
            received.push(Received {
                slot,
                range: start..start + len,
                from,
                local: local_of(&message.msg_hdr),
            });
        }
        Ok(())
    }

    /// Sends datagrams that lie in slots, in order. One that the kernel refuses is skipped; one that
    /// it refuses because of its source address is sent without it.
    pub fn send(&self, slots: &Slots, outgoing: &[Outgoing]) -> SendReport {
        let mut report = SendReport::default();
        for chunk in outgoing.chunks(BATCH_MAX) {
            self.send_chunk(slots, chunk, &mut report);
        }
        report
    }

    fn send_chunk(&self, slots: &Slots, chunk: &[Outgoing], report: &mut SendReport) {
        let mut addresses = [Address::ZERO; BATCH_MAX];
        let mut controls = [Control::ZERO; BATCH_MAX];
        let mut parts = [EMPTY_PART; BATCH_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH_MAX];
        let mut count = 0;
        for datagram in chunk {
            let Some((address, len)) = Address::write(self.family, datagram.to) else {
                report.refused += 1;
                continue;
            };
            let bytes = slots.bytes(datagram.slot, datagram.range.clone());
            addresses[count] = address;
            parts[count] = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            let message = fill(
                &mut messages[count],
                &raw mut addresses[count],
                &raw mut parts[count],
            );
            message.msg_namelen = len;
            if let Some((control, len)) = datagram
                .local
                .and_then(|local| Control::source(self.family, local))
            {
                controls[count] = control;
                message.msg_control = (&raw mut controls[count]).cast();
                message.msg_controllen = len as _;
            }
            count += 1;
        }
        let mut next = 0;
        while next < count {
            let rest = &mut messages[next..count];
            // WHY: one call for many datagrams has no safe wrapper among our dependencies.
            // SAFETY: `rest` are headers whose bytes are all initialised; each points to an address,
            // perhaps a control buffer, and an I/O vector that live until the call returns, and each
            // vector to bytes that `slots` holds; the kernel only reads them.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr().cast(),
                    u32::try_from(rest.len()).expect("at most BATCH_MAX"),
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                report.sent += sent;
                next += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            // SAFETY: zeroed and filled above.
            let first = unsafe { rest[0].assume_init_mut() };
            if !first.msg_hdr.msg_control.is_null() && no_such_source(&error) {
                first.msg_hdr.msg_control = std::ptr::null_mut();
                first.msg_hdr.msg_controllen = 0;
            } else if !self.may_retry(&error) {
                // The call fails with the first datagram's error: leave that one out.
                report.refused += 1;
                next += 1;
            }
        }
    }

    /// Waits for room in the buffer, if that is what was missing.
    fn may_retry(&self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted => true,
            io::ErrorKind::WouldBlock => {
                let mut room = [PollFd::new(&self.socket, PollFlags::OUT)];
                let patience = Timespec {
                    tv_sec: 0,
                    tv_nsec: SEND_PATIENCE.subsec_nanos().into(),
                };
                poll(&mut room, Some(&patience)).is_ok_and(|ready| ready > 0)
            }
            _ => false,
        }
    }

    /// Sends one datagram, from one of our addresses or from where the kernel chooses.
    pub fn send_to(
        &self,
        to: SocketAddr,
        local: Option<IpAddr>,
        datagram: &[u8],
    ) -> io::Result<()> {
        let Some((mut address, address_len)) = Address::write(self.family, to) else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let mut control = local.and_then(|local| Control::source(self.family, local));
        let mut part = libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: datagram.len(),
        };
        let mut message = MaybeUninit::<libc::mmsghdr>::zeroed();
        let header = fill(&mut message, &raw mut address, &raw mut part);
        header.msg_namelen = address_len;
        if let Some((control, len)) = &mut control {
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = *len as _;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            // WHY: the safe wrapper has no control message for a source address.
            // SAFETY: the header points to an address, perhaps a control buffer, and an I/O vector
            // over `datagram`, which all live until the call returns; the kernel only reads them.
            let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), header, flags) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if !header.msg_control.is_null() && no_such_source(&error) {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
            } else if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
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

/// The address that a datagram was to be sent from is not ours any more.
fn no_such_source(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH)
    )
}

#[cfg(test)]
mod tests;
