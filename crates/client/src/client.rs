//! The client itself: requests and their answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_api::v1::{
    JoinAnswer, JoinReply, JoinRequest, PROTOCOL, PROTOCOL_HEADER, RenewAnswer, RenewRequest,
};
use bastide_api::{Revision, Secret};
use bastide_linux::clock::Clock;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::error::{Attempt, ClientError, Failing};
use crate::http::{Endpoint, Outgoing, Sending, Wire};
use crate::tls::{self, ClientIdentity, Trust};
use crate::watch::Watch;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The header that names one request and its repetitions (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// When a request is repeated whose answer was lost.
const REPEAT_AFTER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an answer, all addresses of the list included.
    pub answer: Duration,
    /// For the next request on a connection: after that it is not used again. Servers close one that
    /// nobody uses, ours after 10 s; a request that meets this is lost, and may have been served.
    pub idle: Duration,
    /// For a sign of life on a watch; the controller gives one at least every 10 s.
    pub silence: Duration,
}

impl Default for Patience {
    /// 15 s for an answer, 5 s of idleness, 25 s of silence.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            idle: Duration::from_secs(5),
            silence: Duration::from_secs(25),
        }
    }
}

/// A client of the control plane, or of an agent's socket. Clones share one connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Vec<Endpoint>,
    token: Option<Secret<String>>,
    patience: Patience,
    /// The connection that the last request left behind, to be used by the next.
    idle: Mutex<Option<(Wire, Instant)>>,
}

impl Client {
    /// Makes a client of the controllers at `addresses`, tried in this order. Nothing is sent yet.
    pub fn new(
        addresses: Vec<SocketAddr>,
        trust: Trust,
        identity: Option<ClientIdentity>,
        token: Option<Secret<String>>,
    ) -> Result<Self, ClientError> {
        Self::with_clock(addresses, trust, identity, token, &Clock::following(None))
    }

    /// As [`Self::new`], judging certificates by `clock`, which learns from them: a controller's
    /// certificate that has not begun yet proves that the clock is behind.
    pub fn with_clock(
        addresses: Vec<SocketAddr>,
        trust: Trust,
        identity: Option<ClientIdentity>,
        token: Option<Secret<String>>,
        clock: &Clock,
    ) -> Result<Self, ClientError> {
        let config = tls::config(&trust, identity, clock)?;
        let endpoints = addresses
            .into_iter()
            .map(|address| Endpoint::Tls(address, Arc::clone(&config)))
            .collect();
        Ok(Self::of(endpoints, token, Patience::default()))
    }

    /// Makes a client of the server behind a socket of this host: plain HTTP, because the kernel
    /// vouches for both ends.
    pub fn unix(path: &Path) -> Self {
        Self::unix_with(path, Patience::default())
    }

    /// As [`Self::unix`], with another patience.
    pub fn unix_with(path: &Path, patience: Patience) -> Self {
        Self::of(vec![Endpoint::Unix(path.to_owned())], None, patience)
    }

    /// Makes a client of a server that speaks plain HTTP, as development servers do. What is sent can
    /// be read on the way: for addresses of this host alone.
    pub fn plain(address: SocketAddr, token: Option<Secret<String>>) -> Self {
        let endpoints = vec![Endpoint::Plain(address)];
        Self::of(endpoints, token, Patience::default())
    }

    /// As [`Self::unix`], with a token.
    pub fn unix_as(path: &Path, token: Secret<String>) -> Self {
        let endpoints = vec![Endpoint::Unix(path.to_owned())];
        Self::of(endpoints, Some(token), Patience::default())
    }

    fn of(endpoints: Vec<Endpoint>, token: Option<Secret<String>>, patience: Patience) -> Self {
        Self {
            inner: Arc::new(Inner {
                endpoints,
                token,
                patience,
                idle: Mutex::new(None),
            }),
        }
    }

