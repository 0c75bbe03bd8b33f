//! The signature over the view.

use std::ops::Deref;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bastide_api::{ClusterId, Secret, SigningKey, ViewEntries};
use data_encoding::BASE64;

/// Bytes of an Ed25519 signature (RFC 8032, section 5.1.6).
const SIGNATURE_BYTES: usize = 64;

/// Signs views with Ed25519.
pub struct ViewSigner {
    key: Ed25519KeyPair,
}

impl ViewSigner {
    /// Makes the signer of a seed of 32 bytes that the caller drew at random.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .expect("any 32 bytes are the seed of an Ed25519 key");
        Self { key }
    }

    /// Returns the key that verifies.
    pub fn public_key(&self) -> SigningKey {
        let bytes = self.key.public_key().as_ref();
        SigningKey::from_bytes(bytes.try_into().expect("Ed25519 public keys have 32 bytes"))
    }

    /// Signs a view of `cluster`; returns the signature in base64.
    pub fn sign(&self, entries: &ViewEntries, cluster: ClusterId) -> String {
        BASE64.encode(self.key.sign(&entries.signed_bytes(cluster)).as_ref())
    }
}

/// A value whose signature was checked. Only this crate's checks make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Returns the value; that it was verified is no longer said by its type.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a view is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewSignatureError {
    /// The signature is not one.
    #[error("signature of the view is not 64 bytes in base64")]
    Format,
    /// It is not of this view, this cluster, this revision and this key.
    #[error("signature of the view does not match it")]
    Mismatch,
}

/// Checks that `key` signed exactly these entries, for this cluster, at this revision.
pub fn verify_view(
    entries: ViewEntries,
    cluster: ClusterId,
    key: &SigningKey,
    signature: &str,
) -> Result<Verified<ViewEntries>, ViewSignatureError> {
    let signature = BASE64
        .decode(signature.as_bytes())
        .ok()
        .filter(|bytes| bytes.len() == SIGNATURE_BYTES)
        .ok_or(ViewSignatureError::Format)?;
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(&entries.signed_bytes(cluster), &signature)
        .map_err(|_| ViewSignatureError::Mismatch)?;
    Ok(Verified(entries))
}

#[cfg(test)]
mod tests;
