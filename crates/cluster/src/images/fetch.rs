//! Gets blobs that are missing here from the peers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_stack::Digest;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::{debug, info};

use super::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
use super::manifest::{Document, MANIFEST_BYTES_MAX};

/// Blobs that are fetched at one time: enough to fill a link, few enough to share it.
const FETCHES_MAX: usize = 4;
/// Peers that are asked for one blob.
const PEERS_MAX: usize = 64;
/// How long a peer may take to accept: a node that is gone delays each blob by this.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a peer may take to begin its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a transfer may stand still.
const STALL_MAX: Duration = Duration::from_secs(15);

/// Who is asked for blobs.
#[derive(Clone)]
pub struct Peers {
    /// Where their image port is, in the order in which to ask. Read anew for each blob.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
    /// With what to authenticate both sides; `None` leaves that to the mesh.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody who could be asked has it.
    #[error("none of {asked} peers has blob `{digest}`")]
    Nowhere {
        /// Which blob.
        digest: Digest,
        /// How many were asked.
        asked: usize,
    },
    /// It could not be kept here.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A manifest that others refer to is none.
    #[error("blob `{0}` is no manifest")]
    NoManifest(Digest),
}

/// Blobs of this node, and behind them those of the peers.
pub struct Fetcher {
    blobs: Arc<Blobs>,
    peers: Peers,
    fetches: Semaphore,
    /// Blobs under way. Who finds one here waits for its end, then looks again.
    flying: Mutex<BTreeMap<Digest, watch::Receiver<()>>>,
}

impl Fetcher {
    /// Puts `peers` behind `blobs`.
    pub fn new(blobs: Arc<Blobs>, peers: Peers) -> Self {
        Self {
            blobs,
            peers,
            fetches: Semaphore::new(FETCHES_MAX),
            flying: Mutex::new(BTreeMap::new()),
        }
    }

    /// Returns the blobs of this node.
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Makes sure that a blob is here; returns its size in bytes. However many ask at once, it
    /// crosses the mesh once. Cancel safe: if the one who fetches gives up, another takes over.
    pub async fn ensure(&self, digest: Digest) -> Result<u64, FetchError> {
        loop {
            if let Some(size) = self.blobs.size(digest) {
                return Ok(size);
            }
            match self.take_off(digest) {
                Ok(flight) => {
                    let result = self.fetch(digest).await;
                    drop(flight);
                    return result;
                }
                // The sender is dropped, not used: `changed` ends with an error, which is the end.
                Err(mut other) => drop(other.changed().await),
            }
        }
    }

    /// Makes sure that all of an image for this architecture is here: manifest, configuration and
    /// layers. Of an index, all manifests that anyone has.
    pub async fn ensure_image(&self, digest: Digest) -> Result<(), FetchError> {
        self.ensure(digest).await?;
        let bytes = self
            .blobs
            .read_small(digest, MANIFEST_BYTES_MAX)?
            .unwrap_or_default();
        match Document::read(&bytes) {
            Some(Document::Manifest { config, layers, .. }) => {
                for descriptor in layers.iter().chain([&config]) {
                    self.ensure(descriptor.digest).await?;
                }
                Ok(())
            }
            Some(Document::Index { manifests, .. }) => {
                let mut last = Err(FetchError::NoManifest(digest));
                for descriptor in manifests {
                    let one = Box::pin(self.ensure_image(descriptor.digest)).await;
                    if last.is_err() {
                        last = one;
                    }
                }
                last
            }
            None => Err(FetchError::NoManifest(digest)),
        }
    }

    /// Announces a fetch, unless somebody else is at it.
    fn take_off(&self, digest: Digest) -> Result<Flight<'_>, watch::Receiver<()>> {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = flying.get(&digest) {
            return Err(other.clone());
        }
        let (landed, waiting) = watch::channel(());
        flying.insert(digest, waiting);
        Ok(Flight {
            fetcher: self,
            digest,
            _landed: landed,
        })
    }

    async fn fetch(&self, digest: Digest) -> Result<u64, FetchError> {
        let _permit = self
            .fetches
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let addresses = self.peers.addresses.borrow().clone();
        let mut asked = 0;
        for address in addresses.into_iter().take(PEERS_MAX) {
            asked += 1;
            match self.fetch_from(address, digest).await {
                Ok(Some(size)) => {
                    info!(%digest, size, "blob fetched");
                    return Ok(size);
                }
                Ok(None) => {}
                Err(PeerError::Blob(error @ BlobError::Io { .. })) => return Err(error.into()),
                Err(error) => debug!(%digest, %address, %error, "peer gave no blob"),
            }
        }
        Err(FetchError::Nowhere { digest, asked })
    }

    /// Asks one peer; `None` if it does not have the blob.
    async fn fetch_from(
        &self,
        address: SocketAddr,
        digest: Digest,
    ) -> Result<Option<u64>, PeerError> {
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await??;
        match &self.peers.tls {
            None => self.transfer(stream, address, digest).await,
            Some(config) => {
                // An address as name: nothing of it is sent, and the verifier goes by the id.
                let name = ServerName::IpAddress(address.ip().into());
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = timeout(ANSWER_WITHIN, connector.connect(name, stream)).await??;
                self.transfer(stream, address, digest).await
            }
        }
    }

    async fn transfer(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        address: SocketAddr,
        digest: Digest,
    ) -> Result<Option<u64>, PeerError> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(format!("/v2/blob/blobs/{digest}"))
            .header(header::HOST, address.to_string())
            .body(Empty::<Bytes>::new())
            .expect("the parts of the request are valid");
        let receive = async {
            let response = timeout(ANSWER_WITHIN, sender.send_request(request)).await??;
            match response.status() {
                StatusCode::OK => Ok(Some(self.receive(response, digest).await?)),
                StatusCode::NOT_FOUND => Ok(None),
                other => Err(PeerError::Status(other)),
            }
        };
        tokio::pin!(receive);
        tokio::select! {
            result = &mut receive => result,
            // The peer may close behind its last byte. What the connection leaves behind, bytes or an
            // error, the receiver still finds.
            _ = connection => receive.await,
        }
    }

    /// Writes a body to disk and keeps it if it is what was asked for.
    async fn receive(
        &self,
        response: Response<Incoming>,
        digest: Digest,
    ) -> Result<u64, PeerError> {
        let mut body = response.into_body();
        let mut partial = self.blobs.begin(BLOB_BYTES_MAX)?;
        while let Some(frame) = timeout(STALL_MAX, body.frame()).await? {
            if let Ok(bytes) = frame?.into_data() {
                // Into the page cache: quicker than handing it to another thread.
                partial.write(&bytes)?;
            }
        }
        let blobs = Arc::clone(&self.blobs);
        let keep = move || partial.finish().keep_as(&blobs, digest);
        let kept = tokio::task::spawn_blocking(keep).await;
        Ok(kept.map_err(io::Error::other)??)
    }
}

/// A fetch under way; dropped, it lets the others look again.
struct Flight<'a> {
    fetcher: &'a Fetcher,
    digest: Digest,
    _landed: watch::Sender<()>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flying = self
            .fetcher
            .flying
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        flying.remove(&self.digest);
    }
}

/// Why one peer gave nothing. Never leaves this module: the next peer is asked.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("did not answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("spoke no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("answered with status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Blob(#[from] BlobError),
}
