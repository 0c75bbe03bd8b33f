//! The handshake: Noise_IKpsk2 by `snow`, with the primitives of aws-lc-rs and every random byte
//! passed in.

use std::sync::LazyLock;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement;
use bastide_api::{Secret, WireGuardKey};
use blake2::{Blake2s256, Digest};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroize;

use super::message::{INITIATION_LEN, MAC_LEN, Message, RESPONSE_LEN, TAG_LEN, write_head};
use super::timestamp::Tai64N;

/// "Construction" and "Identifier" (whitepaper, 5.4).
const CONSTRUCTION: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// The preshared key is mixed in at the end of the second message.
const PSK_PLACE: u8 = 2;

static PARAMS: LazyLock<NoiseParams> = LazyLock::new(|| {
    CONSTRUCTION
        .parse()
        .expect("the name of a pattern that snow knows")
});

/// A handshake message did not authenticate, or a key in it is of low order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// A private key with its public key.
pub struct StaticKey {
    secret: Secret<[u8; 32]>,
    public: WireGuardKey,
}

impl StaticKey {
    /// Computes the public key of `secret`.
    pub fn new(secret: Secret<[u8; 32]>) -> Self {
        let mut key = X25519::default();
        key.set(secret.expose());
        Self {
            public: WireGuardKey::from_bytes(key.public),
            secret,
        }
    }

    /// Returns the public key.
    pub fn public(&self) -> &WireGuardKey {
        &self.public
    }

    /// Returns the private key.
    pub fn secret(&self) -> &Secret<[u8; 32]> {
        &self.secret
    }
}

/// The two keys that a handshake yields.
pub struct SessionKeys {
    /// Seals what we send.
    pub send: Secret<[u8; 32]>,
    /// Opens what we get.
    pub receive: Secret<[u8; 32]>,
}

/// A handshake that we began, waiting for its answer.
pub struct Initiated(HandshakeState);

impl Initiated {
    /// Writes an initiation to `peer` into `message`, all but its macs.
    pub fn new(
        key: &StaticKey,
        peer: &WireGuardKey,
        ephemeral: Secret<[u8; 32]>,
        timestamp: Tai64N,
        sender: u32,
        message: &mut [u8; INITIATION_LEN],
    ) -> Result<Self, Failed> {
        let mut state = builder(ephemeral, key)?
            .remote_public_key(peer.as_bytes())
            .and_then(Builder::build_initiator)
            .map_err(|_| Failed)?;
        write_head(message, Message::Initiation { sender });
        let noise = &mut message[8..INITIATION_LEN - 2 * MAC_LEN];
        state
            .write_message(timestamp.as_bytes(), noise)
            .map_err(|_| Failed)?;
        Ok(Self(state))
    }

    /// Reads the answer. A wrong answer leaves the handshake as it was, so that nobody can end it
    /// by guessing.
    pub fn finish(
        &mut self,
        preshared: &Secret<[u8; 32]>,
        response: &[u8],
    ) -> Result<SessionKeys, Failed> {
        let noise = response.get(12..RESPONSE_LEN - 2 * MAC_LEN).ok_or(Failed)?;
        self.0
            .set_psk(usize::from(PSK_PLACE), preshared.expose())
            .map_err(|_| Failed)?;
        let read = self.0.read_message(noise, &mut []).map_err(|_| Failed)?;
        debug_assert_eq!(read, 0, "the length fixes that the payload is empty");
        let (send, receive) = self.0.dangerously_get_raw_split();
        Ok(SessionKeys {
            send: Secret::new(send),
            receive: Secret::new(receive),
        })
    }
}

/// An initiation that authenticated, not answered yet.
pub struct Consumed {
    state: HandshakeState,
    /// Who sent it.
    pub peer: WireGuardKey,
    /// The timestamp inside.
    pub timestamp: Tai64N,
}

impl Consumed {
    /// Reads an initiation.
    pub fn new(
        key: &StaticKey,
        ephemeral: Secret<[u8; 32]>,
        initiation: &[u8],
    ) -> Result<Self, Failed> {
        let noise = initiation
            .get(8..INITIATION_LEN - 2 * MAC_LEN)
            .ok_or(Failed)?;
        let mut state = builder(ephemeral, key)?
            .build_responder()
            .map_err(|_| Failed)?;
        let mut timestamp = [0; 12];
        let read = state
            .read_message(noise, &mut timestamp)
            .map_err(|_| Failed)?;
        debug_assert_eq!(
            read,
            timestamp.len(),
            "the length fixes that of the payload"
        );
        let peer = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(Failed)?;
        Ok(Self {
            state,
            peer: WireGuardKey::from_bytes(peer),
            timestamp: Tai64N::from_bytes(timestamp),
        })
    }

