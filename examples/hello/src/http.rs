//! As much of HTTP/1.1 (RFC 9112) as one request on one connection needs.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest head of a request or answer.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The longest body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The header that names who answered.
pub const REPLICA_HEADER: &str = "X-Replica";

/// A request or an answer.
#[derive(Debug)]
pub struct Message {
    /// The first line: of a request its method, path and version, of an answer its status.
    pub first_line: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The connection failed or ran out of time.
    Io(io::Error),
    /// The head or the body is longer than allowed.
    TooLong,
    /// It is not HTTP as understood here.
    Malformed,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::TooLong => f.write_str("too long"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

impl Message {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(same)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a message whose body has a length, before `deadline`.
    pub fn read(stream: &mut TcpStream, deadline: Instant) -> Result<Self, ReadError> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if HEAD_BYTES_MAX < bytes.len() {
                return Err(ReadError::TooLong);
            }
            fill(stream, deadline, &mut buffer, &mut bytes)?;
        };
        let mut message = Self::parse_head(&bytes[..head_end])?;
        bytes.drain(..head_end + 4);
        let length = match message.header("Content-Length") {
            Some(text) => text.parse().map_err(|_| ReadError::Malformed)?,
            None if message.header("Transfer-Encoding").is_some() => {
                return Err(ReadError::Malformed);
            }
            None => 0,
        };
        if BODY_BYTES_MAX < length {
            return Err(ReadError::TooLong);
        }
        while bytes.len() < length {
            fill(stream, deadline, &mut buffer, &mut bytes)?;
        }
        bytes.truncate(length);
        message.body = bytes;
        Ok(message)
    }

    fn parse_head(head: &[u8]) -> Result<Self, ReadError> {
        let text = std::str::from_utf8(head).map_err(|_| ReadError::Malformed)?;
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').ok_or(ReadError::Malformed)?;
            Ok((name.to_owned(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Result<_, _>>()?;
        Ok(Self {
            first_line,
            headers,
            body: Vec::new(),
        })
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Who answered.
    pub replica: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends one request and reads the answer.
pub fn exchange(
    to: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    body: &[u8],
    deadline: Instant,
) -> Result<Answer, String> {
    let text = |error: io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, left(deadline).map_err(text)?)
        .map_err(|error| format!("could not connect: {error}"))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write_before(&mut stream, &[head.as_bytes(), body].concat(), deadline)
        .map_err(|error| format!("could not send: {error}"))?;
    let message = Message::read(&mut stream, deadline)
        .map_err(|error| format!("could not read the answer: {error}"))?;
    let mut words = message.first_line.split(' ');
    let (Some("HTTP/1.1"), Some(Ok(status))) = (words.next(), words.next().map(str::parse)) else {
        return Err(format!("`{}` is no answer", message.first_line));
    };
    let replica = message
        .header(REPLICA_HEADER)
        .unwrap_or_default()
        .to_owned();
    Ok(Answer {
        status,
        replica,
        body: message.body,
    })
}

/// Writes all of `bytes` before `deadline`.
pub fn write_before(stream: &mut TcpStream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(rest)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

fn fill(
    stream: &mut TcpStream,
    deadline: Instant,
    buffer: &mut [u8],
    bytes: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let read = left(deadline)
        .and_then(|left| stream.set_read_timeout(Some(left)))
        .and_then(|()| stream.read(buffer))
        .map_err(ReadError::Io)?;
    if read == 0 {
        return Err(ReadError::Io(ErrorKind::UnexpectedEof.into()));
    }
    bytes.extend_from_slice(&buffer[..read]);
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}
