//! Certificates: OpenSSH's PROTOCOL.certkeys, version 01.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::public::{KeyKind, PublicKey};
use super::signer::{RsaHash, SignError, SshSigner};
use super::wire::{Malformed, Reader, Writer};

/// Most principals of a certificate: OpenSSH reads no more than 256.
pub const PRINCIPALS_MAX: usize = 256;
/// Most critical options, and most extensions, of a certificate.
pub const OPTIONS_MAX: usize = 64;
/// Longest certificate that is read, in bytes of text.
const CERTIFICATE_BYTES_MAX: usize = 64 << 10;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// To log in.
    User,
    /// To prove which host it is.
    Host,
}

/// What a certificate says of the key that it is made for.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Its number, by which it can be revoked.
    pub serial: u64,
    /// What it is for.
    pub kind: CertificateKind,
    /// What servers write into their logs.
    pub key_id: String,
    /// Which users, or names of hosts. Never empty: OpenSSH takes that for everybody
    /// (CVE-2024-7594).
    pub principals: Vec<String>,
    /// From when on, in seconds of Unix time.
    pub valid_after: u64,
    /// Until when, in seconds of Unix time.
    pub valid_before: u64,
    /// What a server must understand, or refuse.
    pub critical_options: BTreeMap<String, String>,
    /// What a server may grant.
    pub extensions: BTreeMap<String, String>,
}

/// Why no certificate was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It would be good for everybody.
    #[error("a certificate names at least one principal")]
    NoPrincipals,
    /// Servers would refuse it.
    #[error("a certificate has at most {PRINCIPALS_MAX} principals and {OPTIONS_MAX} options")]
    TooMuch,
    /// It would never be good.
    #[error("a certificate ends after it begins")]
    Never,
    /// The authority's key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Certificate {
    /// Certifies `subject`; returns a line as it stands in `id_*-cert.pub`, without its end.
    pub fn sign(
        &self,
        subject: &PublicKey,
        signer: &SshSigner,
        hash: RsaHash,
        nonce: &[u8; 32],
    ) -> Result<String, CertificateError> {
        if self.principals.is_empty() || self.principals.iter().any(String::is_empty) {
            return Err(CertificateError::NoPrincipals);
        }
        let options = self.critical_options.len().max(self.extensions.len());
        if PRINCIPALS_MAX < self.principals.len() || OPTIONS_MAX < options {
            return Err(CertificateError::TooMuch);
        }
        if self.valid_before <= self.valid_after {
            return Err(CertificateError::Never);
        }
        let name = subject.kind().certificate_name();
        let mut writer = Writer(Vec::with_capacity(1024));
        writer.string(name).string(nonce).raw(subject.parts());
        writer.u64(self.serial);
        writer.u32(match self.kind {
            CertificateKind::User => 1,
            CertificateKind::Host => 2,
        });
        writer.string(&self.key_id);
        writer.nested(|it| {
            for principal in &self.principals {
                it.string(principal);
            }
        });
        writer.u64(self.valid_after).u64(self.valid_before);
        for options in [&self.critical_options, &self.extensions] {
            writer.nested(|it| write_options(it, options));
        }
        writer.string("");
        writer.string(signer.public().blob());
        let signature = signer.sign(&writer.0, hash)?;
        writer.string(signature);
        Ok(format!("{name} {}", BASE64.encode(&writer.0)))
    }
}

/// Writes options in the order of their names. A value is a string within a string; a flag has none.
fn write_options(writer: &mut Writer, options: &BTreeMap<String, String>) {
    for (name, value) in options {
        writer.string(name);
        writer.nested(|it| {
            if !value.is_empty() {
                it.string(value);
            }
        });
    }
}

/// What a certificate says, read back. Its signature was not looked at.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The key that it is made for.
    pub subject: PublicKey,
    /// What it says of it.
    pub says: Certificate,
    /// The key that signed it.
    pub authority: PublicKey,
}

/// Reads a certificate's line. Its signature is not checked: whoever trusts it needs the authority.
pub fn read_certificate(text: &str) -> Option<Signed> {
    if CERTIFICATE_BYTES_MAX < text.len() {
        return None;
    }
    let mut words = text.split_ascii_whitespace();
    let (name, data) = (words.next()?, words.next()?);
    let kind = KeyKind::of_certificate_name(name)?;
    let blob = BASE64.decode(data.as_bytes()).ok()?;
    read(kind, &blob).ok()
}

fn read(kind: KeyKind, blob: &[u8]) -> Result<Signed, Malformed> {
    let mut reader = Reader::new(blob);
    if reader.text()? != kind.certificate_name() {
        return Err(Malformed);
    }
    reader.string()?;
    let before = reader.rest();
    for _ in 0..kind.strings() {
        reader.string()?;
    }
    let parts = &before[..before.len() - reader.rest().len()];
    let mut subject = Writer::default();
    subject.string(kind.name()).raw(parts);
    let subject = PublicKey::from_blob(subject.0).map_err(|_| Malformed)?;
    let serial = reader.u64()?;
    let kind = match reader.u32()? {
        1 => CertificateKind::User,
        2 => CertificateKind::Host,
        _ => return Err(Malformed),
    };
    let key_id = reader.text()?.to_owned();
    let mut principals = Vec::new();
    let mut named = Reader::new(reader.string()?);
    while !named.is_empty() {
        if principals.len() == PRINCIPALS_MAX {
            return Err(Malformed);
        }
        principals.push(named.text()?.to_owned());
    }
    let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
    let critical_options = read_options(reader.string()?)?;
    let extensions = read_options(reader.string()?)?;
    reader.string()?;
    let authority = PublicKey::from_blob(reader.string()?.to_vec()).map_err(|_| Malformed)?;
    reader.string()?;
    if !reader.is_empty() {
        return Err(Malformed);
    }
    Ok(Signed {
        subject,
        says: Certificate {
            serial,
            kind,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical_options,
            extensions,
        },
        authority,
    })
}

fn read_options(bytes: &[u8]) -> Result<BTreeMap<String, String>, Malformed> {
    let mut options = BTreeMap::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let name = reader.text()?.to_owned();
        let mut value = Reader::new(reader.string()?);
        let value = if value.is_empty() {
            String::new()
        } else {
            value.text()?.to_owned()
        };
        let last: Option<&String> = options.keys().next_back();
        if options.len() == OPTIONS_MAX || last.is_some_and(|last| *last >= name) {
            return Err(Malformed);
        }
        options.insert(name, value);
    }
    Ok(options)
}
