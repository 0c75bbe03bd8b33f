//! Encrypting, decrypting, and encrypting anew under another version.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::batch::base64;
use super::fault::Fault;
use super::hashes::Hash;
use super::kind::Kind;
use super::material::{self, Key, Material, NONCE_BYTES};
use super::named::Named;
use super::stored::{Ring, used_at};
use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// What stands before each version's number.
const PREFIX: &str = "vault:v";
/// The length of an AEAD's tag, in bytes.
const TAG_BYTES: usize = 16;
/// After how many encryptions their number is stored. What a block holds is forgotten when the
/// server ends: far less than the limit has room for.
const USED_BLOCK: u64 = 1 << 16;
/// From how many encryptions on under random nonces a version should be rotated: half of what NIST
/// SP 800-38D (8.3) allows.
const USED_ADVISED: u64 = 1 << 31;
/// How many are allowed: 2^32. A version that has reached it is rotated.
const USED_MAX: u64 = 1 << 32;

/// What can come with a text to encrypt or decrypt.
pub(super) struct Around {
    /// What derived keys are derived with.
    pub context: Vec<u8>,
    /// What is authenticated beside the text.
    pub associated: Vec<u8>,
}

/// A sealed text, taken apart.
pub(super) struct Sealed {
    pub version: i64,
    pub bytes: Vec<u8>,
}

/// Takes `vault:vN:base64` apart. `what` is the word for it in errors.
pub(super) fn take_apart<'t>(text: &'t str, what: &str) -> Result<(i64, &'t str), Fault> {
    let wrong = |why: &str| Fault::User(format!("invalid {what}: {why}"));
    let rest = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| wrong("no prefix"))?;
    let (number, body) = rest
        .split_once(':')
        .ok_or_else(|| wrong("wrong number of fields"))?;
    let number = number
        .parse()
        .map_err(|_| wrong("version number could not be decoded"))?;
    Ok((number, body))
}

/// Puts `vault:vN:` before a text.
pub(super) fn put_together(version: u32, text: &str) -> String {
    format!("{PREFIX}{version}:{text}")
}

impl Sealed {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (version, body) = take_apart(text, "ciphertext")?;
        let bytes =
            base64(body).map_err(|_| Fault::user("invalid ciphertext: could not decode base64"))?;
        Ok(Self { version, bytes })
    }
}

/// Text of Vault's for what is older than a key allows.
pub(super) const TOO_OLD: &str =
    "ciphertext or signature version is disallowed by policy (too old)";

impl Ring {
    /// Returns which version encrypts or signs, given what was asked for; 0: the latest.
    pub(super) fn version_to(&self, what: &str, asked: i64) -> Result<u32, Fault> {
        let wrong = |why: &str| Fault::User(format!("requested version for {what} is {why}"));
        match u32::try_from(asked) {
            Ok(0) => Ok(self.latest),
            Err(_) if asked < 0 => Err(wrong("negative")),
            Ok(asked) if asked < self.encryption_min => {
                Err(wrong("less than the minimum encryption key version"))
            }
            Ok(asked) if asked < self.decryption_min => Err(Fault::user("no such key version")),
            Ok(asked) if asked <= self.latest => Ok(asked),
            _ => Err(wrong("higher than the latest key version")),
        }
    }

    /// Returns which version decrypts or verifies what says that it is of version `told`.
    pub(super) fn version_from(&self, what: &str, told: i64) -> Result<u32, Fault> {
        // The first versions of Vault began with 0.
        let told = if told == 0 { 1 } else { told };
        let told = u32::try_from(told).map_err(|_| Fault::user(TOO_OLD));
        match told {
            Ok(told) if self.latest < told => {
                Err(Fault::User(format!("invalid {what}: version is too new")))
            }
            Ok(told) if told < self.decryption_min => Err(Fault::user(TOO_OLD)),
            told => told,
        }
    }
}

