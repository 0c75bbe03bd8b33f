//! A node's own key, and what it asks to have certified.

use bastide_api::Secret;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroize;

use crate::PEM_BYTES_MAX;
use crate::proof::fingerprint;

/// Most certificates of a chain that is read.
const CHAIN_MAX: usize = 4;

/// Why a stored identity cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not a key of the kind that nodes have.
    #[error("identity key is not an ECDSA key on P-256 in PKCS #8")]
    Key,
    /// It is not a chain of certificates.
    #[error("certificate chain is not 1 to {CHAIN_MAX} certificates in PEM")]
    Chain,
}

/// A node's identity key: ECDSA on P-256. It never leaves the node.
pub struct Identity {
    key: KeyPair,
}

impl Identity {
    /// Draws a new key.
    pub fn generate() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .expect("P-256 keys can be drawn once the random source is seeded");
        Self { key }
    }

    /// Reads back what [`Self::key_pem`] gave.
    pub fn from_pem(pem: &Secret<String>) -> Result<Self, IdentityError> {
        if PEM_BYTES_MAX < pem.expose().len() {
            return Err(IdentityError::Key);
        }
        KeyPair::from_pkcs8_pem_and_sign_algo(pem.expose(), &PKCS_ECDSA_P256_SHA256)
            .map(|key| Self { key })
            .map_err(|_| IdentityError::Key)
    }

    /// Returns the key in PEM (PKCS #8).
    pub fn key_pem(&self) -> Secret<String> {
        Secret::new(self.key.serialize_pem())
    }

    /// Returns the key as TLS stacks take it. The copy is theirs to keep from sight.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// Returns a request to certify this key (PKCS #10 in PEM), without a subject.
    pub fn csr_pem(&self) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .serialize_request(&self.key)
            .and_then(|request| request.pem())
            .expect("a request without names can be signed by a key that was drawn or checked")
    }

    /// Returns SHA-256 of the key's DER `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.key.subject_public_key_info())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Reads a chain of certificates in PEM, the leaf first.
pub fn certificate_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    if CHAIN_MAX * PEM_BYTES_MAX < pem.len() {
        return Err(IdentityError::Chain);
    }
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(CHAIN_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| IdentityError::Chain)?;
    if chain.is_empty() || CHAIN_MAX < chain.len() {
        return Err(IdentityError::Chain);
    }
    Ok(chain)
}

#[cfg(test)]
mod tests;
