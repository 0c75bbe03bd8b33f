//! What two nodes say to each other: the bodies of discovery messages.
//!
//! All bodies but those of ping and call-me have one length, call-me's is fixed as well, and pings are
//! padded where the size of what gets through is measured: no answer is longer than its question, and
//! lengths tell a watcher little.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bastide_api::NodeId;

use super::seal::{BODY_LEN_MAX, Passage};

/// Candidates in one call-me.
pub const CANDIDATES_MAX: usize = 16;
/// Receiver indices in one bind: of the session that is used and of the one to come.
pub const INDICES_MAX: usize = 2;

const ADDRESS_LEN: usize = 18;
/// Kind and stamp.
const HEAD_LEN: usize = 9;
/// The longest short message is the bind: transaction, target, count, indices.
const SHORT_LEN: usize = HEAD_LEN + 8 + 16 + 1 + 4 * INDICES_MAX;
const CALL_ME_LEN: usize = HEAD_LEN + 2 + CANDIDATES_MAX * ADDRESS_LEN;

const KIND_PING: u8 = 1;
const KIND_PONG: u8 = 2;
const KIND_CALL_ME: u8 = 3;
const KIND_BIND: u8 = 4;
const KIND_BOUND: u8 = 5;

/// Ties an answer to its question: random, used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transaction(pub [u8; 8]);

/// What a relay says to a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It forwards.
    Bound,
    /// It has not heard of the target lately.
    NotHere,
    /// It has no room for another pair.
    Full,
    /// It does not relay.
    Refused,
}

/// A discovery message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Are you there?
    Ping {
        /// To be named in the answer.
        transaction: Transaction,
        /// The relay that it was sent through; `None` if it was sent straight.
        via: Option<NodeId>,
        /// Whether the sender has selected this way: its traffic comes like this.
        selected: bool,
        /// Bytes that the body is padded to, to see whether so much gets through; 0 is the usual.
        padded: u16,
    },
    /// I am, and saw your question come from here.
    Pong {
        /// Which question.
        transaction: Transaction,
        /// Where it came from.
        observed: SocketAddr,
    },
    /// Here is where I may be reached: probe now, I do the same.
    CallMe {
        /// Whether the receiver is to answer with its own.
        answer: bool,
        /// Whether the sender's NAT gives each destination another port.
        varies: bool,
        /// Where.
        candidates: Vec<SocketAddr>,
    },
    /// Relay between me and this node.
    Bind {
        /// To be named in the answer.
        transaction: Transaction,
        /// With whom.
        target: NodeId,
        /// The receiver indices that the sender puts into data for the target.
        indices: Vec<u32>,
    },
    /// The answer to a bind.
    Bound {
        /// Which question.
        transaction: Transaction,
        /// Whether it does.
        verdict: Verdict,
        /// Round trip between relay and target, microseconds; 0 is not known.
        rtt_us: u32,
    },
}

impl Message {
    /// Tells how it may come: what is said about an address comes straight from it. `None` is either.
    pub fn passage(&self) -> Option<Passage> {
        match self {
            Self::Ping { via: None, .. } | Self::Bind { .. } | Self::Bound { .. } => {
                Some(Passage::Straight)
            }
            Self::Ping { via: Some(_), .. } | Self::CallMe { .. } => Some(Passage::Relayed),
            // It takes the way of its question.
            Self::Pong { .. } => None,
        }
    }
}

/// Writes a body of this sender's `stamp`-th message. Candidates and indices past their limit are
/// left out.
pub fn encode(stamp: u64, message: &Message) -> Vec<u8> {
    let mut body = Vec::with_capacity(CALL_ME_LEN);
    body.push(0);
    body.extend_from_slice(&stamp.to_be_bytes());
    let (kind, len) = match message {
        Message::Ping {
            transaction,
            via,
            selected,
            padded,
        } => {
            body.extend_from_slice(&transaction.0);
            body.push(u8::from(*selected) | u8::from(via.is_some()) << 1);
            if let Some(via) = via {
                body.extend_from_slice(via.as_bytes());
            }
            (
                KIND_PING,
                usize::from(*padded).clamp(SHORT_LEN, BODY_LEN_MAX),
            )
        }
        Message::Pong {
            transaction,
            observed,
        } => {
            body.extend_from_slice(&transaction.0);
            write_address(&mut body, *observed);
            (KIND_PONG, SHORT_LEN)
        }
        Message::CallMe {
            answer,
            varies,
            candidates,
        } => {
            let count = candidates.len().min(CANDIDATES_MAX);
            body.push(u8::from(*answer) | u8::from(*varies) << 1);
            body.push(u8::try_from(count).expect("at most CANDIDATES_MAX"));
            for candidate in &candidates[..count] {
                write_address(&mut body, *candidate);
            }
            (KIND_CALL_ME, CALL_ME_LEN)
        }
        Message::Bind {
            transaction,
            target,
            indices,
        } => {
            let count = indices.len().min(INDICES_MAX);
            body.extend_from_slice(&transaction.0);
            body.extend_from_slice(target.as_bytes());
            body.push(u8::try_from(count).expect("at most INDICES_MAX"));
            for index in &indices[..count] {
                body.extend_from_slice(&index.to_be_bytes());
            }
            (KIND_BIND, SHORT_LEN)
        }
        Message::Bound {
            transaction,
            verdict,
            rtt_us,
        } => {
            body.extend_from_slice(&transaction.0);
            body.push(match verdict {
                Verdict::Bound => 0,
                Verdict::NotHere => 1,
                Verdict::Full => 2,
                Verdict::Refused => 3,
            });
            body.extend_from_slice(&rtt_us.to_be_bytes());
            (KIND_BOUND, SHORT_LEN)
        }
    };
    body[0] = kind;
    body.resize(len, 0);
    body
}