/// Text of Vault's for derived keys without context.
const NO_CONTEXT: &str = "missing 'context' for key derivation; the key was created using a \
    derived key, which means additional, per-request information must be included in order to \
    perform operations with the key";

/// Derives `length` bytes of a key; refuses without a context.
pub(super) fn derived(
    root: &[u8],
    context: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if context.is_empty() {
        return Err(Fault::user(NO_CONTEXT));
    }
    Ok(material::derive(root, context, length))
}

fn broken(kind: Kind) -> Fault {
    // Go's two ciphers name themselves differently.
    Fault::user(match kind {
        Kind::ChaCha20Poly1305 => "chacha20poly1305: message authentication failed",
        _ => "cipher: message authentication failed",
    })
}

/// Refuses associated data where the cipher has no place for it.
pub(super) fn takes_associated(kind: Kind, number: usize, associated: &str) -> Result<(), Fault> {
    if associated.is_empty() || kind.is_aead() {
        return Ok(());
    }
    Err(Fault::User(format!(
        "'[{number}].associated_data' provided for non-AEAD cipher suite {}",
        kind.name()
    )))
}

impl Named<'_> {
    /// Encrypts a text; `nonce` is drawn for it alone. Returns `vault:vN:` and what was sealed.
    pub(super) fn seal(
        &self,
        material: &Material,
        version: u32,
        around: &Around,
        nonce: [u8; NONCE_BYTES],
        plain: &[u8],
    ) -> Result<String, Fault> {
        let kind = self.ring.kind;
        let sealed = match &material.key {
            Key::Aead(cipher) => under(cipher, nonce, &around.associated, plain),
            Key::Root(root) if kind.is_aead() => {
                let key_bytes = kind.key_bytes(0).unwrap_or_default();
                let hmac_bytes = if self.ring.convergent { 32 } else { 0 };
                let keys = derived(root, &around.context, key_bytes + hmac_bytes)?;
                let (key, hmac) = keys.split_at(key_bytes);
                let cipher = material::cipher(kind, key);
                let cipher = cipher.ok_or_else(|| Fault::Failed("no cipher".to_owned()))?;
                let nonce = if self.ring.convergent {
                    convergent_nonce(hmac, &around.associated, plain)
                } else {
                    nonce
                };
                under(&cipher, nonce, &around.associated, plain)
            }
            Key::Rsa(_) | Key::Public if kind.rsa_bits().is_some() => for_rsa(material, plain)?,
            _ => {
                return Err(Fault::User(format!(
                    "message encryption not supported for key type {}",
                    kind.name()
                )));
            }
        };
        Ok(put_together(version, &BASE64.encode(&sealed)))
    }

    /// Decrypts what [`Self::seal`] sealed.
    pub(super) fn open(
        &self,
        material: &Material,
        around: &Around,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let kind = self.ring.kind;
        match &material.key {
            Key::Aead(cipher) => from_under(kind, cipher, &around.associated, sealed),
            Key::Root(root) if kind.is_aead() => {
                let key_bytes = kind.key_bytes(0).unwrap_or_default();
                let key = derived(root, &around.context, key_bytes)?;
                let cipher = material::cipher(kind, &key);
                let cipher = cipher.ok_or_else(|| Fault::Failed("no cipher".to_owned()))?;
                from_under(kind, &cipher, &around.associated, sealed)
            }
            Key::Rsa(pair) => {
                let mut plain = Zeroizing::new(vec![0; pair.decrypt.min_output_size()]);
                let opened = pair
                    .decrypt
                    .decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut plain, None)
                    .map(|plain| plain.len());
                // One text for all that can be wrong, so that nobody learns what it was.
                let length =
                    opened.map_err(|_| Fault::user("failed to RSA decrypt the ciphertext"))?;
                plain.truncate(length);
                Ok(plain)
            }
            Key::Public if kind.rsa_bits().is_some() => Err(Fault::user(
                "cannot decrypt ciphertext, key version does not have a private counterpart",
            )),
            _ => Err(Fault::User(format!(
                "message decryption not supported for key type {}",
                kind.name()
            ))),
        }
    }

    /// Counts encryptions under a random nonce. Returns what to warn of; at the limit the key is
    /// rotated.
    pub(super) fn count(
        &mut self,
        ctx: &mut Context<'_, '_>,
        used: &[(u32, Arc<Material>, u64)],
    ) -> Result<Option<String>, Refusal> {
        if !self.ring.kind.is_aead() || self.ring.derived {
            return Ok(None);
        }
        let mut warning = None;
        for (version, material, times) in used {
            let since = material.used.fetch_add(*times, Ordering::Relaxed) + times;
            if since < USED_BLOCK {
                continue;
            }
            material.used.fetch_sub(since, Ordering::Relaxed);
            let at = used_at(&self.name, *version);
            let total = ctx.load::<u64>(&at)?.unwrap_or(0).saturating_add(since);
            ctx.save(&at, &total)?;
            let is_latest = *version == self.ring.latest;
            let rotates = !self.ring.imported || self.ring.imported_rotates;
            if USED_MAX <= total && is_latest && rotates {
                self.rotate(ctx)?;
            } else if USED_ADVISED <= total {
                warning = Some(format!(
                    "version {version} of key \"{}\" has encrypted {total} times under random \
                     nonces: rotate it before {USED_MAX}",
                    self.name
                ));
            }
        }
        Ok(warning)
    }
}

