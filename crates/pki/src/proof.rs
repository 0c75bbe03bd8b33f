//! Certificate requests (PKCS #10, RFC 2986): a key, and proof that the asker holds it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::FromDer;

use crate::PEM_BYTES_MAX;

/// Bytes of an uncompressed point of P-256 (SEC 1, section 2.3.3).
const POINT_BYTES: usize = 65;

/// Why a certificate request proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is longer than requests are.
    #[error("certificate request has more than {PEM_BYTES_MAX} bytes")]
    TooLong,
    /// It is not PEM, or not a request.
    #[error("certificate request is not PKCS #10 in PEM")]
    Format,
    /// Its key is not of the kind that this cluster certifies.
    #[error("certificate request is not for an ECDSA key on P-256 with SHA-256")]
    Algorithm,
    /// The asker does not hold the key.
    #[error("certificate request is not signed by its own key")]
    Signature,
}

/// A public key whose holder has signed for it. Only [`ProvenKey::from_request`] makes one.
///
/// Whatever else a request says (subject, names, usages) is dropped: names are the registrar's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey {
    point: Vec<u8>,
}

impl ProvenKey {
    /// Checks a certificate request in PEM.
    pub fn from_request(pem: &str) -> Result<Self, ProofError> {
        if PEM_BYTES_MAX < pem.len() {
            return Err(ProofError::TooLong);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| ProofError::Format)?;
        let (rest, request) =
            X509CertificationRequest::from_der(der.as_ref()).map_err(|_| ProofError::Format)?;
        if !rest.is_empty() {
            return Err(ProofError::Format);
        }
        let info = &request.certification_request_info;
        let spki = &info.subject_pki;
        let curve = spki
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        let is_ours = spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == Some(OID_EC_P256)
            && request.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256
            && spki.subject_public_key.data.len() == POINT_BYTES;
        if !is_ours {
            return Err(ProofError::Algorithm);
        }
        let point = spki.subject_public_key.data.to_vec();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| ProofError::Signature)?;
        Ok(Self { point })
    }

    /// Returns SHA-256 of the key's DER `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.subject_public_key_info())
    }
}

impl PublicKeyData for ProvenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Returns SHA-256 of a DER `SubjectPublicKeyInfo`.
pub(crate) fn fingerprint(spki: &[u8]) -> [u8; 32] {
    digest(&SHA256, spki)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;
