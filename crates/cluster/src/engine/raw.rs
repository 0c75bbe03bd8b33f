//! One request by hand, for what the client library cannot say.

use std::io;
use std::path::Path;

use bollard::errors::Error;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{ApiVersion, REQUEST_MAX};

/// Longest answer that is read, in bytes: an error's text.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts `body` to `path` at the engine behind `socket`.
pub(super) async fn post(
    socket: &Path,
    api: ApiVersion,
    path: &str,
    body: &serde_json::Value,
) -> Result<(), Error> {
    match tokio::time::timeout(REQUEST_MAX, exchange(socket, api, path, body)).await {
        Ok(done) => done,
        Err(_) => Err(Error::RequestTimeoutError),
    }
}

async fn exchange(
    socket: &Path,
    api: ApiVersion,
    path: &str,
    body: &serde_json::Value,
) -> Result<(), Error> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(other)?;
    let request = Request::post(format!("/v{api}{path}"))
        .header(header::HOST, "docker")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(other)?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(other)?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let text = text
            .map_err(|error| io::Error::other(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(());
        }
        let parsed = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
        let message = parsed["message"]
            .as_str()
            .unwrap_or("no message")
            .to_owned();
        Err(Error::DockerResponseServerError {
            status_code: status.as_u16(),
            message,
        })
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        done = &mut answer => done,
        ended = connection => {
            ended.map_err(other)?;
            answer.await
        }
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::from(io::Error::other(error))
}
