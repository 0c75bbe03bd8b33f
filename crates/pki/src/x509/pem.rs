//! PEM (RFC 7468): armour around DER, alone or several in one text.

use bastide_api::Secret;
use data_encoding::BASE64;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::certificate::{Certificate, CertificateError};
use super::key::{KeyError, PrivateKey};

/// Most bytes of a text that holds certificates and keys.
pub const BUNDLE_BYTES_MAX: usize = 256 * 1024;
/// Most certificates and keys of one text.
const SECTIONS_MAX: usize = 64;
/// Letters of a line.
const LINE: usize = 64;

/// Puts DER into PEM, without a line's end after the last line, as Vault shows it.
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 40);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----");
    text
}

/// Certificates and keys of one text, in its order.
#[derive(Default)]
pub struct Bundle {
    /// The certificates.
    pub certificates: Vec<Certificate>,
    /// The keys.
    pub keys: Vec<PrivateKey>,
}

/// Why a text is no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is too long, or holds too much.
    #[error("PEM bundle has more than {BUNDLE_BYTES_MAX} bytes or {SECTIONS_MAX} entries")]
    TooLong,
    /// It holds nothing, or something is damaged.
    #[error("no data found in PEM block")]
    Format,
    /// A certificate cannot be used.
    #[error("certificate in PEM bundle cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// A key cannot be used.
    #[error("private key in PEM bundle cannot be used: {0}")]
    Key(#[from] KeyError),
}

impl Bundle {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        if BUNDLE_BYTES_MAX < text.len() {
            return Err(BundleError::TooLong);
        }
        let mut this = Self::default();
        let mut sections = 0;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|_| BundleError::Format)?;
            let der = Secret::new(der);
            sections += 1;
            if SECTIONS_MAX < sections {
                return Err(BundleError::TooLong);
            }
            match kind {
                SectionKind::Certificate => {
                    this.certificates.push(Certificate::parse(der.expose())?);
                }
                SectionKind::PrivateKey => this.keys.push(PrivateKey::from_pkcs8(der.expose())?),
                SectionKind::RsaPrivateKey => {
                    this.keys.push(PrivateKey::from_pkcs1(der.expose())?);
                }
                SectionKind::EcPrivateKey => this.keys.push(PrivateKey::from_sec1(der.expose())?),
                _ => {}
            }
        }
        if this.certificates.is_empty() && this.keys.is_empty() {
            return Err(BundleError::Format);
        }
        Ok(this)
    }
}
