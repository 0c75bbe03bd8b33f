//! Questions over TCP: each message behind its length in two bytes (RFC 1035, section 4.2.2).

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::{Shared, forward};
use crate::core::message::{QUESTION_BYTES_MAX, Transport, Verdict};

/// How long a connection may be silent, and how long one question may take to arrive.
const IDLE: Duration = Duration::from_secs(5);
/// Questions on one connection.
const QUESTIONS_MAX: usize = 100;

/// Answers the questions of one connection, one after the other.
pub async fn serve(mut stream: TcpStream, shared: &Shared) {
    let Ok(source) = stream.peer_addr() else {
        return;
    };
    for _ in 0..QUESTIONS_MAX {
        let question = match timeout(IDLE, read(&mut stream)).await {
            Ok(Ok(question)) => question,
            Ok(Err(error)) => {
                debug!(%error, "connection ended");
                return;
            }
            Err(_) => return,
        };
        if !shared.admits(source.ip()) {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let answer = match shared.examine(&question, Transport::Tcp) {
            Verdict::Drop(_) => {
                shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Verdict::Answer(answer) => {
                shared.counters.answered.fetch_add(1, Ordering::Relaxed);
                answer
            }
            Verdict::Forward(question) => forward::ask(shared, source.ip(), &question).await,
        };
        match timeout(IDLE, write(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if QUESTION_BYTES_MAX < length {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "question is too long",
        ));
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// Writes one message. Also used to ask others.
pub async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "message is too long"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}
