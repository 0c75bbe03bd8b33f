//! Sending: batches, trains, and what to do when the kernel refuses one.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::{Address, Control};
use super::train::train_len;
use super::{EMPTY_PART, Family, UdpSocket, fill, set_option};
use crate::batch::{BATCH_MAX, Outgoing, Slots};

/// How long a send waits for room in the socket's buffer before the datagram is dropped.
const SEND_PATIENCE: Duration = Duration::from_millis(10);

/// What a send came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Datagrams that the kernel took.
    pub sent: usize,
    /// Datagrams that it refused: no route, no room, a filter.
    pub refused: usize,
}

impl UdpSocket {
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
        // Which datagrams each message carries.
        let mut trains = [(0, 0); BATCH_MAX];
        let segments = self.segments.load(Ordering::Relaxed);
        for (part, datagram) in parts.iter_mut().zip(chunk) {
            let bytes = slots.bytes(datagram.slot, datagram.range.clone());
            *part = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
        }
        let (mut at, mut count) = (0, 0);
        while at < chunk.len() {
            let first = &chunk[at];
            let len = if segments { train_len(&chunk[at..]) } else { 1 };
            let Some((address, address_len)) = Address::write(self.family, first.to) else {
                report.refused += len;
                at += len;
                continue;
            };
            addresses[count] = address;
            let part = &raw mut parts[at];
            let message = fill(&mut messages[count], &raw mut addresses[count], part);
            message.msg_namelen = address_len;
            message.msg_iovlen = len as _;
            let control = &mut controls[count];
            let mut control_len = 0;
            if let Some(local) = first.local {
                control_len += control.put_source(self.family, local);
            }
            if len > 1 {
                let size = u16::try_from(first.range.len()).expect("a datagram is below 64 KiB");
                control_len += control.put_segment(control_len, size);
            }
            if control_len > 0 {
                message.msg_control = (&raw mut *control).cast();
                message.msg_controllen = control_len as _;
            }
            trains[count] = (at, len);
            at += len;
            count += 1;
        }
        let mut next = 0;
        while next < count {
            let rest = &mut messages[next..count];
            // WHY: one call for many datagrams has no safe wrapper among our dependencies.
            // SAFETY: `rest` are headers whose bytes are all initialised; each points to an address,
            // perhaps a control buffer, and one or more I/O vectors of `parts`, which all live until
            // the call returns, and each vector to bytes that `slots` holds; the kernel only reads
            // them.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr().cast(),
                    u32::try_from(rest.len()).expect("at most BATCH_MAX"),
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                report.sent += trains[next..next + sent]
                    .iter()
                    .map(|(_, len)| len)
                    .sum::<usize>();
                next += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            if self.may_retry(&error) {
                continue;
            }
            // The call fails with the first message's error: send what it carries one by one.
            let (at, len) = trains[next];
            if len > 1 && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) {
                tracing::debug!(port = self.port, %error, "the kernel refused a train: no more of them");
                self.segments.store(false, Ordering::Relaxed);
            }
            for datagram in &chunk[at..at + len] {
                let bytes = slots.bytes(datagram.slot, datagram.range.clone());
                match self.send_to(datagram.to, datagram.local, bytes) {
                    Ok(()) => report.sent += 1,
                    Err(_) => report.refused += 1,
                }
            }
            next += 1;
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

    /// As [`Self::send_to`], and neither this host nor a router may cut the datagram into pieces: one
    /// that is too long is refused or lost.
    pub fn send_whole(
        &self,
        to: SocketAddr,
        local: Option<IpAddr>,
        datagram: &[u8],
    ) -> io::Result<()> {
        self.set_whole(to, true)?;
        let sent = self.send_to(to, local, datagram);
        self.set_whole(to, false)?;
        sent
    }

    /// Forbids, or allows, pieces to where `to` is. What the kernel believes of paths is not asked.
    fn set_whole(&self, to: SocketAddr, whole: bool) -> io::Result<()> {
        let value = |whole_value, piece_value| if whole { whole_value } else { piece_value };
        if self.family == Family::V4 || to.ip().to_canonical().is_ipv4() {
            let value = value(libc::IP_PMTUDISC_PROBE, libc::IP_PMTUDISC_DONT);
            set_option(&self.socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value)
        } else {
            let value = value(libc::IPV6_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_DONT);
            let name = libc::IPV6_MTU_DISCOVER;
            set_option(&self.socket, libc::IPPROTO_IPV6, name, value)
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
        let mut control = Control::ZERO;
        let control_len = local.map_or(0, |local| control.put_source(self.family, local));
        let mut part = libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: datagram.len(),
        };
        let mut message = MaybeUninit::<libc::mmsghdr>::zeroed();
        let header = fill(&mut message, &raw mut address, &raw mut part);
        header.msg_namelen = address_len;
        if control_len > 0 {
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = control_len as _;
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

/// The address that a datagram was to be sent from is not ours any more.
fn no_such_source(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH)
    )
}
