//! OpenSSH's formats: public keys, private keys, certificates and revocation lists (KRL). Who gets a
//! certificate is decided elsewhere.
//!
//! ```text
//!   text --PublicKey::parse--> PublicKey --Certificate::sign(SshSigner)--> "ssh-...-cert-v01@... AAAA"
//!   PEM  --PrivateKey::parse-> PrivateKey --SshSigner::new--> SshSigner
//!   Revoked --encode--> KRL --check_krl--> KrlFacts
//! ```
//!
//! Sources: RFC 4251 (types), 4253 §6.6, 5656 and 8709 (keys), 8332 (RSA with SHA-2), and OpenSSH's
//! PROTOCOL.certkeys, PROTOCOL.krl and PROTOCOL.key.

mod certificate;
mod krl;
mod private;
mod public;
mod signer;
mod wire;

pub use certificate::{
    Certificate, CertificateError, CertificateKind, OPTIONS_MAX, PRINCIPALS_MAX, Signed,
    read_certificate,
};
pub use krl::{KRL_BYTES_MAX, KrlError, KrlFacts, Revoked, check_krl};
pub use private::{PRIVATE_KEY_BYTES_MAX, PrivateKey, PrivateKeyError};
pub use public::{KeyKind, PUBLIC_KEY_BYTES_MAX, PublicKey, PublicKeyError};
pub use signer::{RsaHash, SignError, SshSigner};

#[cfg(test)]
mod tests;
