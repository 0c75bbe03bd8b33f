//! The distribution API, read-only (OCI distribution specification 1.1, "Pull").

pub(crate) mod range;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bastide_stack::{Digest, ImageRef};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::io::ReaderStream;
use tracing::debug;

use self::range::Range;
use super::blobs::{BlobError, Blobs};
use super::fetch::{FetchError, Fetcher};
use super::manifest::{Document, MANIFEST_BYTES_MAX};

/// Connections at one time. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// How long a client may take for a TLS handshake or the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
const CHUNK_BYTES: usize = 64 << 10;

type Body = BoxBody<Bytes, io::Error>;

/// Where what is asked for comes from.
enum Source {
    /// This node, then its peers. Only for programs of this host.
    Engine(Arc<Fetcher>),
    /// This node alone: a peer never makes us ask others.
    Peer(Arc<Blobs>),
}

/// Serves this host's engine, in plain HTTP on loopback. Runs until dropped.
pub async fn serve_loopback(listener: TcpListener, fetcher: Arc<Fetcher>) {
    serve(listener, Arc::new(Source::Engine(fetcher)), None).await;
}

/// Serves the peers: with `tls`, only those that it accepts. Bind `listener` to the mesh address and
/// nothing else. Runs until dropped.
pub async fn serve_peers(listener: TcpListener, blobs: Arc<Blobs>, tls: Option<Arc<ServerConfig>>) {
    serve(
        listener,
        Arc::new(Source::Peer(blobs)),
        tls.map(TlsAcceptor::from),
    )
    .await;
}

async fn serve(listener: TcpListener, source: Arc<Source>, tls: Option<TlsAcceptor>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = accept => match accepted {
                Ok((stream, _)) => {
                    let (source, tls) = (Arc::clone(&source), tls.clone());
                    tasks.spawn(async move {
                        match tls {
                            None => talk(stream, source).await,
                            Some(tls) => match timeout(HEAD_WITHIN, tls.accept(stream)).await {
                                Ok(Ok(stream)) => talk(stream, source).await,
                                Ok(Err(error)) => debug!(%error, "peer refused"),
                                Err(_) => debug!("peer was too slow"),
                            },
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of files, perhaps: that passes, and must not spin.
                    debug!(%error, "could not accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, source: Arc<Source>) {
    let service = service_fn(|request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&source, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "connection ended");
    }
}

/// A refusal, in the words of the distribution specification ("Error Codes").
struct Refusal {
    status: StatusCode,
    code: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, code: &'static str) -> Self {
        Self { status, code }
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        tracing::warn!(%error, "blob could not be read");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
    }
}

async fn answer(source: &Source, request: &Request<Incoming>) -> Response<Body> {
    let result = route(source, request.method(), request.uri(), request.headers()).await;
    let mut response = result.unwrap_or_else(|refusal| {
        let body = format!(
            "{{\"errors\":[{{\"code\":\"{}\",\"message\":\"{}\"}}]}}",
            refusal.code,
            refusal
                .status
                .canonical_reason()
                .unwrap_or_default()
                .to_lowercase()
        );
        let mut response = Response::new(full(body.into()));
        *response.status_mut() = refusal.status;
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        response
    });
    let version = header::HeaderValue::from_static("registry/2.0");
    response
        .headers_mut()
        .insert("docker-distribution-api-version", version);
    response
}

const JSON: header::HeaderValue = header::HeaderValue::from_static("application/json");
const BYTES: header::HeaderValue = header::HeaderValue::from_static("application/octet-stream");

async fn route(
    source: &Source,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    const NOT_FOUND: Refusal = Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"));
    }
    if matches!(source, Source::Engine(_)) && !is_loopback(headers) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED"));
    }
    let rest = uri.path().strip_prefix("/v2/").ok_or(NOT_FOUND)?;
    if rest.is_empty() {
        let mut response = Response::new(full(Bytes::from_static(b"{}")));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        return Ok(response);
    }
    let (rest, reference) = rest.rsplit_once('/').ok_or(NOT_FOUND)?;
    let (name, kind) = rest.rsplit_once('/').ok_or(NOT_FOUND)?;
    let name: ImageRef = name
        .parse()
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID"))?;
    match kind {
        "blobs" => {
            let digest = reference
                .parse()
                .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID"))?;
            blob(source, digest, headers.get(header::RANGE)).await
        }
        "manifests" => manifest(source, &name, reference).await,
        _ => Err(NOT_FOUND),
    }
}

/// Only what addresses this host as loopback: a page in a browser that had its own name resolve to
/// 127.0.0.1 sends that name.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    host.is_some_and(|host| {
        let address = host.parse::<SocketAddr>().map(|address| address.ip());
        let address = address.or_else(|_| host.parse());
        match address {
            Ok(address) => address.is_loopback(),
            Err(_) => host.split(':').next() == Some("localhost"),
        }
    })
}

