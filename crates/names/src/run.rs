//! The resolver's sockets.

mod forward;
mod lookup;
mod tcp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::debug;

use crate::core::message::{self, Transport, Verdict};
use crate::core::quota::{Quota, Slots};
use crate::core::zone::Zone;

pub use lookup::knows;

/// Names that are being asked of others at one time. Each holds a socket for two seconds at most;
/// what comes on top is told to try again (SERVFAIL).
const FORWARDS_MAX: usize = 256;
/// TCP connections at one time. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Of these, those of one source.
const FORWARDS_PER_SOURCE_MAX: u32 = 64;
const CONNECTIONS_PER_SOURCE_MAX: u32 = 8;

/// Where a resolver listens, whom it answers and whom it asks.
#[derive(Debug, Clone)]
pub struct ResolverConfig {
    /// UDP and TCP. With port 0 the system chooses one port for both.
    pub listen: SocketAddr,
    /// Only questions from these ranges are answered: mesh, containers, loopback.
    pub sources: Vec<IpNet>,
    /// Resolvers for other names, tried in turn. `listen` itself is never asked.
    pub upstreams: watch::Receiver<Vec<SocketAddr>>,
}

/// Why a resolver could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The socket for UDP.
    #[error("could not listen for questions on UDP `{address}`")]
    Udp {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket for TCP.
    #[error("could not listen for questions on TCP `{address}`")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a resolver has done since it began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions answered from the zone, or refused.
    pub answered: AtomicU64,
    /// Questions asked of others.
    pub forwarded: AtomicU64,
    /// Of those, without an answer.
    pub unanswered: AtomicU64,
    /// Messages dropped: foreign source, over quota, no question.
    pub dropped: AtomicU64,
}

/// A resolver that listens. Nothing is answered until [`Self::run`].
#[derive(Debug)]
pub struct Resolver {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    shared: Arc<Shared>,
}

/// What all questions need.
struct Shared {
    listen: SocketAddr,
    sources: Vec<IpNet>,
    upstreams: watch::Receiver<Vec<SocketAddr>>,
    zone: watch::Receiver<Arc<Zone>>,
    forwards: Semaphore,
    counters: Arc<Counters>,
    quota: Mutex<Quota>,
    forwarding: Arc<Mutex<Slots>>,
    connected: Arc<Mutex<Slots>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// Opens the sockets.
    pub async fn start(
        config: ResolverConfig,
        zone: watch::Receiver<Arc<Zone>>,
    ) -> Result<Self, ResolverError> {
        let address = config.listen;
        let udp = UdpSocket::bind(address)
            .await
            .map_err(|source| ResolverError::Udp { address, source })?;
        let address = udp
            .local_addr()
            .map_err(|source| ResolverError::Udp { address, source })?;
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| ResolverError::Tcp { address, source })?;
        let shared = Shared {
            listen: address,
            sources: config.sources,
            upstreams: config.upstreams,
            zone,
            forwards: Semaphore::new(FORWARDS_MAX),
            counters: Arc::default(),
            quota: Mutex::new(Quota::new(Instant::now())),
            forwarding: Arc::new(Mutex::new(Slots::new(FORWARDS_PER_SOURCE_MAX))),
            connected: Arc::new(Mutex::new(Slots::new(CONNECTIONS_PER_SOURCE_MAX))),
        };
        Ok(Self {
            udp: Arc::new(udp),
            tcp,
            shared: Arc::new(shared),
        })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Returns what it counts.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Answers until dropped. Cancel safe: dropping the future ends every question under way.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut buffer = vec![0; message::QUESTION_BYTES_MAX + 1];
        loop {
            let accept = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                (self.tcp.accept().await, permit)
            };
            tokio::select! {
                received = self.udp.recv_from(&mut buffer) => match received {
                    Ok((length, source)) => self.take_datagram(&buffer[..length], source, &mut tasks),
                    Err(error) => self.pause("udp", &error).await,
                },
                (accepted, permit) = accept => match accepted {
                    Ok((stream, source)) => {
                        let admitted = self.shared.admits(source.ip());
                        let slot = Slot::take(&self.shared.connected, source.ip());
                        let Some(slot) = slot.filter(|_| admitted) else {
                            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
                            continue;
                        };
                        let shared = Arc::clone(&self.shared);
                        tasks.spawn(async move {
                            tcp::serve(stream, &shared).await;
                            drop((permit, slot));
                        });
                    }
                    Err(error) => self.pause("tcp", &error).await,
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }

    fn take_datagram(&self, bytes: &[u8], source: SocketAddr, tasks: &mut JoinSet<()>) {
        let shared = &self.shared;
        if !shared.admits(source.ip()) {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match shared.examine(bytes, Transport::Udp) {
            Verdict::Drop(reason) => {
                debug!(?reason, "message dropped");
                shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Answer(answer) => {
                shared.counters.answered.fetch_add(1, Ordering::Relaxed);
                // A full send buffer loses an answer, as the network may; the asker asks again.
                if let Err(error) = self.udp.try_send_to(&answer, source) {
                    debug!(%error, "answer not sent");
                }
            }
            Verdict::Forward(question) => {
                let (shared, udp) = (Arc::clone(shared), Arc::clone(&self.udp));
                tasks.spawn(async move {
                    let answer = forward::ask(&shared, source.ip(), &question).await;
                    if let Err(error) = udp.send_to(&answer, source).await {
                        debug!(%error, "answer not sent");
                    }
                });
            }
        }
    }

    /// After an error of a socket: errors of single datagrams (port unreachable) pass; errors that
    /// stay (no more files) must not spin.
    async fn pause(&self, socket: &str, error: &io::Error) {
        debug!(socket, %error, "could not receive");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Something that a source holds, until this is dropped.
struct Slot {
    slots: Arc<Mutex<Slots>>,
    source: IpAddr,
}

impl Slot {
    fn take(slots: &Arc<Mutex<Slots>>, source: IpAddr) -> Option<Self> {
        let taken = slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(source);
        let slots = Arc::clone(slots);
        taken.then_some(Self { slots, source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.give_back(self.source);
    }
}

impl Shared {
    fn admits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.sources.iter().any(|range| range.contains(&source))
            && self
                .quota
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .admit(Instant::now(), source)
    }

    fn examine(&self, bytes: &[u8], transport: Transport) -> Verdict {
        let zone = Arc::clone(&self.zone.borrow());
        message::examine(&zone, bytes, transport, random())
    }
}

/// Draws 64 bits that a stranger cannot guess.
fn random() -> u64 {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bytes = [0_u8; 8];
    // Requests of up to 256 bytes are never cut short once the pool is initialised (getrandom(2)).
    let drawn = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(drawn, Ok(bytes.len()), "the kernel gives random bytes");
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
