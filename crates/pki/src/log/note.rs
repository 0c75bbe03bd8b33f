//! Signed notes, as C2SP `signed-note` writes them.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bastide_api::Secret;
use data_encoding::{BASE64, HEXLOWER};

use super::tree::line_hash;

/// Longest note that is read, in bytes.
pub const NOTE_BYTES_MAX: usize = 4096;
/// Longest key in text form, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// The algorithm's number there: Ed25519.
const ED25519_ID: u8 = 1;

/// Signs checkpoints of one log.
pub struct LogSigner {
    name: String,
    key: Ed25519KeyPair,
}

impl LogSigner {
    /// Makes the signer of a seed of 32 bytes. `name`: the log's, without spaces and `+`.
    pub fn from_seed(name: &str, seed: &Secret<[u8; 32]>) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .expect("any 32 bytes are the seed of an Ed25519 key");
        Self {
            name: name.to_owned(),
            key,
        }
    }

    /// Returns the key that verifies.
    pub fn key(&self) -> LogKey {
        let key = self.key.public_key().as_ref();
        LogKey {
            name: self.name.clone(),
            key: key.try_into().expect("Ed25519 public keys have 32 bytes"),
        }
    }

    /// Signs a text, each of whose lines ends.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.key().id().to_vec();
        signature.extend_from_slice(self.key.sign(text.as_bytes()).as_ref());
        format!(
            "{text}\n\u{2014} {} {}\n",
            self.name,
            BASE64.encode(&signature)
        )
    }
}

/// A key that verifies the checkpoints of one log; as text `name+id+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: [u8; 32],
}

/// Why a text is not a log's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no key of a log: expected `name+id+key`, as `bastide audit key` prints it")]
pub struct LogKeyError;

impl LogKey {
    /// Returns the log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        let text = [self.name.as_bytes(), b"\n", &[ED25519_ID], &self.key].concat();
        let hash = line_hash(&text);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Returns the text that this key signed in a note; `None` if it signed none of it.
    pub fn verify<'n>(&self, note: &'n str) -> Option<&'n str> {
        if NOTE_BYTES_MAX < note.len() {
            return None;
        }
        let end = note.rfind("\n\n")? + 1;
        let (text, signatures) = (&note[..end], &note[end + 1..]);
        let is_signed = signatures.lines().any(|line| {
            let Some((name, encoded)) = line
                .strip_prefix("\u{2014} ")
                .and_then(|rest| rest.split_once(' '))
            else {
                return false;
            };
            let Ok(bytes) = BASE64.decode(encoded.as_bytes()) else {
                return false;
            };
            name == self.name
                && bytes.strip_prefix(&self.id()).is_some_and(|signature| {
                    UnparsedPublicKey::new(&ED25519, &self.key)
                        .verify(text.as_bytes(), signature)
                        .is_ok()
                })
        });
        is_signed.then_some(text)
    }
}

impl std::fmt::Display for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = [&[ED25519_ID], &self.key[..]].concat();
        let (id, key) = (HEXLOWER.encode(&self.id()), BASE64.encode(&key));
        write!(f, "{}+{id}+{key}", self.name)
    }
}

impl std::str::FromStr for LogKey {
    type Err = LogKeyError;

    fn from_str(text: &str) -> Result<Self, LogKeyError> {
        let text = text.trim();
        let parts = |text: &str| {
            let (name, rest) = text.split_once('+')?;
            let (id, key) = rest.split_once('+')?;
            let key = BASE64.decode(key.as_bytes()).ok()?;
            let key: [u8; 32] = key.strip_prefix(&[ED25519_ID])?.try_into().ok()?;
            let this = Self {
                name: name.to_owned(),
                key,
            };
            let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
            (is_name && HEXLOWER.encode(&this.id()) == id).then_some(this)
        };
        if KEY_BYTES_MAX < text.len() {
            return Err(LogKeyError);
        }
        parts(text).ok_or(LogKeyError)
    }
}
