//! The signature over the view.

use std::ops::Deref;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bastide_api::session::{self, Grant, SignedGrant};
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

    /// Signs a grant of a session in `cluster`.
    pub fn sign_grant(&self, grant: &Grant, cluster: ClusterId) -> SignedGrant {
        let text = serde_json::to_string(grant).expect("grants are plain JSON");
        let signature = self.key.sign(&session::signed_bytes(cluster, &text));
        SignedGrant {
            signature: BASE64.encode(signature.as_ref()),
            grant: text,
        }
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

/// Checks that `key` signed exactly this grant, for this cluster, and reads it.
pub fn verify_grant(
    signed: &SignedGrant,
    cluster: ClusterId,
    key: &SigningKey,
) -> Result<Verified<Grant>, GrantError> {
    let signature = BASE64.decode(signed.signature.as_bytes()).ok();
    let signature = signature.filter(|bytes| bytes.len() == SIGNATURE_BYTES);
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(
            &session::signed_bytes(cluster, &signed.grant),
            &signature.ok_or(GrantError::Signature)?,
        )
        .map_err(|_| GrantError::Signature)?;
    // Only now is it known to be ours, and worth reading.
    serde_json::from_str(&signed.grant)
        .map(Verified)
        .map_err(|_| GrantError::Version)
}

/// Why a grant is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It is not signed by this cluster's control plane, or was changed since.
    #[error("signature of the grant does not match it")]
    Signature,
    /// It is signed, but this program does not understand it.
    #[error("grant is of another version of this program")]
    Version,
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
