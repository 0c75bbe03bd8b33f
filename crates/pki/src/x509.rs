//! X.509 for certificate authorities of others: what an engine decided becomes certificates, requests,
//! revocation lists and OCSP answers (RFC 5280, RFC 2986, RFC 6960), and what strangers send becomes
//! values.
//!
//! The parts that are signed are written straight into one buffer; nothing is built twice. What is read
//! is either read whole or refused: there is no lenient mode.

mod certificate;
mod constraint;
mod crl;
pub mod der;
mod extension;
mod key;
mod name;
mod ocsp;
pub mod oid;
mod pem;
mod request;

pub use certificate::{AuthorityLimit, Certificate, CertificateError, Template, sign_certificate};
pub use constraint::{Constraints, Subtree};
pub use crl::{CrlTemplate, RevokedEntry, sign_crl};
pub use extension::{EXTENDED_USAGES, Extensions, KEY_USAGES, San, extended_usage, key_usage_bit};
pub use key::{KeyError, KeyKind, PrivateKey, PublicKey, SignatureScheme};
pub use name::{Attribute, AttributeValue, Name, canonical_name, name_values};
pub use ocsp::{
    Answered, CertId, CertStatus, OCSP_BYTES_MAX, OcspError, OcspRequest, OcspResponder,
    ocsp_failure, sign_ocsp,
};
pub use oid::Oid;
pub use pem::{BUNDLE_BYTES_MAX, Bundle, BundleError, pem};
pub use request::{CertificateRequest, RequestError, sign_request};

#[cfg(test)]
mod tests;