/// Encrypts for the public half of an RSA key.
fn for_rsa(material: &Material, plain: &[u8]) -> Result<Vec<u8>, Fault> {
    let failed = || Fault::Failed("failed to RSA encrypt the plaintext".to_owned());
    let key = material.rsa_public().ok_or_else(failed)?;
    if key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256) < plain.len() {
        return Err(Fault::user(
            "failed to RSA encrypt the plaintext: message too long for RSA key size",
        ));
    }
    let mut sealed = vec![0; key.ciphertext_size()];
    let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut sealed, None);
    let length = written.map_err(|_| failed())?.len();
    sealed.truncate(length);
    Ok(sealed)
}

/// The nonce of convergent encryption, version 3: of the text itself, under a key derived for it.
///
/// Of what is authenticated beside the text as well, where Vault and OpenBao leave it out: there, one
/// text beside two different things has one nonce and two tags, and whoever sees both can work out what
/// makes tags (NIST SP 800-38D, appendix A), and forge. What is sealed so is opened by them as before.
fn convergent_nonce(hmac: &[u8], associated: &[u8], plain: &[u8]) -> [u8; NONCE_BYTES] {
    let tag = if associated.is_empty() {
        Hash::Sha256.hmac(hmac, plain)
    } else {
        let key = material::derive(hmac, associated, hmac.len());
        Hash::Sha256.hmac(&key, plain)
    };
    let tag = tag.unwrap_or_default();
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&tag[..NONCE_BYTES]);
    nonce
}

/// Seals: the nonce, the text, the tag.
fn under(
    cipher: &LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    associated: &[u8],
    plain: &[u8],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let tag = cipher
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated),
            &mut sealed[NONCE_BYTES..],
        )
        .expect("a request is far shorter than what the cipher takes");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

fn from_under(
    kind: Kind,
    cipher: &LessSafeKey,
    associated: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let Some((nonce, body)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
        return Err(Fault::user("invalid ciphertext length"));
    };
    let mut plain = Zeroizing::new(body.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher
        .open_in_place(nonce, Aad::from(associated), &mut plain)
        .map(|plain| plain.len());
    let length = opened.map_err(|_| broken(kind))?;
    plain.truncate(length);
    Ok(plain)
}

/// Makes a result of a sealed text and its version.
pub(super) fn sealed_shown(text: String, version: u32) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("ciphertext".into(), text.into());
    shown.insert("key_version".into(), version.into());
    shown
}
