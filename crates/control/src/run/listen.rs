//! Listeners: connections in, requests to the plane.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bastide_client::TaskGroup;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::core::request::{Identity, Patience, Peer, Presented};
use crate::run::gate::Gate;
use crate::run::http::{self, Door, Reply};
use crate::run::plane::Plane;
use crate::run::sources::Sources;
use crate::run::timed::Timed;

/// Connections of one listener at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// Most open connections of one source at the channel: two or three for each node of a large site.
const CHANNEL_SOURCE_MAX: usize = 512;
/// The same at the API: half of all, as a proxy may speak for many, and nobody may hold up everybody.
const API_SOURCE_MAX: usize = CONNECTIONS_MAX / 2;
/// Connections of a socket of this host at a time.
const HERE_MAX: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_SECS_MAX: u64 = 10;
/// How long the head of a request may take.
const HEAD_SECS_MAX: u64 = 10;
/// Longest head of a request, in bytes; a token has at most 8 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long open connections may take to end after the stop.
const SHUTDOWN_SECS_MAX: u64 = 5;

/// How long a client may take to read what it is sent.
const WRITE_SECS_MAX: u64 = 30;

/// Tells who a client's certificate chain is of. The handshake has proven that it holds the key.
pub type Identify = Arc<dyn Fn(&[CertificateDer<'_>]) -> Whose + Send + Sync>;

/// Whose a client's certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A member's, for so long: then its connections end.
    Member(Identity, Duration),
    /// Nobody's of this cluster: what it proves is for whoever reads it to judge.
    Stranger,
    /// That cannot be told now, as on a sealed server: its holder must come again when it can.
    Unknown,
}

/// How a listener secures its connections.
#[derive(Clone)]
pub enum Security {
    /// Not at all: for development, on loopback.
    Plain,
    /// With TLS.
    Tls {
        /// What the handshake does; it verifies client certificates.
        config: Arc<rustls::ServerConfig>,
        /// Who they are of.
        identify: Identify,
    },
}

/// What answers the requests of a listener.
#[derive(Clone)]
pub enum Front {
    /// A plane that is open for as long as the listener.
    Plane(Plane),
    /// A gate, behind which there is a plane at times.
    Gate(Gate),
}

impl Front {
    /// Returns what is cancelled when what a new connection finds here ends.
    fn turn(&self) -> CancellationToken {
        match self {
            Self::Plane(_) => CancellationToken::new(),
            Self::Gate(gate) => gate.state().turn,
        }
    }
}

/// Accepts connections until `stop`, then lets the open ones end.
pub async fn serve(
    listener: TcpListener,
    security: Security,
    door: Door,
    front: Front,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let sources = Sources::new(match door {
        Door::Api(_) => API_SOURCE_MAX,
        Door::Channel => CHANNEL_SOURCE_MAX,
    });
    let mut connections = TaskGroup::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = connections.reap() {
            tracing::error!(cause = ?error, "a connection failed");
        }
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: give others time to end.
                tracing::debug!(cause = %error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let Some(seat) = sources.admit(address.ip()) else {
            continue;
        };
        let (turn, stop, security) = (front.turn(), stop.clone(), security.clone());
        let desk = Desk {
            front: front.clone(),
            door,
            sources: sources.clone(),
            unknown_until: None,
        };
        connections.spawn("connection", async move {
            match secured(socket, address, security, turn).await {
                Ok(Secured::Plain(io, peer)) => {
                    connection(io, peer, Known::Nobody, desk, stop).await;
                }
                Ok(Secured::Tls(io, peer, known)) => {
                    connection(*io, peer, known, desk, stop).await;
                }
                Err(error) => tracing::debug!(cause = %error, "a handshake failed"),
            }
            drop((place, seat));
            Ok::<_, std::convert::Infallible>(())
        });
    }
    let by = Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
    let (_, aborted) = connections.shutdown(by).await;
    if !aborted.is_empty() {
        tracing::debug!(connections = aborted.len(), "connections were cut");
    }
}

/// Serves a socket of this host until `stop`: whoever may open its file may ask.
pub async fn serve_here(listener: UnixListener, front: Front, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(HERE_MAX));
    let mut connections = TaskGroup::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = connections.reap() {
            tracing::error!(cause = ?error, "a connection failed");
        }
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let desk = Desk {
            front: front.clone(),
            door: Door::API,
            sources: Sources::new(HERE_MAX),
            unknown_until: None,
        };
        let stop = stop.clone();
        connections.spawn("connection", async move {
            connection(socket, Peer::default(), Known::Nobody, desk, stop).await;
            drop(place);
            Ok::<_, std::convert::Infallible>(())
        });
    }
    let by = Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
    let (_, _) = connections.shutdown(by).await;
}