    /// Writes the answer into `message`, all but its macs.
    pub fn answer(
        mut self,
        preshared: &Secret<[u8; 32]>,
        sender: u32,
        receiver: u32,
        message: &mut [u8; RESPONSE_LEN],
    ) -> Result<SessionKeys, Failed> {
        self.state
            .set_psk(usize::from(PSK_PLACE), preshared.expose())
            .map_err(|_| Failed)?;
        write_head(message, Message::Response { sender, receiver });
        let noise = &mut message[12..RESPONSE_LEN - 2 * MAC_LEN];
        self.state.write_message(&[], noise).map_err(|_| Failed)?;
        let (receive, send) = self.state.dangerously_get_raw_split();
        Ok(SessionKeys {
            send: Secret::new(send),
            receive: Secret::new(receive),
        })
    }
}

fn builder(ephemeral: Secret<[u8; 32]>, key: &StaticKey) -> Result<Builder<'_>, Failed> {
    Builder::with_resolver(PARAMS.clone(), Box::new(Primitives { ephemeral }))
        .prologue(IDENTIFIER)
        .and_then(|builder| builder.local_private_key(key.secret.expose()))
        .map_err(|_| Failed)
}

/// Gives `snow` the primitives of aws-lc-rs, and one ephemeral key in place of randomness.
pub(super) struct Primitives {
    /// The private key of this handshake's ephemeral pair.
    pub(super) ephemeral: Secret<[u8; 32]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.duplicate()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| Box::new(X25519::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::Blake2s).then(|| Box::new(Blake2s::default()) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly)
            .then(|| Box::new(ChaChaPoly::default()) as Box<dyn Cipher>)
    }
}

/// Yields one key and then nothing: a second use of the same ephemeral would be a disaster.
struct Once(Option<Secret<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), snow::Error> {
        let key = self.0.take().ok_or(snow::Error::Rng)?;
        if to.len() != key.expose().len() {
            return Err(snow::Error::Rng);
        }
        to.copy_from_slice(key.expose());
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    key: Option<agreement::PrivateKey>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        let key = agreement::PrivateKey::from_private_key(&agreement::X25519, private)
            .expect("any 32 bytes are an X25519 key");
        let public = key
            .compute_public_key()
            .expect("each X25519 key has a public key");
        self.public.copy_from_slice(public.as_ref());
        self.key = Some(key);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = [0; 32];
        rng.try_fill_bytes(&mut private)?;
        self.set(&private);
        private.zeroize();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        // Asked for only by snow's key generator, which is not used: the key stays where it is.
        &[]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Dh)?;
        let public = public.get(..32).ok_or(snow::Error::Dh)?;
        let public = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
        // An all-zero result (a key of low order) is an error here, as in the kernel.
        agreement::agree(key, public, snow::Error::Dh, |shared| {
            out[..shared.len()].copy_from_slice(shared);
            Ok(())
        })
    }
}

#[derive(Default)]
struct ChaChaPoly(Option<LessSafeKey>);

/// Makes an AEAD key of 32 bytes.
pub(super) fn aead_key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a ChaCha20-Poly1305 key is 32 bytes"),
    )
}

/// "A nonce is composed of 32 bits of zeros followed by the 64-bit little-endian counter."
pub(super) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(aead_key(key));
    }

    fn encrypt(&self, counter: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self.0.as_ref().expect("snow sets a key before it seals");
        let (sealed, rest) = out.split_at_mut(plaintext.len());
        sealed.copy_from_slice(plaintext);
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::from(authtext), sealed)
            .expect("handshake messages are far below the cipher's limit");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        counter: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.0.as_ref().ok_or(snow::Error::Decrypt)?;
        let len = ciphertext
            .len()
            .checked_sub(TAG_LEN)
            .ok_or(snow::Error::Decrypt)?;
        let (sealed, tag) = ciphertext.split_at(len);
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        key.open_separate_gather(nonce(counter), Aad::from(authtext), sealed, tag, out)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(len)
    }
}

#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = std::mem::take(&mut self.0).finalize();
        out[..hash.len()].copy_from_slice(&hash);
    }
}

#[cfg(test)]
mod tests;
