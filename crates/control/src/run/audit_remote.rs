//! Audit devices that are no files: sockets and this host's log. Each has a thread of its own, which
//! alone waits for the other end; whoever records never does.
//!
//! Lines are handed over in order, and let go of once this host's kernel has taken them. What it has
//! not taken when a connection breaks is sent again, so that a line may come twice; each has its
//! number, so that one that a network lost is missed.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::core::audit::devices::{Family, Target};
use crate::run::audit_file::AuditFile;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait after a failure before the next attempt.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a write to this host's log may take.
const SYSLOG_WITHIN: Duration = Duration::from_secs(2);
/// Lines that wait inside the thread; all others wait in the outbox.
const LINES_MAX: usize = 256;
/// This host's log.
const SYSLOG: &str = "/dev/log";
/// The severity that lines have there: informational (RFC 5424, section 6.2.1).
const INFORMATIONAL: u8 = 6;
/// Longest datagram: what is longer is told by its number alone, or one large answer would block all
/// that comes after it.
const DATAGRAM_BYTES_MAX: usize = 60_000;

/// A device behind a thread.
pub(super) struct Remote {
    lines: SyncSender<(u64, Arc<[u8]>)>,
    shared: Arc<Shared>,
}

struct Shared {
    /// One more than the number of the last line that is with the other end.
    taken: AtomicU64,
    /// Whether the last attempt failed.
    is_failing: AtomicBool,
    /// Whether the device is given up.
    is_over: AtomicBool,
}

impl Remote {
    /// Starts the thread of the device `name`. `from`: the number of the first line that it gets.
    pub(super) fn start(name: &str, target: Target, from: u64) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let shared = Arc::new(Shared {
            taken: AtomicU64::new(from),
            is_failing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (told, path) = (Arc::clone(&shared), name.to_owned());
        std::thread::Builder::new()
            .name("audit-device".to_owned())
            .spawn(move || run(&path, &target, &waiting, &told))?;
        Ok(Self { lines, shared })
    }

    /// Hands a line over, unless too many wait already.
    pub(super) fn offer(&self, number: u64, line: Arc<[u8]>) -> bool {
        match self.lines.try_send((number, line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Returns one more than the number of the last line that is with the other end.
    pub(super) fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Acquire)
    }

    /// Whether the other end does not take lines now.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.is_failing.load(Ordering::Acquire)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
    }
}

fn run(name: &str, target: &Target, waiting: &Receiver<(u64, Arc<[u8]>)>, shared: &Shared) {
    let mut wire = None;
    while let Ok((number, line)) = waiting.recv() {
        while let Err(error) = send(target, &mut wire, number, &line) {
            wire = None;
            if !shared.is_failing.swap(true, Ordering::AcqRel) {
                tracing::warn!(device = name, cause = %error, "an audit device takes no records");
            }
            if shared.is_over.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(AGAIN_AFTER);
        }
        shared.taken.store(number + 1, Ordering::Release);
        if shared.is_failing.swap(false, Ordering::AcqRel) {
            tracing::info!(device = name, "the audit device takes records again");
        }
    }
}

/// A connection.
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    Log(UnixDatagram),
}

fn send(target: &Target, wire: &mut Option<Wire>, number: u64, line: &[u8]) -> io::Result<()> {
    let wire = match wire {
        Some(wire) => wire,
        None => wire.insert(connect(target)?),
    };
    match wire {
        Wire::Tcp(stream) => stream.write_all(&[line, b"\n"].concat()),
        Wire::Unix(stream) => stream.write_all(&[line, b"\n"].concat()),
        Wire::Udp(socket) => datagram(line, number, |bytes| socket.send(bytes)),
        Wire::Log(socket) => {
            let Target::Syslog { facility, tag } = target else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let priority = facility * 8 + INFORMATIONAL;
            let line = [format!("<{priority}>{tag}: ").as_bytes(), line].concat();
            datagram(&line, number, |bytes| socket.send(bytes))
        }
    }
}

fn datagram(line: &[u8], number: u64, send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let sent = if line.len() <= DATAGRAM_BYTES_MAX {
        send(line)
    } else {
        let head = line.split(|&byte| byte == b'{').next().unwrap_or_default();
        let told = format!("{{\"type\":\"too long for a datagram\",\"seq\":{number}}}");
        send(&[head, told.as_bytes()].concat())
    };
    sent.map(drop)
}

fn connect(target: &Target) -> io::Result<Wire> {
    match target {
        Target::Socket {
            family,
            address,
            write_timeout_ms,
        } => {
            let patience = Some(Duration::from_millis(*write_timeout_ms));
            match family {
                Family::Unix => {
                    let stream = UnixStream::connect(address)?;
                    stream.set_write_timeout(patience)?;
                    Ok(Wire::Unix(stream))
                }
                Family::Tcp => {
                    let mut last = io::Error::other("its name has no address");
                    for address in address.to_socket_addrs()? {
                        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                            Ok(stream) => {
                                stream.set_write_timeout(patience)?;
                                return Ok(Wire::Tcp(stream));
                            }
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                }
                Family::Udp => {
                    let to = address.to_socket_addrs()?.next();
                    let to = to.ok_or_else(|| io::Error::other("its name has no address"))?;
                    let any: std::net::SocketAddr = match to {
                        std::net::SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                        std::net::SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
                    };
                    let socket = UdpSocket::bind(any)?;
                    socket.connect(to)?;
                    socket.set_write_timeout(patience)?;
                    Ok(Wire::Udp(socket))
                }
            }
        }
        Target::Syslog { .. } => {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SYSLOG_WITHIN))?;
            socket.connect(SYSLOG)?;
            Ok(Wire::Log(socket))
        }
        Target::File { .. } | Target::Discard => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Finds out whether a device takes lines. Returns nothing, or why not. Blocks for some seconds at
/// most.
pub(super) fn probe(target: &Target) -> Result<(), String> {
    match target {
        Target::Discard => Ok(()),
        Target::File { path, mode } => AuditFile::open_as(path.as_ref(), 0, *mode)
            .map(drop)
            .map_err(|error| format!("file `{path}`: {error}")),
        Target::Socket { address, .. } => connect(target)
            .map(drop)
            .map_err(|error| format!("socket `{address}`: {error}")),
        Target::Syslog { .. } => connect(target)
            .map(drop)
            .map_err(|error| format!("`{SYSLOG}`: {error}")),
    }
}

#[cfg(test)]
mod tests;