enum Secured {
    Plain(tokio::net::TcpStream, Peer),
    /// With what is known of the client's certificate.
    Tls(
        Box<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>,
        Peer,
        Known,
    ),
}

/// What is known of a client's certificate.
enum Known {
    /// There is none.
    Nobody,
    /// Whose it is, for as long.
    For(Duration),
    /// It is valid, but whose it is cannot be told now, as on a sealed server: its holder must come
    /// again when that has changed.
    Not(CancellationToken),
}

impl Known {
    /// Waits until the connection is to be cut.
    async fn over(&self) {
        match self {
            Self::For(life) => tokio::time::sleep(*life).await,
            Self::Nobody | Self::Not(_) => std::future::pending().await,
        }
    }

    /// Waits until the connection is to end after the request that it serves.
    async fn changed(&self) {
        match self {
            Self::Not(turn) => turn.cancelled().await,
            Self::Nobody | Self::For(_) => std::future::pending().await,
        }
    }
}

async fn secured(
    socket: tokio::net::TcpStream,
    address: SocketAddr,
    security: Security,
    turn: CancellationToken,
) -> io::Result<Secured> {
    let mut peer = Peer {
        address: Some(address),
        ..Peer::default()
    };
    let (config, identify) = match security {
        Security::Plain => return Ok(Secured::Plain(socket, peer)),
        Security::Tls { config, identify } => (config, identify),
    };
    let limit = Duration::from_secs(HANDSHAKE_SECS_MAX);
    let accepted = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(socket)).await;
    let stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let chain = stream.get_ref().1.peer_certificates();
    let known = match chain.map(|chain| (identify(chain), chain)) {
        None => Known::Nobody,
        Some((Whose::Unknown, _)) => Known::Not(turn),
        Some((Whose::Stranger, chain)) => {
            let chain = chain.iter().map(|it| it.to_vec()).collect();
            peer.presented = Some(Arc::new(Presented { chain }));
            Known::Nobody
        }
        Some((Whose::Member(identity, life), _)) => {
            peer.identity = Some(identity);
            Known::For(life)
        }
    };
    Ok(Secured::Tls(Box::new(stream), peer, known))
}

/// What the requests of a listener come to.
#[derive(Clone)]
struct Desk {
    front: Front,
    door: Door,
    sources: Sources,
    /// Cancelled when who the client is may be told after all; `None` if that is known.
    unknown_until: Option<CancellationToken>,
}

impl Desk {
    async fn serve(
        self,
        mut peer: Peer,
        request: hyper::Request<Incoming>,
    ) -> hyper::Response<Reply> {
        let is_stranger = self.door == Door::Channel && peer.identity.is_none();
        let source = peer
            .address
            .map(|address| address.ip())
            .filter(|_| is_stranger);
        if let Some(wait) = source.map(|source| self.sources.wait(source))
            && !wait.is_zero()
        {
            // Many machines may stand behind one address: whoever has a good ticket is heard.
            if !http::is_login(&request) {
                return http::too_many(wait);
            }
            peer.patience = Patience::Worn;
        }
        let response = http::serve(self.front, self.door, peer, self.unknown_until, request).await;
        if let Some(source) = source
            && response.status().is_client_error()
        {
            self.sources.refused(source);
        }
        response
    }
}

/// Serves the requests of one connection until it ends, its client's certificate does, or `stop`.
async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    known: Known,
    mut desk: Desk,
    stop: CancellationToken,
) {
    if let Known::Not(turn) = &known {
        desk.unknown_until = Some(turn.clone());
    }
    let service = service_fn(move |request| {
        let (desk, peer) = (desk.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(desk.serve(peer, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECS_MAX))
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_concurrent_streams(256);
    let io = Timed::new(io, Duration::from_secs(WRITE_SECS_MAX));
    let served = builder.serve_connection(TokioIo::new(io), service);
    let told = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = known.changed() => {}
        }
    };
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = known.over() => return,
        () = told => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(cause = %error, "a connection ended early");
    }
}
