//! A seal whose key another server holds, in its engine `transit`: this one asks for it over HTTPS when
//! it starts. The other server never sees what is stored here, and this one never the key.
//!
//! Two servers that open each other open neither after a power cut. Whoever is asked to seal for a
//! server that is itself opened so says it, and shares open both all the same.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::Secret;
use bastide_client::ByClock;
use bastide_linux::clock::Clock;
use bastide_linux::file;
use bastide_store::{Seal, SealError};
use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::{Zeroize, Zeroizing};

use crate::core::config::TransitSettings;
use crate::run::standalone::certificates;

/// How long the other server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest file of a token that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 8 << 10;
/// The port of an address without one.
const PORT_DEFAULT: u16 = 443;

/// A seal by another server's engine `transit`.
pub struct TransitSeal(TransitSettings);

/// Why the other server did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TransitError {
    /// A file of this host cannot be used.
    #[error("could not read `{0}`")]
    File(String),
    /// The other server cannot be reached, or is not who it should be.
    #[error("could not reach `{address}`: {what}")]
    Unreachable {
        /// Which.
        address: String,
        /// Why.
        what: String,
    },
    /// The other server is sealed itself.
    #[error("`{0}` is sealed itself: open it first, with shares if this server is what opens it")]
    Sealed(String),
    /// The other server refused.
    #[error("`{address}` refused with status {status}: {what}")]
    Refused {
        /// Which.
        address: String,
        /// Its status.
        status: u16,
        /// Its words.
        what: String,
    },
    /// The other server's answer makes no sense.
    #[error("the answer of `{0}` cannot be read")]
    Answer(String),
}

impl TransitSeal {
    /// A seal as configured. Nobody is asked yet.
    pub fn new(settings: TransitSettings) -> Self {
        Self(settings)
    }

    /// Asks and waits. Not to be called by a task of an asynchronous runtime.
    fn ask(&self, verb: &str, body: &Value) -> Result<Value, TransitError> {
        let TransitSettings {
            mount_path,
            key_name,
            ..
        } = &self.0;
        let path = format!("/v1/{mount_path}/{verb}/{key_name}");
        self.call("POST", &path, Some(body))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, TransitError> {
        let unreachable = |what: &dyn std::fmt::Display| TransitError::Unreachable {
            address: self.0.address.clone(),
            what: what.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(&error))?;
        runtime.block_on(async {
            let asked = self.exchange(method, path, body);
            tokio::time::timeout(ANSWER_WITHIN, asked)
                .await
                .map_err(|_| unreachable(&"it does not answer"))?
        })
    }

    fn token(&self) -> Result<Secret<String>, TransitError> {
        let path = &self.0.token_file;
        let wrong = || TransitError::File(path.display().to_string());
        let bytes = file::read_bounded(path, TOKEN_BYTES_MAX).map_err(|_| wrong())?;
        let bytes = Zeroizing::new(bytes.ok_or_else(wrong)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
        Ok(Secret::new(text.trim().to_owned()))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, TransitError> {
        let address = &self.0.address;
        let unreachable = |what: &dyn std::fmt::Display| TransitError::Unreachable {
            address: address.clone(),
            what: what.to_string(),
        };
        let place = address.strip_prefix("https://").unwrap_or(address);
        let uri: hyper::Uri = address.parse().map_err(|error| unreachable(&error))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
        let to = (host, uri.port_u16().unwrap_or(PORT_DEFAULT));
        let socket = TcpStream::connect(to)
            .await
            .map_err(|error| unreachable(&error))?;
        let connector = TlsConnector::from(self.tls()?);
        let stream = connector.connect(name, socket).await;
        let stream = TokioIo::new(stream.map_err(|error| unreachable(&error))?);
        let shaken = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = shaken.map_err(|error| unreachable(&error))?;
        let token = self.token()?;
        let body = body.map(|body| serde_json::to_vec(body).expect("it is plain JSON"));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", place)
            .header("x-vault-token", token.expose())
            .header("x-vault-request", "true")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| unreachable(&error))?;
        let asked = async {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| unreachable(&error))?.to_bytes();
            Ok::<_, TransitError>((head.status, body))
        };
        let (status, body) = tokio::select! {
            answer = asked => answer?,
            // It ends when both ends have nothing more to say, which is not before an answer.
            Err(error) = connection => return Err(unreachable(&error)),
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let what = answer["errors"][0].as_str().unwrap_or_default();
        if status == StatusCode::SERVICE_UNAVAILABLE && what.contains("sealed") {
            return Err(TransitError::Sealed(address.clone()));
        }
        Err(TransitError::Refused {
            address: address.clone(),
            status: status.as_u16(),
            what: what.chars().take(200).collect(),
        })
    }

    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, TransitError> {
        let wrong = || TransitError::File(self.0.ca_file.display().to_string());
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.0.ca_file).map_err(|_| wrong())? {
            roots.add(authority).map_err(|_| wrong())?;
        }
        let provider = Arc::new(provider::default_provider());
        let time = Arc::new(ByClock(Clock::leading(None)));
        let config = rustls::ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has cipher suites of TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// Says so if the other server is opened by somebody else in turn, perhaps by this one.
    fn warn_of_a_circle(&self) {
        if let Ok(status) = self.call("GET", "/v1/sys/seal-status", None)
            && status["type"] == "transit"
        {
            tracing::warn!(
                address = self.0.address,
                "the server that opens this one is itself opened by another: if that is this one, \
                 neither comes up by itself after a power cut. Keep shares of both at hand"
            );
        }
    }

    /// Prolongs the token, if that can be.
    fn renew(&self) {
        if let Err(error) = self.call("POST", "/v1/auth/token/renew-self", Some(&json!({}))) {
            tracing::warn!(cause = ?error, "the token of seal `transit` was not renewed");
        }
    }

    fn elsewhere(&self, error: TransitError) -> SealError {
        SealError::Elsewhere {
            seal: self.name(),
            source: Box::new(error),
        }
    }
}

impl Seal for TransitSeal {
    fn name(&self) -> &'static str {
        "transit"
    }

    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        self.warn_of_a_circle();
        let mut plain = BASE64.encode(root);
        let body = json!({ "plaintext": plain, "associated_data": BASE64.encode(context) });
        plain.zeroize();
        let answer = self.ask("encrypt", &body);
        let answer = answer.map_err(|error| self.elsewhere(error))?;
        let sealed = answer["data"]["ciphertext"].as_str().unwrap_or_default();
        if sealed.is_empty() {
            return Err(self.elsewhere(TransitError::Answer(self.0.address.clone())));
        }
        Ok(sealed.as_bytes().to_vec())
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError> {
        let sealed = std::str::from_utf8(wrapped);
        let sealed = sealed.map_err(|_| SealError::WrongKey { seal: self.name() })?;
        let body = json!({ "ciphertext": sealed, "associated_data": BASE64.encode(context) });
        let answer = self.ask("decrypt", &body);
        let answer = answer.map_err(|error| self.elsewhere(error))?;
        self.renew();
        let plain = answer["data"]["plaintext"].as_str().unwrap_or_default();
        let plain = Zeroizing::new(BASE64.decode(plain.as_bytes()).unwrap_or_default());
        let root = <[u8; 32]>::try_from(plain.as_slice());
        let root = root.map_err(|_| SealError::WrongKey { seal: self.name() })?;
        Ok(Secret::new(root))
    }
}