/// Makes sure that a blob is here, as far as the source allows.
async fn ensure(source: &Source, digest: Digest) -> Result<&Blobs, Refusal> {
    const UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    match source {
        Source::Peer(blobs) if blobs.has(digest) => Ok(blobs),
        Source::Peer(_) => Err(UNKNOWN),
        Source::Engine(fetcher) => match fetcher.ensure(digest).await {
            Ok(_) => Ok(fetcher.blobs()),
            Err(FetchError::Blob(error)) => Err(error.into()),
            Err(error @ (FetchError::Nowhere { .. } | FetchError::NoManifest(_))) => {
                debug!(%error, "blob is nowhere");
                Err(UNKNOWN)
            }
        },
    }
}

async fn manifest(
    source: &Source,
    name: &ImageRef,
    reference: &str,
) -> Result<Response<Body>, Refusal> {
    const UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    let digest = match (reference.parse::<Digest>(), source) {
        (Ok(digest), _) => digest,
        // A tag means what was pushed on this very node; no peer is asked what it means.
        (Err(_), Source::Engine(fetcher)) => {
            let image = format!("{}:{reference}", name.name());
            let image: ImageRef = image.parse().map_err(|_| UNKNOWN)?;
            fetcher.blobs().resolve(&image).ok_or(UNKNOWN)?
        }
        (Err(_), Source::Peer(_)) => return Err(UNKNOWN),
    };
    let blobs = ensure(source, digest)
        .await
        .map_err(|refusal| match refusal.status {
            StatusCode::NOT_FOUND => UNKNOWN,
            _ => refusal,
        })?;
    let bytes = blobs
        .read_small(digest, MANIFEST_BYTES_MAX)?
        .ok_or(UNKNOWN)?;
    let document = Document::read(&bytes).ok_or(UNKNOWN)?;
    let media_type = header::HeaderValue::from_str(document.media_type()).map_err(|_| UNKNOWN)?;
    let mut response = Response::new(full(bytes.into()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    name_content(&mut response, digest);
    Ok(response)
}

async fn blob(
    source: &Source,
    digest: Digest,
    range: Option<&header::HeaderValue>,
) -> Result<Response<Body>, Refusal> {
    const UNKNOWN: Refusal = Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    let blobs = ensure(source, digest).await?;
    let size = blobs.size(digest).ok_or(UNKNOWN)?;
    let range = range.and_then(|range| Range::read(range.to_str().ok()?, size));
    let file = blobs.read(digest)?.ok_or(UNKNOWN)?;
    let mut file = tokio::fs::File::from_std(file);
    let unreadable = |error: io::Error| {
        tracing::warn!(%error, "blob could not be read");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
    };
    let (status, first, length) = match range {
        None => (StatusCode::OK, 0, size),
        Some(Range::Unsatisfiable) => {
            return Err(Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "RANGE_INVALID",
            ));
        }
        Some(Range::Part { first, length }) => {
            file.seek(io::SeekFrom::Start(first))
                .await
                .map_err(unreadable)?;
            (StatusCode::PARTIAL_CONTENT, first, length)
        }
    };
    let chunks = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
    let mut response = Response::new(StreamBody::new(chunks.map_ok(Frame::data)).boxed());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, BYTES);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(
        header::ACCEPT_RANGES,
        header::HeaderValue::from_static("bytes"),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let last = first + length - 1;
        let value = header::HeaderValue::from_str(&format!("bytes {first}-{last}/{size}"));
        headers.insert(
            header::CONTENT_RANGE,
            value.expect("digits are valid in a header"),
        );
    }
    name_content(&mut response, digest);
    Ok(response)
}

fn name_content(response: &mut Response<Body>, digest: Digest) {
    let digest = digest.to_string();
    let value = |text: &str| {
        header::HeaderValue::from_str(text).expect("a digest's text is valid in a header")
    };
    response
        .headers_mut()
        .insert(header::ETAG, value(&format!("\"{digest}\"")));
    response
        .headers_mut()
        .insert("docker-content-digest", value(&digest));
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
