//! Tells when some link of a namespace changed its state.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// RTNLGRP_LINK (`linux/rtnetlink.h`).
const GROUP_LINK: u32 = 1;

/// A subscription to changes of links in the namespace of the thread that opened it. What has
/// changed is not told: look at the link that you care for.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// Subscribes.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.add_membership(GROUP_LINK)?;
        Ok(Self { socket })
    }

    /// Takes all notices that wait, and tells whether there were any. Never waits.
    pub fn take(&self) -> bool {
        let mut notice = Vec::with_capacity(8192);
        let mut any = false;
        loop {
            notice.clear();
            match self.socket.recv_from(&mut notice, 0) {
                Ok(_) => any = true,
                // Too many to be kept: something has changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
