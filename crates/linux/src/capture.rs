//! All frames of one interface, both directions, through an AF_PACKET socket.
//!
//! The kernel copies each frame into the socket's buffer at the moment it passes. What did not fit
//! is counted by the kernel and told by [`Tap::dropped`], so that a caller can tell "not there" from
//! "not seen".

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{RecvFlags, recv};

use crate::namespace::{self, Namespace, NamespaceError};

/// Size of the socket's buffer: what one second of a busy gigabit link holds, about.
const BUFFER_BYTES: usize = 64 << 20;

/// What a captured frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Ip,
}

/// Why an interface could not be tapped.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// There is no such interface.
    #[error("there is no interface `{interface}`")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// Its frames are of a kind that is not known here.
    #[error("interface `{interface}` has frames of unknown kind {kind}")]
    Framing {
        /// Its name.
        interface: String,
        /// The kernel's number (`ARPHRD_…` of `linux/if_arp.h`).
        kind: u16,
    },
    /// The kernel refused.
    #[error("could not tap interface `{interface}`")]
    Socket {
        /// Its name.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// A frame that was received into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub stored: usize,
    /// Bytes that the frame had; more than `stored` if the buffer was too small.
    pub length: usize,
}

/// A tap on an interface.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    framing: Framing,
    dropped: u64,
}

impl Tap {
    /// Taps `interface` of the calling thread's network namespace.
    pub fn open(interface: &str) -> Result<Self, TapError> {
        let failed = |source| TapError::Socket {
            interface: interface.to_owned(),
            source,
        };
        let missing = || TapError::NoInterface {
            interface: interface.to_owned(),
        };
        let name = CString::new(interface).map_err(|_| missing())?;
        // WHY: rustix knows no packet sockets.
        // SAFETY: the name is a C string; the other call takes numbers only.
        let (index, socket) = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // Protocol zero: nothing is received before the socket is bound to its interface.
            (
                libc::if_nametoindex(name.as_ptr()),
                libc::socket(libc::AF_PACKET, kind, 0),
            )
        };
        if socket == -1 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: a new descriptor that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        if index == 0 {
            return Err(missing());
        }
        set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).map_err(|e| failed(e.into()))?;
        let kind = bind(&socket, index).map_err(failed)?;
        let framing = match kind {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Framing::Ethernet,
            libc::ARPHRD_NONE | libc::ARPHRD_PPP | libc::ARPHRD_TUNNEL => Framing::Ip,
            kind => {
                return Err(TapError::Framing {
                    interface: interface.to_owned(),
                    kind,
                });
            }
        };
        Ok(Self {
            socket,
            framing,
            dropped: 0,
        })
    }

    /// Taps `interface` of `network`.
    pub fn open_in(network: &Namespace, interface: &str) -> Result<Self, TapError> {
        namespace::within(&[network], || Self::open(interface))?
    }

    /// Returns what frames begin with.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Receives the next frame that is waiting; `None` if there is none. Never waits: poll the
    /// descriptor for that.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::TRUNC) {
                Ok((stored, length)) => return Ok(Some(Received { stored, length })),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // The interface went down: told once, and it may come up again.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::NETDOWN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns how many frames passed since the tap was opened and did not fit into its buffer.
    pub fn dropped(&mut self) -> io::Result<u64> {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut size = libc::socklen_t::try_from(size_of::<libc::tpacket_stats>())
            .expect("the structure is small");
        // WHY: rustix knows no packet sockets.
        // SAFETY: the pointers are to a structure of the kernel's shape and to its size.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut size,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel counts from zero after each question.
        self.dropped += u64::from(statistics.tp_drops);
        Ok(self.dropped)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Binds a packet socket to an interface and returns the kind of its hardware.
fn bind(socket: &OwnedFd, index: u32) -> io::Result<u16> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let size = size_of::<libc::sockaddr_ll>();
    let mut length = libc::socklen_t::try_from(size).map_err(invalid)?;
    let mut address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(invalid)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL).map_err(invalid)?.to_be(),
        sll_ifindex: i32::try_from(index).map_err(invalid)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // WHY: rustix knows no packet sockets.
    // SAFETY: the pointers are to a `sockaddr_ll` and its size, both live through the calls.
    let result = unsafe {
        match libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) {
            0 => libc::getsockname(
                socket.as_raw_fd(),
                (&raw mut address).cast(),
                &raw mut length,
            ),
            refused => refused,
        }
    };
    if result == 0 {
        Ok(address.sll_hatype)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
