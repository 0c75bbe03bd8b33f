//! One HTTP/1.1 connection, driven by whoever uses it: no task runs behind it.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bastide_api::Secret;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::error::{Attempt, ClientError, Failing};

/// How long one address may take until it speaks HTTP with us; then the next of the list is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Tls(SocketAddr, Arc<rustls::ClientConfig>),
    /// Without TLS: a server for trying things out.
    Plain(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tls(address, _) | Self::Plain(address) => address.to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// The `Host` of requests to it.
    fn host(&self) -> String {
        match self {
            Self::Tls(address, _) | Self::Plain(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// Why no connection came about.
pub(crate) enum NoConnection {
    Failing(Failing),
    Untrusted(Box<dyn Error + Send + Sync>),
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection. While nobody uses it, nothing moves on it.
pub(crate) struct Wire {
    pub(crate) endpoint: Endpoint,
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
}

/// A request that may have to be sent again, on another connection.
pub(crate) struct Outgoing {
    pub(crate) request: Request<Full<Bytes>>,
}

/// What came of sending.
pub(crate) enum Sending {
    Answer(Response<Incoming>),
    /// The request did not leave: it can be sent on another connection.
    Again(Request<Full<Bytes>>),
    Lost(hyper::Error),
}

impl Wire {
    /// Opens a connection to the first of `endpoints` that answers.
    pub(crate) async fn open(endpoints: &[Endpoint], by: Instant) -> Result<Self, ClientError> {
        let mut attempts = Vec::new();
        let mut untrusted = None;
        for endpoint in endpoints {
            let until = by.min(Instant::now() + CONNECT_WITHIN);
            let address = endpoint.name();
            let failing = match timeout_at(until, connect(endpoint)).await {
                Ok(Ok(wire)) => return Ok(wire),
                Ok(Err(NoConnection::Untrusted(source))) => {
                    untrusted.get_or_insert(ClientError::Untrusted { address, source });
                    continue;
                }
                Ok(Err(NoConnection::Failing(failing))) => failing,
                Err(_) => Failing::Timeout,
            };
            attempts.push(Attempt { address, failing });
        }
        match untrusted {
            Some(error) => Err(error),
            None if attempts.is_empty() => Err(ClientError::NoAddress),
            None => Err(ClientError::Unreachable(attempts)),
        }
    }

    /// Returns whether the connection can take a request now, after a look at what came meanwhile.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.driven(poll_fn(|_| Poll::Ready(()))).await;
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and returns the answer's head.
    pub(crate) async fn send(&mut self, mut outgoing: Outgoing) -> Sending {
        let host = self
            .endpoint
            .host()
            .try_into()
            .expect("addresses are valid header values");
        outgoing
            .request
            .headers_mut()
            .insert(http::header::HOST, host);
        // A look at what came meanwhile: the other end may have closed an idle connection.
        if driven(&mut self.driver, self.sender.ready()).await.is_err() {
            return Sending::Again(outgoing.request);
        }
        let sending = self.sender.try_send_request(outgoing.request);
        match driven(&mut self.driver, sending).await {
            Ok(answer) => Sending::Answer(answer),
            Err(mut error) => match error.take_message() {
                Some(request) => Sending::Again(request),
                None => Sending::Lost(error.into_error()),
            },
        }
    }

    /// Waits for `work` on this connection while the connection moves.
    pub(crate) async fn driven<T>(&mut self, work: impl Future<Output = T>) -> T {
        driven(&mut self.driver, work).await
    }

    /// Reads the whole body of an answer; `None` if it is longer than `bytes_max`.
    pub(crate) async fn read_body(
        &mut self,
        mut body: Incoming,
        bytes_max: usize,
    ) -> Result<Option<Secret<Vec<u8>>>, hyper::Error> {
        let (mut frames, mut length) = (Vec::new(), 0);
        while let Some(frame) = self.driven(body.frame()).await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            length += data.len();
            if bytes_max < length {
                return Ok(None);
            }
            frames.push(data);
        }
        // One buffer of the right size: growing would leave copies behind.
        let mut bytes = Vec::with_capacity(length);
        for frame in &frames {
            bytes.extend_from_slice(frame);
        }
        Ok(Some(Secret::new(bytes)))
    }
}

/// Polls the connection beside `work`. Once the connection has ended, `work` learns it by itself.
async fn driven<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Some(running) = driver
            && running.as_mut().poll(context).is_ready()
        {
            *driver = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

async fn connect(endpoint: &Endpoint) -> Result<Wire, NoConnection> {
    let failing = |error| NoConnection::Failing(Failing::Connect(error));
    let (sender, driver) = match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failing)?;
            begin(stream).await?
        }
        Endpoint::Plain(address) => {
            let stream = TcpStream::connect(address).await.map_err(failing)?;
            stream.set_nodelay(true).map_err(failing)?;
            begin(stream).await?
        }
        Endpoint::Tls(address, config) => {
            let stream = TcpStream::connect(address).await.map_err(failing)?;
            stream.set_nodelay(true).map_err(failing)?;
            let name = ServerName::IpAddress(address.ip().into());
            let stream = TlsConnector::from(Arc::clone(config))
                .connect(name, stream)
                .await
                .map_err(judge)?;
            begin(stream).await?
        }
    };
    Ok(Wire {
        endpoint: endpoint.clone(),
        sender,
        driver: Some(driver),
    })
}

async fn begin<S>(stream: S) -> Result<(SendRequest<Full<Bytes>>, Driver), NoConnection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| NoConnection::Failing(Failing::Handshake(error.into())))?;
    Ok((sender, Box::pin(connection)))
}

/// Tells a handshake that failed because of who answered from one that just failed.
fn judge(error: std::io::Error) -> NoConnection {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
            NoConnection::Untrusted(Box::new(reason.clone()))
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            NoConnection::Untrusted(reason.to_string().into())
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            NoConnection::Untrusted("it shows no certificate".into())
        }
        _ => NoConnection::Failing(Failing::Handshake(error.into())),
    }
}
