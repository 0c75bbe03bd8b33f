//! An answer in the form in which it is kept sealed, to be given again or later.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bastide_api::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::core::entropy::Entropy;
use crate::core::pipeline::{Envelope, Shape};
use crate::core::refusal::Refusal;
use crate::core::request::Operation;

/// An answer and what was done for it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAnswer {
    operation: String,
    shape: String,
    #[serde(default)]
    status: u16,
    data: Option<Map<String, Value>>,
    auth: Option<Value>,
    lease_id: String,
    renewable: bool,
    lease_duration: u64,
    warnings: Vec<String>,
    #[serde(default)]
    wrap_info: Option<Value>,
}

/// A sealed answer. What opens it is not in the store alone: a token's text is a part of the key.
#[derive(Serialize, Deserialize)]
pub(crate) struct SealedAnswer {
    /// AES-GCM's.
    pub nonce: [u8; 12],
    /// Ciphertext and tag, in base64.
    pub sealed: String,
}

fn aead(key: &Secret<[u8; 32]>) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("the key has 32 bytes");
    LessSafeKey::new(key)
}

impl StoredAnswer {
    /// `None` for answers that are no envelope: bytes, and streams.
    pub fn of(operation: Operation, envelope: &Envelope) -> Option<Self> {
        let (shape, status) = match &envelope.shape {
            Shape::Plain => ("plain", 0),
            Shape::Accepted => ("accepted", 0),
            Shape::Absent => ("absent", 0),
            Shape::Bare => ("bare", 0),
            Shape::Status(status) => ("status", *status),
            Shape::Told(_) | Shape::Raw(_) | Shape::Stream(_) | Shape::Step(_) => return None,
        };
        Some(Self {
            operation: operation.as_str().to_owned(),
            shape: shape.to_owned(),
            status,
            data: envelope.data.clone(),
            auth: envelope.auth.clone(),
            lease_id: envelope.lease_id.clone(),
            renewable: envelope.renewable,
            lease_duration: envelope.lease_duration,
            warnings: envelope.warnings.clone(),
            wrap_info: envelope.wrap_info.clone(),
        })
    }

    /// Returns the answer, and what was done.
    pub fn into_parts(self) -> Result<(Operation, Envelope), Refusal> {
        let operation = match self.operation.as_str() {
            "create" => Operation::Create,
            "read" => Operation::Read,
            "update" => Operation::Update,
            "patch" => Operation::Patch,
            "delete" => Operation::Delete,
            "list" => Operation::List,
            other => return Err(Refusal::corrupt("answer", other)),
        };
        let shape = match self.shape.as_str() {
            "plain" => Shape::Plain,
            "accepted" => Shape::Accepted,
            "absent" => Shape::Absent,
            "bare" => Shape::Bare,
            "status" => Shape::Status(self.status),
            other => return Err(Refusal::corrupt("answer", other)),
        };
        let envelope = Envelope {
            shape,
            data: self.data,
            auth: self.auth,
            lease_id: self.lease_id,
            renewable: self.renewable,
            lease_duration: self.lease_duration,
            warnings: self.warnings,
            wrap_info: self.wrap_info,
        };
        Ok((operation, envelope))
    }

    /// Seals it for the place `aad`; `None` if it is longer than `bytes_max`.
    pub fn seal(
        &self,
        key: &Secret<[u8; 32]>,
        aad: &[u8],
        entropy: &mut Entropy,
        bytes_max: usize,
    ) -> Option<SealedAnswer> {
        let mut text = serde_json::to_vec(self).expect("answers are plain JSON");
        if bytes_max < text.len() {
            text.zeroize();
            return None;
        }
        let nonce: [u8; 12] = entropy.bytes();
        aead(key)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut text,
            )
            .expect("an answer is shorter than AES-GCM's limit");
        Some(SealedAnswer {
            nonce,
            sealed: data_encoding::BASE64.encode(&text),
        })
    }
}

impl SealedAnswer {
    /// Opens what was sealed for the place `aad`.
    pub fn open(&self, key: &Secret<[u8; 32]>, aad: &[u8]) -> Result<StoredAnswer, Refusal> {
        let sealed = data_encoding::BASE64
            .decode(self.sealed.as_bytes())
            .map_err(|error| Refusal::corrupt("answer", error))?;
        let mut sealed = zeroize::Zeroizing::new(sealed);
        let text = aead(key)
            .open_in_place(
                Nonce::assume_unique_for_key(self.nonce),
                Aad::from(aad),
                &mut sealed,
            )
            .map_err(|_| Refusal::corrupt("answer", "it does not open"))?;
        serde_json::from_slice(text).map_err(|error| Refusal::corrupt("answer", error))
    }
}
