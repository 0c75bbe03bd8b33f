//! Sessions with containers, as [`bastide_api::session`] frames them: the caller's end, and the frames
//! for both.

use std::io;
use std::net::SocketAddr;

use bastide_api::session::{Ended, FRAME_BYTES_MAX, HEAD_BYTES, Kind, SignedGrant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

/// What comes out of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Something for standard output.
    Output(Vec<u8>),
    /// Something for standard error.
    Errors(Vec<u8>),
    /// The end; nothing follows.
    Ended(Ended),
}

/// What comes out of a session.
pub struct SessionOutput {
    stream: BufReader<OwnedReadHalf>,
}

/// What goes into a session. Dropped, the session ends.
pub struct SessionInput {
    stream: OwnedWriteHalf,
}

/// Takes a grant to the node that serves it.
pub async fn open_session(
    address: SocketAddr,
    grant: &SignedGrant,
    by: Instant,
) -> io::Result<(SessionOutput, SessionInput)> {
    let open = async {
        let mut stream = TcpStream::connect(address).await?;
        // Keys that are typed are wanted at once.
        stream.set_nodelay(true)?;
        let mut line = serde_json::to_vec(grant)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let (output, input) = stream.into_split();
        Ok((
            SessionOutput {
                stream: BufReader::new(output),
            },
            SessionInput { stream: input },
        ))
    };
    timeout_at(by, open)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl SessionOutput {
    /// Returns what comes next. Not cancel safe: a part of a frame may be lost.
    pub async fn next(&mut self) -> io::Result<SessionEvent> {
        let (kind, payload) = read_frame(&mut self.stream).await?;
        match kind {
            Kind::Output => Ok(SessionEvent::Output(payload)),
            Kind::Errors => Ok(SessionEvent::Errors(payload)),
            Kind::Ended => Ok(SessionEvent::Ended(serde_json::from_slice(&payload)?)),
            Kind::Input | Kind::Size => Err(wrong("a frame that only a caller sends")),
        }
    }
}

impl SessionInput {
    /// Sends what was typed; nothing at all means that no more will come.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return write_frame(&mut self.stream, Kind::Input, &[]).await;
        }
        for piece in bytes.chunks(FRAME_BYTES_MAX) {
            write_frame(&mut self.stream, Kind::Input, piece).await?;
        }
        Ok(())
    }

    /// Tells the size of the caller's terminal.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> io::Result<()> {
        let size = [columns.to_be_bytes(), rows.to_be_bytes()].concat();
        write_frame(&mut self.stream, Kind::Size, &size).await
    }
}

/// Writes a frame of at most [`FRAME_BYTES_MAX`] bytes.
pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    payload: &[u8],
) -> io::Result<()> {
    if FRAME_BYTES_MAX < payload.len() {
        return Err(wrong("a frame that is too long"));
    }
    let frame = [&kind.head(payload.len())[..], payload].concat();
    to.write_all(&frame).await
}

/// Reads a frame. Not cancel safe: a part of a frame may be lost.
pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head).await?;
    let (kind, length) = Kind::of_head(head).ok_or_else(|| wrong("what is no frame"))?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("there came {what}"))
}

#[cfg(test)]
mod tests;
