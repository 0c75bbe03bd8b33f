//! Certificates of others, of which nothing is believed but that their holder has a key.

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Returns the public key in a certificate of any version, which nobody has judged; `None` if it is no
/// certificate. The parsers of TLS know version 3 alone, and what some clients of Vault show is older.
pub fn public_key_of(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.tbs_certificate.subject_pki.raw;
    rest.is_empty()
        .then(|| SubjectPublicKeyInfoDer::from(key.to_vec()))
}

#[cfg(test)]
mod tests;