/// Reads a body; `None` unless it is exactly what [`encode`] writes.
pub fn decode(body: &[u8]) -> Option<(u64, Message)> {
    let mut rest = body;
    let kind = take::<1>(&mut rest)?[0];
    let stamp = u64::from_be_bytes(take(&mut rest)?);
    let is_fit = match kind {
        KIND_CALL_ME => body.len() == CALL_ME_LEN,
        KIND_PING => (SHORT_LEN..=BODY_LEN_MAX).contains(&body.len()),
        _ => body.len() == SHORT_LEN,
    };
    if !is_fit {
        return None;
    }
    let message = match kind {
        KIND_PING => decode_ping(&mut rest, body.len())?,
        KIND_PONG => Message::Pong {
            transaction: Transaction(take(&mut rest)?),
            observed: read_address(&mut rest)?,
        },
        KIND_CALL_ME => decode_call_me(&mut rest)?,
        KIND_BIND => decode_bind(&mut rest)?,
        KIND_BOUND => Message::Bound {
            transaction: Transaction(take(&mut rest)?),
            verdict: match take::<1>(&mut rest)?[0] {
                0 => Verdict::Bound,
                1 => Verdict::NotHere,
                2 => Verdict::Full,
                3 => Verdict::Refused,
                _ => return None,
            },
            rtt_us: u32::from_be_bytes(take(&mut rest)?),
        },
        _ => return None,
    };
    rest.iter()
        .all(|byte| *byte == 0)
        .then_some((stamp, message))
}

fn decode_ping(rest: &mut &[u8], len: usize) -> Option<Message> {
    let transaction = Transaction(take(rest)?);
    let flags = take::<1>(rest)?[0];
    if flags > 3 {
        return None;
    }
    let via = if flags & 2 == 0 {
        None
    } else {
        Some(NodeId::from_bytes(take(rest)?))
    };
    Some(Message::Ping {
        transaction,
        via,
        selected: flags & 1 == 1,
        padded: if len == SHORT_LEN {
            0
        } else {
            u16::try_from(len).ok()?
        },
    })
}

fn decode_call_me(rest: &mut &[u8]) -> Option<Message> {
    let [flags, count] = take(rest)?;
    let count = usize::from(count);
    if flags > 3 || count > CANDIDATES_MAX {
        return None;
    }
    let candidates = (0..count)
        .map(|_| read_address(rest))
        .collect::<Option<_>>()?;
    Some(Message::CallMe {
        answer: flags & 1 == 1,
        varies: flags & 2 == 2,
        candidates,
    })
}

fn decode_bind(rest: &mut &[u8]) -> Option<Message> {
    let transaction = Transaction(take(rest)?);
    let target = NodeId::from_bytes(take(rest)?);
    let count = usize::from(take::<1>(rest)?[0]);
    if count > INDICES_MAX {
        return None;
    }
    let indices = (0..count)
        .map(|_| take(rest).map(u32::from_be_bytes))
        .collect::<Option<_>>()?;
    Some(Message::Bind {
        transaction,
        target,
        indices,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

/// Addresses of IPv4 travel mapped into IPv6.
fn write_address(body: &mut Vec<u8>, address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    body.extend_from_slice(&ip.octets());
    body.extend_from_slice(&address.port().to_be_bytes());
}

fn read_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(take::<16>(rest)?).to_canonical();
    Some(SocketAddr::new(ip, u16::from_be_bytes(take(rest)?)))
}

#[cfg(test)]
mod tests;
