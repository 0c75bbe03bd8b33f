//! Cookies: a receiver under load answers an initiation with a proof of address instead of work
//! (whitepaper, 5.3 and 5.4.7).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_api::{Secret, WireGuardKey};
use chacha20::{R20, hchacha};

use super::message::{
    COOKIE_LEN, MAC_LEN, Message, TAG_LEN, keyed_hash, labelled, split_macs, write_head,
};
use super::noise::aead_key;

/// How long a cookie, and the secret that makes cookies, is used: "changes every two minutes".
pub const COOKIE_LIFE: Duration = Duration::from_mins(2);

const NONCE_AT: usize = 8;
const NONCE_LEN: usize = 24;
const SEALED_AT: usize = NONCE_AT + NONCE_LEN;

/// Makes and checks cookies, for the receiver under load.
pub struct CookieMaker {
    /// `HASH("cookie--" || our public key)`.
    key: [u8; 32],
    secret: Option<(Secret<[u8; 32]>, Instant)>,
}

impl CookieMaker {
    /// Makes the cookies of the holder of `public`.
    pub fn new(public: &WireGuardKey) -> Self {
        Self {
            key: labelled(*b"cookie--", public),
            secret: None,
        }
    }

    /// Tells whether the next [`Self::reply`] needs a new secret.
    pub fn needs_secret(&self, now: Instant) -> bool {
        self.secret
            .as_ref()
            .is_none_or(|(_, made)| now.saturating_duration_since(*made) >= COOKIE_LIFE)
    }

    /// Sets the secret that cookies are made of from now on.
    pub fn set_secret(&mut self, now: Instant, secret: Secret<[u8; 32]>) {
        self.secret = Some((secret, now));
    }

    /// Tells whether the `mac2` of a handshake message proves that its sender gets what is sent to
    /// `from`.
    pub fn verify(&self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.needs_secret(now) {
            return false;
        }
        let (Some((secret, _)), Some((_, _, mac2))) = (&self.secret, split_macs(datagram)) else {
            return false;
        };
        let cookie = cookie(secret, from);
        let covered = &datagram[..datagram.len() - MAC_LEN];
        verify_slices_are_equal(&keyed_hash(&cookie, covered), mac2).is_ok()
    }

    /// Makes the reply to a handshake message that named `receiver` as its sender's index.
    pub fn reply(
        &self,
        from: SocketAddr,
        receiver: u32,
        datagram: &[u8],
        nonce: &[u8; NONCE_LEN],
    ) -> Option<[u8; COOKIE_LEN]> {
        let (_, mac1, _) = split_macs(datagram)?;
        let (secret, _) = self.secret.as_ref()?;
        let mut reply = [0; COOKIE_LEN];
        write_head(&mut reply, Message::Cookie { receiver });
        reply[NONCE_AT..SEALED_AT].copy_from_slice(nonce);
        let (sealed, tag) = reply[SEALED_AT..].split_at_mut(MAC_LEN);
        sealed.copy_from_slice(&cookie(secret, from));
        let (key, short) = extended(&self.key, nonce);
        let made = key
            .seal_in_place_separate_tag(short, Aad::from(mac1), sealed)
            .expect("16 bytes are below the cipher's limit");
        tag.copy_from_slice(made.as_ref());
        Some(reply)
    }
}

/// The cookie that a peer gave us, for its holder.
pub struct CookieJar {
    /// `HASH("cookie--" || the peer's public key)`.
    key: [u8; 32],
    /// `mac1` of the last handshake message that we sent; a reply must name it.
    last_mac1: Option<[u8; MAC_LEN]>,
    cookie: Option<([u8; MAC_LEN], Instant)>,
}

impl CookieJar {
    /// Keeps the cookies of the holder of `public`.
    pub fn new(public: &WireGuardKey) -> Self {
        Self {
            key: labelled(*b"cookie--", public),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Writes `mac2` into a handshake message that is complete but for it: zero without a cookie.
    pub fn sign(&mut self, now: Instant, datagram: &mut [u8], mac1: [u8; MAC_LEN]) {
        self.last_mac1 = Some(mac1);
        let at = datagram.len() - MAC_LEN;
        let mac2 = match &self.cookie {
            Some((cookie, got)) if now.saturating_duration_since(*got) < COOKIE_LIFE => {
                keyed_hash(cookie, &datagram[..at])
            }
            Some(_) | None => [0; MAC_LEN],
        };
        datagram[at..].copy_from_slice(&mac2);
    }

    /// Takes the cookie out of a reply; false if it does not answer our last message.
    pub fn open(&mut self, now: Instant, reply: &[u8]) -> bool {
        let (Some(mac1), Some(nonce)) = (
            self.last_mac1,
            reply
                .get(NONCE_AT..SEALED_AT)
                .and_then(|nonce| nonce.try_into().ok()),
        ) else {
            return false;
        };
        let Some(sealed) = reply.get(SEALED_AT..COOKIE_LEN) else {
            return false;
        };
        let (sealed, tag) = sealed.split_at(sealed.len() - TAG_LEN);
        let (key, short) = extended(&self.key, nonce);
        let mut cookie = [0; MAC_LEN];
        let opened = key.open_separate_gather(short, Aad::from(mac1), sealed, tag, &mut cookie);
        if opened.is_err() {
            return false;
        }
        // One reply to one message: a second with the same mac1 is a replay.
        self.last_mac1 = None;
        self.cookie = Some((cookie, now));
        true
    }
}

/// "The cookie is the MAC of the sender's IP address and UDP source port", keyed with the secret.
fn cookie(secret: &Secret<[u8; 32]>, from: SocketAddr) -> [u8; MAC_LEN] {
    let mut address = [0; 18];
    let len = match from.ip() {
        IpAddr::V4(v4) => {
            address[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            address[..16].copy_from_slice(&v6.octets());
            16
        }
    };
    address[len..len + 2].copy_from_slice(&from.port().to_be_bytes());
    keyed_hash(secret.expose(), &address[..len + 2])
}

/// XChaCha20-Poly1305: HChaCha20 makes a key of the first 16 bytes of the nonce, ChaCha20-Poly1305
/// takes the last 8 (draft-irtf-cfrg-xchacha-03, 2.3).
fn extended(key: &[u8; 32], nonce: &[u8; NONCE_LEN]) -> (LessSafeKey, Nonce) {
    let (first, last) = nonce.split_at(16);
    let first: [u8; 16] = first.try_into().expect("16 of 24 bytes");
    let subkey = hchacha::<R20>(key.into(), &first.into());
    let mut short = [0; 12];
    short[4..].copy_from_slice(last);
    (
        aead_key(&subkey.into()),
        Nonce::assume_unique_for_key(short),
    )
}

#[cfg(test)]
mod tests;
