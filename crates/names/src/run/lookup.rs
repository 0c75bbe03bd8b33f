//! Asks a resolver for one address, as a program on this host would: to see whether it answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::random;

/// Wrong datagrams that are read while waiting for the right one: more is an attack.
const STRAY_MAX: usize = 32;
/// Bytes of an answer without extensions (RFC 1035, section 4.2.1).
const ANSWER_BYTES_MAX: usize = 512;
/// The flag of an answer, and the code of a failure, in a header's second word (RFC 1035, section
/// 4.1.1).
const IS_ANSWER: u8 = 0x80;
const CODE: u8 = 0x0f;
/// The code for a name that does not exist.
const NAME_ERROR: u8 = 3;

/// Returns whether the resolver at `server` knows an IPv4 address for `name`.
///
/// Waits for ever if nobody answers: give it a deadline. Cancel safe.
pub async fn knows(server: SocketAddr, name: &str) -> io::Result<bool> {
    let id = random().to_ne_bytes();
    let id = [id[0], id[1]];
    let question = question(id, name)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    for _ in 0..STRAY_MAX {
        let length = socket.recv(&mut answer).await?;
        let Some([high, low, flags, code, _, _, answers_high, answers_low]) =
            answer[..length].first_chunk::<8>()
        else {
            continue;
        };
        if [*high, *low] != id || flags & IS_ANSWER == 0 {
            continue;
        }
        return match code & CODE {
            0 => Ok([*answers_high, *answers_low] != [0, 0]),
            NAME_ERROR => Ok(false),
            other => Err(io::Error::other(format!("it answers with code {other}"))),
        };
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "only answers to other questions came",
    ))
}

/// A question for the IPv4 address of a name (RFC 1035, section 4.1).
fn question(id: [u8; 2], name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::from(id);
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..=63).contains(n));
        let length =
            length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name"))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(bytes)
}
