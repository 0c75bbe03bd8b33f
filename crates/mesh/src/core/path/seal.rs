//! How discovery messages are sealed: X25519 between two static keys, HKDF-SHA256, one
//! ChaCha20-Poly1305 key for each direction, a random nonce for each message.
//!
//! ```text
//!  magic 3 | passage 1 | sender 16 | receiver 16 | nonce 12 | sealed body | tag 16
//!  `------------- authenticated --------------'
//! ```
//!
//! The ids stand in clear because a receiver has to find the key, and a relay the way. What a
//! watcher learns from them it learns from the addresses as well. The passage stands there because
//! a question that was sent straight to an address proves only that address if no relay answers for
//! it by passing the question on.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use bastide_api::{DiscoveryKey, NodeId, Secret};

/// What a discovery message begins with. WireGuard's messages begin with a byte from 1 to 4 and
/// three zero bytes.
const MAGIC: [u8; 3] = [0xb5, b'b', b'd'];
const ID_LEN: usize = 16;
const IDS_AT: usize = MAGIC.len() + 1;
const CLEAR_LEN: usize = IDS_AT + 2 * ID_LEN;
const HEADER_LEN: usize = CLEAR_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;
/// The longest message: a question as long as the longest data message of a mesh with an MTU of
/// 1440, bytes of UDP payload.
const DATAGRAM_LEN_MAX: usize = 1472;
/// The longest body.
pub const BODY_LEN_MAX: usize = DATAGRAM_LEN_MAX - OVERHEAD_LEN;
/// What a message is longer than its body.
pub const OVERHEAD_LEN: usize = HEADER_LEN + TAG_LEN;

const SALT: &[u8] = b"bastide path discovery 1";
const LABEL: &[u8] = b"message key";

/// Tells whether a datagram claims to be a discovery message.
pub fn is_discovery(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC)
        && datagram
            .get(MAGIC.len())
            .is_some_and(|it| passage(*it).is_some())
}

/// How a message gets to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Straight: a relay drops it.
    Straight,
    /// Perhaps through a relay.
    Relayed,
}

impl Passage {
    fn byte(self) -> u8 {
        match self {
            Self::Straight => 1,
            Self::Relayed => 2,
        }
    }
}

fn passage(byte: u8) -> Option<Passage> {
    [Passage::Straight, Passage::Relayed]
        .into_iter()
        .find(|passage| passage.byte() == byte)
}

/// What a discovery message says about itself in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who claims to have made it.
    pub sender: NodeId,
    /// Whom it is for.
    pub receiver: NodeId,
    /// How it gets there.
    pub passage: Passage,
}

/// Reads the header; `None` if the datagram has not the shape of a discovery message.
pub fn header(datagram: &[u8]) -> Option<Header> {
    let long_enough = datagram.len() > OVERHEAD_LEN;
    if !is_discovery(datagram) || !long_enough || datagram.len() > DATAGRAM_LEN_MAX {
        return None;
    }
    let id = |at: usize| {
        let bytes = datagram.get(at..at + ID_LEN)?;
        Some(NodeId::from_bytes(bytes.try_into().ok()?))
    };
    Some(Header {
        sender: id(IDS_AT)?,
        receiver: id(IDS_AT + ID_LEN)?,
        passage: passage(datagram[MAGIC.len()])?,
    })
}

/// A node's own discovery key.
pub struct OwnKey {
    node: NodeId,
    private: PrivateKey,
    public: DiscoveryKey,
}

impl OwnKey {
    /// Takes the key of `node` into use.
    pub fn new(node: NodeId, secret: &Secret<[u8; 32]>) -> Self {
        let private = PrivateKey::from_private_key(&X25519, secret.expose())
            .expect("any 32 bytes are an X25519 key");
        let public = private
            .compute_public_key()
            .expect("each X25519 key has a public key");
        let public = public
            .as_ref()
            .try_into()
            .expect("X25519 keys are 32 bytes");
        Self {
            node,
            private,
            public: DiscoveryKey::from_bytes(public),
        }
    }

    /// Returns whose key it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the public key.
    pub fn public(&self) -> DiscoveryKey {
        self.public
    }
}

/// The keys of one pair of nodes, one for each direction.
pub struct PairKeys {
    own: NodeId,
    peer: NodeId,
    send: LessSafeKey,
    receive: LessSafeKey,
}

impl PairKeys {
    /// Derives the keys; `None` if the peer's key is of low order.
    ///
    /// Both ids and both public keys go into each key, sender first, so that a message can neither
    /// be turned back to its sender nor shown to a third node.
    pub fn new(own: &OwnKey, peer: NodeId, public: &DiscoveryKey) -> Option<Self> {
        let theirs = UnparsedPublicKey::new(&X25519, public.as_bytes());
        let prk = agreement::agree(&own.private, theirs, (), |shared| {
            Ok(Salt::new(HKDF_SHA256, SALT).extract(shared))
        })
        .ok()?;
        let key = |from: (NodeId, &DiscoveryKey), to: (NodeId, &DiscoveryKey)| {
            let info = [
                LABEL,
                from.0.as_bytes(),
                to.0.as_bytes(),
                from.1.as_bytes(),
                to.1.as_bytes(),
            ];
            let okm = prk
                .expand(&info, &CHACHA20_POLY1305)
                .expect("32 bytes are below the limit of HKDF");
            LessSafeKey::new(UnboundKey::from(okm))
        };
        let (here, there) = ((own.node, &own.public), (peer, public));
        Some(Self {
            own: own.node,
            peer,
            send: key(here, there),
            receive: key(there, here),
        })
    }

    /// Seals `body` for the peer.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], passage: Passage, body: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(OVERHEAD_LEN + body.len());
        datagram.extend_from_slice(&MAGIC);
        datagram.push(passage.byte());
        datagram.extend_from_slice(self.own.as_bytes());
        datagram.extend_from_slice(self.peer.as_bytes());
        datagram.extend_from_slice(&nonce);
        datagram.extend_from_slice(body);
        let (head, sealed) = datagram.split_at_mut(HEADER_LEN);
        let tag = self
            .send
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&head[..CLEAR_LEN]),
                sealed,
            )
            .expect("a body is below the cipher's limit");
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }

    /// Opens a message of the peer in place; `None` if it did not make it, or not for us. The
    /// caller has found these keys by [`header`].
    pub fn open<'a>(&self, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, sealed) = datagram.split_at_mut_checked(HEADER_LEN)?;
        let nonce = head[CLEAR_LEN..].try_into().ok()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let clear = Aad::from(&head[..CLEAR_LEN]);
        let body = self.receive.open_in_place(nonce, clear, sealed).ok()?;
        Some(body)
    }
}

#[cfg(test)]
mod tests;
