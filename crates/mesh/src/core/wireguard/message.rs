//! What WireGuard's four messages look like from outside, without any key but the one that a
//! stranger may know: the receiver's public key.
//!
//! A relay needs no more than this: it routes initiations by [`mac1_is_for`] and everything else by
//! the receiver index.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_api::WireGuardKey;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_LEN: usize = 64;
/// Bytes before the sealed packet in a data message: type, receiver index, counter.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// The shortest data message: a keepalive, which seals nothing.
pub const DATA_LEN_MIN: usize = DATA_HEADER_LEN + TAG_LEN;
/// Bytes of `mac1` and of `mac2`.
pub const MAC_LEN: usize = 16;

const TYPE_INITIATION: u32 = 1;
const TYPE_RESPONSE: u32 = 2;
const TYPE_COOKIE: u32 = 3;
const TYPE_DATA: u32 = 4;

/// A datagram that has the shape of a WireGuard message. Nothing in it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The first message of a handshake.
    Initiation {
        /// The index under which its sender wants to be answered.
        sender: u32,
    },
    /// The answer to an initiation.
    Response {
        /// The index under which its sender wants to get data.
        sender: u32,
        /// The index that the initiation named.
        receiver: u32,
    },
    /// The answer of a receiver under load: prove that you get what is sent to your address.
    Cookie {
        /// The index that the refused message named as its sender.
        receiver: u32,
    },
    /// A sealed packet.
    Data {
        /// The index that the receiver chose in the handshake.
        receiver: u32,
    },
}

/// Reads the shape of a datagram; `None` if it is not one of WireGuard's four messages.
///
/// "message_type: 1 byte, reserved_zero: 3 bytes" (WireGuard whitepaper, 5.4), read as one
/// little-endian number, so that anything else in the reserved bytes is somebody else's datagram.
pub fn parse(datagram: &[u8]) -> Option<Message> {
    let kind = word(datagram, 0)?;
    match (kind, datagram.len()) {
        (TYPE_DATA, DATA_LEN_MIN..) => Some(Message::Data {
            receiver: word(datagram, 4)?,
        }),
        (TYPE_INITIATION, INITIATION_LEN) => Some(Message::Initiation {
            sender: word(datagram, 4)?,
        }),
        (TYPE_RESPONSE, RESPONSE_LEN) => Some(Message::Response {
            sender: word(datagram, 4)?,
            receiver: word(datagram, 8)?,
        }),
        (TYPE_COOKIE, COOKIE_LEN) => Some(Message::Cookie {
            receiver: word(datagram, 4)?,
        }),
        _ => None,
    }
}

/// Tells whether the `mac1` of an initiation or response was made for the holder of `key`.
///
/// `mac1` is keyed with the receiver's public key (whitepaper, 5.4.4), so this tells whom a message
/// is for, and that its sender knows that key; nothing else.
pub fn mac1_is_for(datagram: &[u8], key: &WireGuardKey) -> bool {
    Mac1Key::new(key).verify(datagram)
}

/// The key of `mac1` for one receiver, `HASH("mac1----" || public key)`, kept so that it is hashed
/// once and not for each message.
#[derive(Clone)]
pub struct Mac1Key([u8; 32]);

impl Mac1Key {
    /// Derives the key for messages to `receiver`.
    pub fn new(receiver: &WireGuardKey) -> Self {
        Self(labelled(*b"mac1----", receiver))
    }

    /// Tells whether `datagram` is an initiation or response whose `mac1` fits this receiver.
    pub fn verify(&self, datagram: &[u8]) -> bool {
        let Some((covered, mac1, _)) = split_macs(datagram) else {
            return false;
        };
        verify_slices_are_equal(&keyed_hash(&self.0, covered), mac1).is_ok()
    }

    /// Writes `mac1` into an initiation or response that is complete but for its macs.
    pub(crate) fn sign(&self, datagram: &mut [u8]) -> [u8; MAC_LEN] {
        let at = datagram.len() - 2 * MAC_LEN;
        let mac1 = keyed_hash(&self.0, &datagram[..at]);
        datagram[at..at + MAC_LEN].copy_from_slice(&mac1);
        mac1
    }
}

/// `HASH(label || public key)`: how WireGuard makes the keys of `mac1` and of the cookie.
pub(super) fn labelled(label: [u8; 8], key: &WireGuardKey) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    hash.update(label);
    hash.update(key.as_bytes());
    hash.finalize().into()
}

/// WireGuard's `MAC(key, input)`: keyed BLAKE2s with 16 bytes of output.
pub(super) fn keyed_hash(key: &[u8], input: &[u8]) -> [u8; MAC_LEN] {
    type Blake2s128Mac = Blake2sMac<blake2::digest::consts::U16>;
    let mut mac = <Blake2s128Mac as KeyInit>::new_from_slice(key)
        .expect("mac keys are 16 or 32 bytes, and BLAKE2s takes up to 32");
    mac.update(input);
    mac.finalize().into_bytes().into()
}

/// Splits an initiation or response into what `mac1` covers, `mac1`, and `mac2`.
pub(super) fn split_macs(datagram: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    match parse(datagram)? {
        Message::Initiation { .. } | Message::Response { .. } => {
            let (covered, both) = datagram.split_at(datagram.len() - 2 * MAC_LEN);
            let (first, second) = both.split_at(MAC_LEN);
            Some((covered, first, second))
        }
        Message::Cookie { .. } | Message::Data { .. } => None,
    }
}

/// Writes type and first index: the first eight bytes of each message.
pub(super) fn write_head(datagram: &mut [u8], message: Message) {
    let (kind, first) = match message {
        Message::Initiation { sender } => (TYPE_INITIATION, sender),
        Message::Response { sender, .. } => (TYPE_RESPONSE, sender),
        Message::Cookie { receiver } => (TYPE_COOKIE, receiver),
        Message::Data { receiver } => (TYPE_DATA, receiver),
    };
    datagram[..4].copy_from_slice(&kind.to_le_bytes());
    datagram[4..8].copy_from_slice(&first.to_le_bytes());
    if let Message::Response { receiver, .. } = message {
        datagram[8..12].copy_from_slice(&receiver.to_le_bytes());
    }
}

fn word(datagram: &[u8], at: usize) -> Option<u32> {
    let bytes = datagram.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
