//! The host's own addresses: a thread that waits for the kernel to tell of changes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bastide_linux::netlink::{self, Address, Changes, Link, LinkKind, NetlinkError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;

use super::MeshError;
use super::beside::{Beside, Outputs};
use crate::run::device::{Ended, Handle};

/// How often is written down where peers were reached.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Bridges that container engines and hypervisors make: what is behind them is no underlay.
const FOREIGN_BRIDGES: [&str; 6] = ["docker", "br-", "cni", "podman", "virbr", "lxc"];

struct Shared {
    bell: OwnedFd,
    is_asked: AtomicBool,
    is_stopped: AtomicBool,
}

impl Shared {
    fn ring(&self) {
        // It can only fail when it has been rung 2^64 times and not heard.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// The thread that watches the host's addresses. Dropping it ends it.
pub struct Network {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Network {
    /// Looks at the addresses of the calling thread's network namespace and watches them.
    pub fn start(
        interface: String,
        device: Handle<Beside>,
        outputs: Arc<Outputs>,
    ) -> Result<Self, MeshError> {
        // Subscribed before the first look, so that no change falls between.
        let changes = Changes::open()?;
        let socket = netlink::Socket::open()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).map_err(|errno| MeshError::Thread(errno.into()))?;
        let shared = Arc::new(Shared {
            bell,
            is_asked: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        });
        let mut watcher = Watcher {
            interface,
            device,
            outputs,
            socket,
            changes,
            shared: Arc::clone(&shared),
            known: Vec::new(),
        };
        watcher.look(true)?;
        let thread = thread::Builder::new()
            .name("mesh-network".to_owned())
            .spawn(move || watcher.run())
            .map_err(MeshError::Thread)?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Looks now, and lets the paths be probed even if the addresses are as they were.
    pub fn look(&self) {
        self.shared.is_asked.store(true, Ordering::Release);
        self.shared.ring();
    }

    /// Ends the thread, which first writes down what it has to.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.ring();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches the network panicked");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Watcher {
    interface: String,
    device: Handle<Beside>,
    outputs: Arc<Outputs>,
    socket: netlink::Socket,
    changes: Changes,
    shared: Arc<Shared>,
    known: Vec<IpAddr>,
}

impl Watcher {
    fn run(mut self) {
        while !self.shared.is_stopped.load(Ordering::Acquire) {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "could not wait for changes of the network");
                break;
            }
            let is_changed = match self.drain() {
                Ok(is_changed) => is_changed,
                Err(error) => {
                    tracing::warn!(%error, "changes of the network were missed");
                    true
                }
            };
            let is_asked = self.shared.is_asked.swap(false, Ordering::AcqRel);
            if is_changed || is_asked {
                match self.look(is_asked) {
                    Ok(()) => {}
                    Err(MeshError::Ended(Ended)) => break,
                    Err(error) => tracing::warn!(%error, "could not look at the host's addresses"),
                }
            }
            self.outputs.save();
        }
        self.outputs.save();
    }

    /// Waits for a change, the bell, or the time to save.
    fn wait(&self) -> io::Result<()> {
        let mut fds = [
            PollFd::new(&self.changes, PollFlags::IN),
            PollFd::new(&self.shared.bell, PollFlags::IN),
        ];
        let rest = Timespec {
            tv_sec: i64::try_from(SAVE_EVERY.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&rest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if fds[1].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<bool, NetlinkError> {
        let mut is_changed = false;
        while let Some(changes) = self.changes.poll()? {
            is_changed |= !changes.is_empty();
        }
        Ok(is_changed)
    }

    /// Tells the path finder the host's addresses, if they are others or if it was asked.
    fn look(&mut self, is_asked: bool) -> Result<(), MeshError> {
        let links = self.socket.links()?;
        let addresses = own_addresses(&links, &self.socket.addresses()?, &self.interface);
        if !is_asked && addresses == self.known {
            return Ok(());
        }
        self.known.clone_from(&addresses);
        self.device.call(move |parts| {
            let port = parts.sockets.port();
            let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
            let (now, addresses) = (parts.now, addresses.collect());
            parts.companion.node.handle_network_change(now, addresses);
        })?;
        Ok(())
    }
}

/// Picks the addresses that may be an underlay: of links that are up and are neither tunnels, nor
/// ports of a bridge, nor bridges of container engines.
fn own_addresses(links: &[Link], addresses: &[Address], interface: &str) -> Vec<IpAddr> {
    let is_underlay = |link: &&Link| {
        let is_tunnel = matches!(link.kind, LinkKind::Tun | LinkKind::WireGuard);
        let is_foreign = link.kind == LinkKind::Bridge
            && FOREIGN_BRIDGES
                .iter()
                .any(|prefix| link.name.starts_with(prefix));
        link.is_up
            && !link.is_loopback
            && !is_tunnel
            && !is_foreign
            && link.master.is_none()
            && link.name != interface
    };
    let underlays: Vec<_> = links
        .iter()
        .filter(is_underlay)
        .map(|it| it.index)
        .collect();
    let mut own: Vec<IpAddr> = addresses
        .iter()
        .filter(|it| it.is_global && it.is_usable && underlays.contains(&it.link))
        .map(|it| it.net.addr())
        .collect();
    // IPv4 first, and always in one order.
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests;
