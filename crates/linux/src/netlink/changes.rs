//! A stream of what changed: links, addresses, routes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{NetlinkError, borrow, receive};
use crate::namespace::{self, Namespace};

/// The kernel's multicast groups that are heard: RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE,
/// _IPV6_IFADDR, _IPV6_ROUTE (`linux/rtnetlink.h`).
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A link came, went, or changed its state.
    Link,
    /// An address came or went.
    Address,
    /// A route came or went.
    Route,
    /// Some changes were lost, because they came faster than they were read: look at everything.
    Missed,
}

/// A subscription to changes in one network namespace.
#[derive(Debug)]
pub struct Changes {
    socket: RawSocket,
}

impl Changes {
    /// Subscribes in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            operation: "subscribe to changes",
            source,
        };
        let mut socket = RawSocket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        for group in GROUPS {
            socket.add_membership(group).map_err(failed)?;
        }
        Ok(Self { socket })
    }

    /// Subscribes in `network`.
    pub fn open_in(network: &Namespace) -> Result<Self, NetlinkError> {
        namespace::within(&[network], Self::open)?
    }

    /// Returns the next changes, or `None` if there are none now. Never waits.
    pub fn poll(&mut self) -> Result<Option<Vec<Change>>, NetlinkError> {
        let messages = match receive(&self.socket) {
            Ok(messages) => messages,
            Err(NetlinkError::Socket { source, .. }) => {
                return match source.raw_os_error() {
                    Some(libc::EAGAIN) => Ok(None),
                    Some(libc::ENOBUFS) => Ok(Some(vec![Change::Missed])),
                    _ => Err(NetlinkError::Socket {
                        operation: "read changes",
                        source,
                    }),
                };
            }
            // Something changed that this version cannot read.
            Err(_) => return Ok(Some(vec![Change::Missed])),
        };
        let mut changes = Vec::new();
        for message in messages {
            let NetlinkPayload::InnerMessage(inner) = message.payload else {
                continue;
            };
            let change = match inner {
                RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => Change::Link,
                RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
                    Change::Address
                }
                RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                    Change::Route
                }
                _ => continue,
            };
            if changes.last() != Some(&change) {
                changes.push(change);
            }
        }
        Ok(Some(changes))
    }

    /// Makes the subscription one to await on. To be called within a tokio runtime.
    pub fn into_async(self) -> Result<AsyncChanges, NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            operation: "watch for changes",
            source,
        };
        // WHY: tokio offers no safe way to wait for a foreign descriptor.
        // SAFETY: `Changes` owns its socket, always returns that one, and never closes it before it
        // is dropped; the `AsyncFd` owns the `Changes`.
        let registered = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        registered
            .map(|changes| AsyncChanges { changes })
            .map_err(|error| failed(error.into()))
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A subscription to await on.
#[derive(Debug)]
pub struct AsyncChanges {
    changes: AsyncFd<Changes>,
}

impl AsyncChanges {
    /// Waits for the next changes; never returns an empty list. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<Change>, NetlinkError> {
        loop {
            let failed = |source| NetlinkError::Socket {
                operation: "wait for changes",
                source,
            };
            let mut ready = self.changes.readable_mut().await.map_err(failed)?;
            match ready.get_inner_mut().poll()? {
                None => ready.clear_ready(),
                Some(changes) if changes.is_empty() => {}
                Some(changes) => return Ok(changes),
            }
        }
    }
}