    /// Asks for `path` (with its `/v1/`), and returns the field `data` of the answer, or `null`.
    ///
    /// Not cancel safe: dropped after the request was sent, it may have been served.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        let body = body.as_ref().map(encode);
        let mut answer = self
            .ask(
                method,
                path,
                body,
                Instant::now() + self.inner.patience.answer,
            )
            .await?;
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// As [`Self::call`], but returns the whole envelope, and waits until `by`.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Secret<Vec<u8>>>,
        by: Instant,
    ) -> Result<Value, ClientError> {
        let request = self.request(method, path, body)?;
        let (status, bytes, address) = self.exchange_again(request, by).await?;
        let text = bytes.expose();
        if !status.is_success() {
            return Err(ClientError::Refused {
                status: status.as_u16(),
                errors: errors(text),
            });
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        let what = "its body is not JSON";
        serde_json::from_slice(text).map_err(|_| ClientError::Answer { address, what })
    }

    /// Asks to become a node. May be repeated with the same request: it gets the same answer, or,
    /// while it waits for an operator's approval, the latest one.
    pub async fn apply(&self, request: &JoinRequest) -> Result<JoinReply, ClientError> {
        self.typed("/v1/auth/join/login", request).await
    }

    /// As [`Self::apply`], with a ticket that asks for nobody's approval.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinAnswer, ClientError> {
        match self.apply(request).await? {
            JoinReply::Joined(answer) => Ok(*answer),
            JoinReply::Waiting(_) => Err(ClientError::Answer {
                address: self.first_address(),
                what: "an operator has to approve first",
            }),
        }
    }

    /// Reports, and renews the certificate if the request says so.
    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewAnswer, ClientError> {
        self.typed("/v1/mesh/renew", request).await
    }

    /// Begins to watch, from the revision that is known already; 0 begins with a snapshot.
    pub async fn watch(&self, from: Revision) -> Result<Watch, ClientError> {
        self.watch_after(from, None, None).await
    }

    /// As [`Self::watch`], and tells of which view, and of which run of the control plane, is known:
    /// so the control plane learns if its store is not the one that it was. `log`: how many lines of
    /// the audit log are known, to hear of its checkpoints.
    pub async fn watch_after(
        &self,
        from: Revision,
        known: Option<(Revision, &str)>,
        log: Option<u64>,
    ) -> Result<Watch, ClientError> {
        let by = Instant::now() + self.inner.patience.answer;
        let mut path = format!("/v1/mesh/watch?from={}", from.0);
        if let Some((revision, run)) = known {
            path = format!("{path}&known={}&run={run}", revision.0);
        }
        if let Some(lines) = log {
            path = format!("{path}&log={lines}");
        }
        let request = self.request("GET", &path, None)?;
        let mut wire = Wire::open(&self.inner.endpoints, by).await?;
        let address = wire.endpoint.name();
        let answer = match timeout_at(by, wire.send(Outgoing { request })).await {
            Ok(Sending::Answer(answer)) => answer,
            Ok(Sending::Again(_)) => return Err(closed(address)),
            Ok(Sending::Lost(error)) => {
                let source = error.into();
                return Err(ClientError::Lost { address, source });
            }
            Err(_) => return Err(timed_out(address)),
        };
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok(Watch::new(wire, body, self.inner.patience.silence));
        }
        let text = timeout_at(by, wire.read_body(body, ANSWER_BYTES_MAX)).await;
        let text = text.ok().and_then(Result::ok).flatten();
        Err(ClientError::Refused {
            status: head.status.as_u16(),
            errors: text.map(|text| errors(text.expose())).unwrap_or_default(),
        })
    }

    async fn typed<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, ClientError> {
        let by = Instant::now() + self.inner.patience.answer;
        let mut answer = self.ask("POST", path, Some(encode(request)), by).await?;
        let data = answer.get_mut("data").map(Value::take).unwrap_or_default();
        serde_json::from_value(data).map_err(|_| ClientError::Answer {
            address: self.first_address(),
            what: "its fields are of another version of the protocol",
        })
    }

    fn first_address(&self) -> String {
        let first = self.inner.endpoints.first();
        first.map(Endpoint::name).unwrap_or_default()
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Secret<Vec<u8>>>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|error| ClientError::Request(error.into()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(PROTOCOL_HEADER, PROTOCOL);
        if let Some(token) = &self.inner.token {
            request = request.header("x-vault-token", token.expose());
        }
        let body = match body {
            None => Bytes::new(),
            Some(bytes) => {
                request = request.header(http::header::CONTENT_TYPE, "application/json");
                Bytes::from_owner(SecretBytes(bytes))
            }
        };
        request.body(Full::new(body)).map_err(ClientError::Request)
    }

    /// Sends a request; if its answer is lost, and it may be repeated, again.
    async fn exchange_again(
        &self,
        mut request: Request<Full<Bytes>>,
        by: Instant,
    ) -> Result<(StatusCode, Secret<Vec<u8>>, String), ClientError> {
        let is_write = !matches!(request.method().as_str(), "GET" | "HEAD" | "LIST");
        if is_write && self.inner.token.is_some() {
            // The control plane answers a repetition as it answered the first.
            let key = http::HeaderValue::from_str(&draw_key()).map_err(|error| {
                let error: http::Error = error.into();
                ClientError::Request(error)
            })?;
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        } else if is_write {
            return self.exchange(request, by).await;
        }
        for wait in REPEAT_AFTER {
            match self.exchange(request.clone(), by).await {
                Err(ClientError::Lost { .. }) if Instant::now() + wait < by => {
                    tokio::time::sleep(wait).await;
                }
                ended => return ended,
            }
        }
        self.exchange(request, by).await
    }

    /// Sends a request on the idle connection if that lives, else on a new one.
    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        by: Instant,
    ) -> Result<(StatusCode, Secret<Vec<u8>>, String), ClientError> {
        let mut idle = self.take_idle();
        loop {
            let is_reused = idle.is_some();
            let mut wire = match idle.take() {
                Some(wire) => wire,
                None => Wire::open(&self.inner.endpoints, by).await?,
            };
            let address = wire.endpoint.name();
            let work = async {
                let answer = match wire.send(Outgoing { request }).await {
                    Sending::Answer(answer) => answer,
                    Sending::Again(request) => return Ok(Err(request)),
                    Sending::Lost(error) => return Err(error),
                };
                let (head, body) = answer.into_parts();
                let body = wire.read_body(body, ANSWER_BYTES_MAX).await?;
                Ok(Ok((head.status, body)))
            };
            match timeout_at(by, work).await {
                Err(_) => return Err(timed_out(address)),
                Ok(Err(error)) => {
                    let source = error.into();
                    return Err(ClientError::Lost { address, source });
                }
                // The other end had closed the connection since the request before this one.
                Ok(Ok(Err(not_sent))) if is_reused => request = not_sent,
                Ok(Ok(Err(_))) => return Err(closed(address)),
                Ok(Ok(Ok((_, None)))) => {
                    let what = "its body is too long";
                    return Err(ClientError::Answer { address, what });
                }
                Ok(Ok(Ok((status, Some(body))))) => {
                    if wire.is_alive().await {
                        *self.idle() = Some((wire, Instant::now()));
                    }
                    return Ok((status, body, address));
                }
            }
        }
    }

    fn take_idle(&self) -> Option<Wire> {
        let (wire, since) = self.idle().take()?;
        (since.elapsed() < self.inner.patience.idle).then_some(wire)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<(Wire, Instant)>> {
        self.inner
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a request's body, zeroised when the last of their readers is done.
struct SecretBytes(Secret<Vec<u8>>);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Draws a key that names one request and its repetitions.
fn draw_key() -> String {
    let mut bytes = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's random source answers once it is seeded");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn encode(value: &impl Serialize) -> Secret<Vec<u8>> {
    Secret::new(serde_json::to_vec(value).expect("requests are plain JSON"))
}

/// Reads Vault's `{"errors": [text]}`.
pub(crate) fn errors(body: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(body)
        .map(|parsed| parsed.errors)
        .unwrap_or_default()
}

fn timed_out(address: String) -> ClientError {
    ClientError::Unreachable(vec![Attempt {
        address,
        failing: Failing::Timeout,
    }])
}

fn closed(address: String) -> ClientError {
    let why = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    ClientError::Unreachable(vec![Attempt {
        address,
        failing: Failing::Connect(why),
    }])
}
