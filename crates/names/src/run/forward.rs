//! Asks the host's resolvers for the names of others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{Shared, Slot, random, tcp};
use crate::core::message::{Incoming, Question, Transport};

/// How long one resolver may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Wrong datagrams that are read while waiting for the right one: more is an attack.
const STRAY_MAX: usize = 32;

/// Asks one resolver after the other; answers SERVFAIL when none has an answer.
pub async fn ask(shared: &Shared, source: IpAddr, question: &Question) -> Vec<u8> {
    shared.counters.forwarded.fetch_add(1, Ordering::Relaxed);
    let fail = || {
        shared.counters.unanswered.fetch_add(1, Ordering::Relaxed);
        question.server_failure()
    };
    let slot = Slot::take(&shared.forwarding, source);
    let (Some(_slot), Ok(_permit)) = (slot, shared.forwards.try_acquire()) else {
        return fail();
    };
    let upstreams = shared.upstreams.borrow().clone();
    // Whoever names us as the host's resolver would make us ask ourselves without end.
    let others = upstreams.iter().filter(|upstream| {
        upstream.ip() != shared.listen.ip() || upstream.port() != shared.listen.port()
    });
    let mut last = None;
    for upstream in others {
        let until = Instant::now() + ANSWER_WITHIN;
        match timeout_at(until, ask_one(*upstream, question)).await {
            Ok(Ok(answer)) if !answer.failed => return answer.bytes,
            Ok(Ok(answer)) => last = Some(answer.bytes),
            Ok(Err(error)) => debug!(%error, "resolver could not be asked"),
            Err(_) => debug!("resolver did not answer in time"),
        }
    }
    last.unwrap_or_else(fail)
}

async fn ask_one(upstream: SocketAddr, question: &Question) -> io::Result<Incoming> {
    let answer = ask_udp(upstream, question).await?;
    if answer.truncated && question.transport() == Transport::Tcp {
        return ask_tcp(upstream, question).await;
    }
    Ok(answer)
}

/// One socket per question: its random port and the random id are what a forger has to guess
/// (RFC 5452, section 9.2).
async fn ask_udp(upstream: SocketAddr, question: &Question) -> io::Result<Incoming> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    let id = random_id();
    socket.send(&question.outgoing(id)).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    for _ in 0..STRAY_MAX {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = question.incoming(id, &buffer[..length]) {
            return Ok(answer);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "only answers to other questions came",
    ))
}

async fn ask_tcp(upstream: SocketAddr, question: &Question) -> io::Result<Incoming> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = random_id();
    tcp::write(&mut stream, &question.outgoing(id)).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    question.incoming(id, &answer).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is to another question",
        )
    })
}

fn random_id() -> u16 {
    let [high, low, ..] = random().to_ne_bytes();
    u16::from_ne_bytes([high, low])
}
