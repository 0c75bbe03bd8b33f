//! A small blocking client of the kernel's NETLINK_ROUTE: links, addresses, routes, changes.
//!
//! A [`Socket`] belongs to the network namespace of the thread that opened it, for ever: open one
//! per namespace (see [`Socket::open_in`]), then no thread needs to enter that namespace again.
//! Many [`Request`]s go out in one send and their acknowledgements are read afterwards, because
//! each change takes the kernel's one network lock anyway and round trips are what costs.

mod address;
mod changes;
mod link;
mod route;

pub use address::Address;
pub use changes::{Change, Changes};
pub use link::{Link, LinkIndex, LinkKind, VethEnd};
pub use route::Route;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::namespace::{self, Namespace, NamespaceError};

/// Requests sent before their acknowledgements are read. An acknowledgement is charged to the
/// socket's receive buffer (212 KiB by default) with about 1 KiB, so this cannot overflow it.
const BATCH_MAX: usize = 64;

/// Why a netlink operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused a request.
    #[error("could not {operation} `{object}`{}", said(.message.as_ref()))]
    Refused {
        /// What was asked, in the imperative.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's own words, if it had any.
        message: Option<String>,
        /// The kernel's error number.
        #[source]
        source: io::Error,
    },
    /// The socket failed.
    #[error("could not {operation} over netlink")]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("could not read the answer of netlink: {reason}")]
    Answer {
        /// What the parser said.
        reason: String,
    },
    /// The socket's namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl NetlinkError {
    /// Returns the kernel's error number, if the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Socket { .. } | Self::Answer { .. } | Self::Namespace(_) => None,
        }
    }

    /// Tells whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL)
        )
    }

    /// Tells whether the object was there already.
    pub fn is_existing(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

fn said(message: Option<&String>) -> String {
    message
        .map(|text| format!(": the kernel said \"{text}\""))
        .unwrap_or_default()
}

/// One change to ask of the kernel. The constructors are on this type, beside each object's own.
#[derive(Debug, Clone)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    operation: &'static str,
    object: String,
}

impl Request {
    fn new(
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &'static str,
        object: impl Into<String>,
    ) -> Self {
        Self {
            message,
            flags,
            operation,
            object: object.into(),
        }
    }
}

/// A NETLINK_ROUTE socket, bound to one network namespace.
#[derive(Debug)]
pub struct Socket {
    socket: RawSocket,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            operation: "open a socket",
            source,
        };
        let mut socket = RawSocket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        // Both only make errors better; kernels before 4.12 lack them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Opens a socket in `network`, from a thread of its own that enters it.
    pub fn open_in(network: &Namespace) -> Result<Self, NetlinkError> {
        namespace::within(&[network], Self::open)?
    }

    /// Does one request.
    pub fn apply(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.apply_all(&[request])
    }

    /// Does many requests in order, in as few sends as possible. Later requests are tried even if
    /// an earlier one is refused; the first refusal is returned.
    pub fn apply_all(&mut self, requests: &[Request]) -> Result<(), NetlinkError> {
        let mut first_refusal = None;
        for batch in requests.chunks(BATCH_MAX) {
            let sequence_first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for request in batch {
                let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
                self.encode(&request.message, flags, &mut bytes);
            }
            self.send(&bytes)?;
            let mut answered = 0;
            while answered < batch.len() {
                for message in self.receive()? {
                    let offset = message.header.sequence_number.wrapping_sub(sequence_first);
                    let Some(request) = batch.get(offset as usize) else {
                        continue;
                    };
                    let NetlinkPayload::Error(error) = message.payload else {
                        continue;
                    };
                    answered += 1;
                    if error.code.is_some() && first_refusal.is_none() {
                        first_refusal = Some(NetlinkError::Refused {
                            operation: request.operation,
                            object: request.object.clone(),
                            message: kernel_words(message.header.flags, &error.header),
                            source: cause(&error),
                        });
                    }
                }
            }
        }
        first_refusal.map_or(Ok(()), Err)
    }

    /// Asks for all objects of a kind.
    fn dump(
        &mut self,
        operation: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut bytes = Vec::new();
        self.encode(message, NLM_F_REQUEST | NLM_F_DUMP, &mut bytes);
        self.send(&bytes)?;
        let mut objects = Vec::new();
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(objects),
                    NetlinkPayload::InnerMessage(inner) => objects.push(inner),
                    NetlinkPayload::Error(error) => {
                        return Err(NetlinkError::Refused {
                            operation,
                            object: "all".to_owned(),
                            message: kernel_words(message.header.flags, &error.header),
                            source: cause(&error),
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    fn encode(&mut self, message: &RouteNetlinkMessage, flags: u16, into: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message.clone()));
        message.finalize();
        let start = into.len();
        into.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut into[start..]);
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            operation: "send",
            source,
        };
        let sent = self.socket.send(bytes, 0).map_err(failed)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(failed(io::ErrorKind::WriteZero.into()))
        }
    }

    fn receive(&self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        receive(&self.socket)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

/// Lends the descriptor of a socket of `netlink-sys`, which knows only the raw form.
fn borrow(socket: &RawSocket) -> BorrowedFd<'_> {
    // WHY: netlink-sys implements `AsRawFd` but not `AsFd`.
    // SAFETY: `socket` owns the descriptor and is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

fn receive(socket: &RawSocket) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
    let datagram = loop {
        match socket.recv_from_full() {
            Ok((bytes, _)) => break bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(NetlinkError::Socket {
                    operation: "receive",
                    source,
                });
            }
        }
    };
    let messages = read(&datagram);
    if messages.is_empty() {
        let reason = format!("{} bytes held no message", datagram.len());
        return Err(NetlinkError::Answer { reason });
    }
    Ok(messages)
}

/// Reads the messages of a datagram, as far as they are understood.
fn read(datagram: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while 16 <= rest.len() {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if length < 16 || rest.len() < length {
            break;
        }
        // One kind of message that a newer kernel sends and the parser does not know must not
        // hide the rest.
        match NetlinkMessage::deserialize(&rest[..length]) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::debug!(%error, "netlink message not understood"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// Returns what the kernel's negative number means. The library's own way overflows on the lowest.
fn cause(error: &ErrorMessage) -> io::Error {
    io::Error::from_raw_os_error(error.raw_code().saturating_abs())
}

/// Finds the kernel's explanation in an error: with `NETLINK_CAP_ACK` the header of our request
/// is followed at once by attributes, of which number 1 (`NLMSGERR_ATTR_MSG`) is a C string.
fn kernel_words(flags: u16, payload: &[u8]) -> Option<String> {
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const NLM_F_CAPPED: u16 = 0x100;
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = u32::from_ne_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let header = if flags & NLM_F_CAPPED == 0 {
        echoed.next_multiple_of(4)
    } else {
        16
    };
    let mut rest = payload.get(header..)?;
    while 4 <= rest.len() {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(4..length)?;
        if kind == NLMSGERR_ATTR_MSG {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(any(test, bastide_fuzz))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
