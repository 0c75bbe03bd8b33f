//! Documents of servers elsewhere, over HTTPS: sets of keys, and what providers tell of themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_api::Secret;
use bastide_linux::clock::Clock;
use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::core::outside::{ANSWER_BYTES_MAX, Age, Ask, Fetch, answered, encoded, failed};
use crate::core::refusal::Refusal;
use crate::run::trust::{client_config, why_no_tls};

/// The name of this host's loopback.
const LOCALHOST: &str = "localhost";
/// Fetches at a time, and how many may wait; beyond it logins are refused.
const AT_ONCE: usize = 8;
const WAITING_MAX: usize = 64;
/// How long a fetch may take, from the first byte to the last.
const WITHIN: Duration = Duration::from_secs(10);
/// How old an answer may be that is used again.
const MINUTES: Duration = Duration::from_secs(5 * 60);
/// How often the same document is fetched anew because something was missing in it: who sends tokens
/// with made-up keys must not make us knock at every one.
const SECONDS: Duration = Duration::from_secs(10);
/// Most bytes that are read of why a form is refused.
const REFUSAL_BYTES_MAX: usize = 4 << 10;
/// Most answers that are kept.
const KEPT_MAX: usize = 64;

/// Fetches, and keeps what it fetched for a while.
pub struct Fetcher {
    turns: Semaphore,
    waiting: Semaphore,
    /// By URL and certificates to trust.
    kept: Mutex<BTreeMap<(String, String), (Instant, Bytes)>>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING_MAX),
            kept: Mutex::default(),
        }
    }
}

impl Fetcher {
    /// Fetches a document, unless it was fetched lately. What goes wrong there is part of the result.
    /// Cancel safe.
    pub async fn fetch(&self, fetch: Fetch, clock: &Clock) -> Result<Secret<Vec<u8>>, Refusal> {
        if let Some(known) = self.kept(&fetch) {
            return Ok(answered(&known));
        }
        let busy = || Refusal::Unavailable("too many logins wait".to_owned());
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.turns.acquire().await.map_err(|_| busy())?;
        // Somebody may have fetched it meanwhile.
        if let Some(known) = self.kept(&fetch) {
            return Ok(answered(&known));
        }
        let got = match tokio::time::timeout(WITHIN, get(&fetch, clock)).await {
            Ok(got) => got,
            Err(_) => Err("it took too long".to_owned()),
        };
        Ok(match got {
            Ok(body) => {
                self.keep(&fetch, &body);
                answered(&body)
            }
            Err(why) => {
                tracing::debug!(%why, "a document was not fetched");
                failed(&why)
            }
        })
    }

    fn kept(&self, fetch: &Fetch) -> Option<Bytes> {
        let age_max = match (fetch.age, &fetch.ask) {
            (Age::Minutes, Ask::Read) => MINUTES,
            (Age::Seconds, Ask::Read) => SECONDS,
            (Age::Fresh, _) | (_, Ask::Bearer(_) | Ask::Post(_)) => return None,
        };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, body) = kept.get(&(fetch.url.clone(), fetch.ca_pem.clone()))?;
        (at.elapsed() < age_max).then(|| body.clone())
    }

    fn keep(&self, fetch: &Fetch, body: &Bytes) {
        if !matches!(fetch.ask, Ask::Read) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| at.elapsed() < MINUTES);
        if KEPT_MAX <= kept.len()
            && let Some(first) = kept.iter().min_by_key(|(_, (at, _))| *at)
        {
            let first = first.0.clone();
            kept.remove(&first);
        }
        let key = (fetch.url.clone(), fetch.ca_pem.clone());
        kept.insert(key, (Instant::now(), body.clone()));
    }
}

/// What is told apart of a URL.
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    is_tls: bool,
}

impl Target {
    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the URL is not `https://…`".to_owned()),
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // Whoever stands between could put keys of his own in place of the right ones.
        let is_here = host == LOCALHOST || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        if !is_tls && !is_here {
            return Err("the URL is not `https://…`, and not of this host's loopback".to_owned());
        }
        if host.is_empty() || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err("the URL names no host, or a password".to_owned());
        }
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            uri,
        })
    }
}

/// Connects. The name of this host is this host, whatever a resolver says (RFC 6761, section 6.3).
async fn connect(target: &Target) -> std::io::Result<TcpStream> {
    if target.host == LOCALHOST {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return TcpStream::connect(here.map(|it| SocketAddr::new(it, target.port)).as_slice())
            .await;
    }
    TcpStream::connect((target.host.as_str(), target.port)).await
}

async fn get(fetch: &Fetch, clock: &Clock) -> Result<Bytes, String> {
    let target = Target::parse(&fetch.url)?;
    let socket = connect(&target)
        .await
        .map_err(|error| format!("no connection: {}", error.kind()))?;
    if !target.is_tls {
        return ask(socket, &target, &fetch.ask).await;
    }
    let config = client_config(&fetch.ca_pem, rustls::ALL_VERSIONS, clock)?;
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| "the URL's host is no name".to_owned())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|error| why_no_tls(&error))?;
    ask(stream, &target, &fetch.ask).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    target: &Target,
    how: &Ask,
) -> Result<Bytes, String> {
    let lost = |error: hyper::Error| format!("the connection was lost: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    let path = target.uri.path_and_query().map_or("/", |it| it.as_str());
    let authority = target.uri.authority().map_or("", |it| it.as_str());
    let mut request = Request::builder()
        .uri(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/json");
    let mut body = Bytes::new();
    match how {
        Ask::Read => {}
        Ask::Bearer(token) => {
            request = request.header(
                AUTHORIZATION,
                secret(&format!("Bearer {}", token.expose()))?,
            );
        }
        Ask::Post(form) => {
            request = request
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some((user, password)) = &form.basic {
                // RFC 6749, section 2.3.1: both are encoded before they are joined.
                let both = format!("{}:{}", encoded(user), encoded(password.expose()));
                let both = format!("Basic {}", BASE64.encode(both.as_bytes()));
                request = request.header(AUTHORIZATION, secret(&both)?);
            }
            let pairs = form.fields.iter();
            let pairs: Vec<_> = pairs
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.expose())))
                .collect();
            body = pairs.join("&").into();
        }
    }
    let request = request
        .body(Full::new(body))
        .map_err(|_| "the URL's host is no name".to_owned())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(lost)?;
        // Another place is for an operator to name, not for whoever answers.
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            let why = match how {
                Ask::Post(_) => refused(answer.into_body()).await,
                Ask::Read | Ask::Bearer(_) => None,
            };
            return Err(match why {
                Some(why) => format!("it answered {status} ({why})"),
                None => format!("it answered {status}"),
            });
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| format!("the answer could not be read: {error}"))
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // Its last bytes may still be on their way to whoever reads the answer.
            Ok(()) => answer.await,
            Err(error) => Err(lost(error)),
        },
    }
}

/// Returns the value of a header that is never shown.
fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "what it is to be asked with does not fit a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the word in which a server says why it refuses a form (RFC 6749, section 5.2).
async fn refused(body: impl Body<Data = Bytes, Error = hyper::Error>) -> Option<String> {
    let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await.ok()?;
    let told: Value = serde_json::from_slice(&body.to_bytes()).ok()?;
    let word = told.get("error")?.as_str()?;
    let is_word = word.len() <= 64 && word.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    is_word.then(|| word.to_owned())
}

#[cfg(test)]
mod tests;
