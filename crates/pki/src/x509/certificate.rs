//! Certificates (RFC 5280): making them, and reading those of others.

use bastide_api::UnixTime;

use super::constraint::Constraints;
use super::der::{self, NotDer, Reader, Writer};
use super::extension::{Extensions, San};
use super::key::{KeyError, PrivateKey, PublicKey, SignatureScheme};
use super::oid::{Oid, known};

/// Largest certificate that is read, in bytes.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Most extensions of a certificate.
const EXTENSIONS_MAX: usize = 64;

/// What a certificate is to say.
pub struct Template<'a> {
    /// Its serial number, big-endian: 1 to 20 bytes, not all zero.
    pub serial: &'a [u8],
    /// The issuer's name in DER.
    pub issuer: &'a [u8],
    /// The subject's name in DER.
    pub subject: &'a [u8],
    /// When it begins.
    pub not_before: UnixTime,
    /// When it ends.
    pub not_after: UnixTime,
    /// The key, as `SubjectPublicKeyInfo` in DER.
    pub spki: &'a [u8],
    /// What else it says.
    pub extensions: Extensions<'a>,
}

/// Makes a certificate; returns it in DER.
pub fn sign_certificate(
    template: &Template<'_>,
    key: &PrivateKey,
    scheme: SignatureScheme,
) -> Result<Vec<u8>, KeyError> {
    let mut tbs = Writer::with_room(1024);
    tbs.nest(der::SEQUENCE, |out| {
        out.nest(der::constructed(0), |out| out.value(der::INTEGER, &[2]));
        out.unsigned(template.serial);
        scheme.write(out);
        out.raw(template.issuer);
        out.nest(der::SEQUENCE, |out| {
            out.time(template.not_before);
            out.time(template.not_after);
        });
        out.raw(template.subject);
        out.raw(template.spki);
        out.nest(der::constructed(3), |out| template.extensions.write(out));
    });
    seal(&tbs.into_bytes(), key, scheme)
}

/// Puts a signature beside what is signed.
pub(super) fn seal(
    signed: &[u8],
    key: &PrivateKey,
    scheme: SignatureScheme,
) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign(scheme, signed)?;
    let mut out = Writer::with_room(signed.len() + signature.len() + 32);
    out.nest(der::SEQUENCE, |out| {
        out.raw(signed);
        scheme.write(out);
        out.bits(&signature);
    });
    Ok(out.into_bytes())
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not X.509.
    #[error("it is not X.509 in DER")]
    Format,
    /// It is of no use here.
    #[error("its key cannot be used: {0}")]
    Key(#[from] KeyError),
}

impl From<NotDer> for CertificateError {
    fn from(_: NotDer) -> Self {
        Self::Format
    }
}

/// That a certificate is an authority's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityLimit {
    /// How many authorities may follow below; `None`: as many as there are.
    pub path: Option<u8>,
}

/// A certificate that was read. Nothing of it is verified unless a function says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// Where in `der` the signed part stands.
    tbs: std::ops::Range<usize>,
    scheme: Option<SignatureScheme>,
    signature: Vec<u8>,
    /// Its serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// The issuer's name in DER.
    pub issuer: Vec<u8>,
    /// The subject's name in DER.
    pub subject: Vec<u8>,
    /// When it begins.
    pub not_before: UnixTime,
    /// When it ends.
    pub not_after: UnixTime,
    /// Its key.
    pub key: PublicKey,
    /// Whether it is an authority's.
    pub authority: Option<AuthorityLimit>,
    /// Bits of its key usage, if it names any.
    pub key_usage: Option<u16>,
    /// Its key's identifier; without the extension, what it would be.
    pub key_id: Vec<u8>,
    /// Its alternative names; `None` if there are some that this program does not read.
    pub names: Option<Vec<San>>,
    /// Its extensions: identifier, whether critical, content.
    pub extensions: Vec<(Oid, bool, Vec<u8>)>,
}

impl Certificate {
    /// Reads a certificate in DER.
    pub fn parse(certificate: &[u8]) -> Result<Self, CertificateError> {
        if CERTIFICATE_BYTES_MAX < certificate.len() {
            return Err(CertificateError::Format);
        }
        let mut outer = Reader::new(certificate);
        let mut parts = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let (tag, content, tbs) = parts.any()?;
        let (algorithm_tag, _, algorithm) = parts.any()?;
        let signature = bits(parts.value(der::BIT_STRING)?)?;
        parts.end()?;
        if tag != der::SEQUENCE || algorithm_tag != der::SEQUENCE {
            return Err(CertificateError::Format);
        }
        let mut fields = Reader::new(content);
        // Version 3: the others have no extensions, and are no authorities.
        if fields.value(der::constructed(0))? != [der::INTEGER, 1, 2] {
            return Err(CertificateError::Format);
        }
        let serial = serial(fields.value(der::INTEGER)?)?;
        let (_, _, inner_algorithm) = fields.any()?;
        if inner_algorithm != algorithm {
            return Err(CertificateError::Format);
        }
        let issuer = name(&mut fields)?;
        let mut validity = fields.nested(der::SEQUENCE)?;
        let (tag, content, _) = validity.any()?;
        let not_before = der::read_time(tag, content)?;
        let (tag, content, _) = validity.any()?;
        let not_after = der::read_time(tag, content)?;
        validity.end()?;
        let subject = name(&mut fields)?;
        let (_, _, spki) = fields.any()?;
        fields.optional(der::context(1))?;
        fields.optional(der::context(2))?;
        let extensions = match fields.optional(der::constructed(3))? {
            Some(content) => read_extensions(content)?,
            None => Vec::new(),
        };
        fields.end()?;
        let key = PublicKey::from_spki(spki)?;
        let start = tbs.as_ptr() as usize - certificate.as_ptr() as usize;
        let find = |oid: &[u8]| {
            let found = extensions.iter().find(|(found, ..)| found.content() == oid);
            found.map(|(_, _, content)| content.as_slice())
        };
        let key_id = match find(known::SUBJECT_KEY_ID) {
            Some(content) => Reader::new(content).value(der::OCTET_STRING)?.to_vec(),
            None => key.id(),
        };
        let names = match find(known::SUBJECT_ALT_NAME) {
            Some(content) => San::read_all(content).ok(),
            None => Some(Vec::new()),
        };
        Ok(Self {
            der: certificate.to_vec(),
            tbs: start..start + tbs.len(),
            scheme: SignatureScheme::read(algorithm),
            signature: signature.to_vec(),
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            authority: find(known::BASIC_CONSTRAINTS)
                .map(read_constraints)
                .transpose()?
                .flatten(),
            key_usage: find(known::KEY_USAGE).map(read_usage).transpose()?,
            key_id,
            names,
            key,
            extensions,
        })
    }

    /// Returns it in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Reads which names it may certify; `None` if it does not say. An error: it says so in a form that
    /// is not read here, and nobody knows what it may certify.
    pub fn constraints(&self) -> Result<Option<Constraints>, NotDer> {
        self.extensions
            .iter()
            .find(|(oid, ..)| oid.content() == known::NAME_CONSTRAINTS)
            .map(|(_, _, content)| Constraints::read(content))
            .transpose()
    }

    /// Returns how it is signed, if that is known here.
    pub fn scheme(&self) -> Option<SignatureScheme> {
        self.scheme
    }

    /// Returns whether `issuer` signed it, by name and by key.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject && self.verifies_with(&issuer.key)
    }

    /// Returns whether `key` signed it.
    pub fn verifies_with(&self, key: &PublicKey) -> bool {
        let signed = &self.der[self.tbs.clone()];
        self.scheme
            .is_some_and(|scheme| key.verify(scheme, signed, &self.signature))
    }

    /// Returns whether its own key signed it.
    pub fn is_self_signed(&self) -> bool {
        self.is_signed_by(self)
    }
}

fn name(fields: &mut Reader<'_>) -> Result<Vec<u8>, NotDer> {
    let (tag, _, whole) = fields.any()?;
    if tag == der::SEQUENCE {
        Ok(whole.to_vec())
    } else {
        Err(NotDer)
    }
}

/// A bit string of whole bytes.
pub(super) fn bits(content: &[u8]) -> Result<&[u8], NotDer> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(NotDer),
    }
}

/// A number above 0, of at most 20 bytes (RFC 5280, section 4.1.2.2).
pub(super) fn serial(content: &[u8]) -> Result<Vec<u8>, NotDer> {
    let digits = match content {
        [0, digits @ ..] => digits,
        [first, ..] if *first < 0x80 => content,
        _ => return Err(NotDer),
    };
    if digits.is_empty() || 20 < digits.len() || digits.iter().all(|byte| *byte == 0) {
        return Err(NotDer);
    }
    Ok(digits.to_vec())
}

/// Reads the content of a sequence of extensions. Each may stand there once.
pub(super) fn read_extensions(content: &[u8]) -> Result<Vec<(Oid, bool, Vec<u8>)>, NotDer> {
    let mut outer = Reader::new(content);
    let mut list = outer.nested(der::SEQUENCE)?;
    outer.end()?;
    let mut found: Vec<(Oid, bool, Vec<u8>)> = Vec::new();
    while !list.is_empty() {
        let mut extension = list.nested(der::SEQUENCE)?;
        let oid = Oid::from_content(extension.value(der::OID)?);
        let critical = match extension.optional(der::BOOLEAN)? {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return Err(NotDer),
        };
        let content = extension.value(der::OCTET_STRING)?.to_vec();
        extension.end()?;
        if EXTENSIONS_MAX <= found.len() || found.iter().any(|(known, ..)| *known == oid) {
            return Err(NotDer);
        }
        found.push((oid, critical, content));
    }
    Ok(found)
}

/// Reads `basicConstraints`: whether an authority's, and its path length.
pub(super) fn read_constraints(content: &[u8]) -> Result<Option<AuthorityLimit>, NotDer> {
    let mut outer = Reader::new(content);
    let mut parts = outer.nested(der::SEQUENCE)?;
    outer.end()?;
    let is_authority = match parts.optional(der::BOOLEAN)? {
        None | Some([0]) => false,
        Some([0xff]) => true,
        Some(_) => return Err(NotDer),
    };
    let path = match parts.optional(der::INTEGER)? {
        None => None,
        Some([length]) if *length < 0x80 => Some(*length),
        Some(_) => return Err(NotDer),
    };
    parts.end()?;
    Ok(is_authority.then_some(AuthorityLimit { path }))
}

/// Reads `keyUsage` into bits of [`super::KEY_USAGES`].
pub(super) fn read_usage(content: &[u8]) -> Result<u16, NotDer> {
    let mut outer = Reader::new(content);
    let bits = outer.value(der::BIT_STRING)?;
    outer.end()?;
    let (unused, bytes) = bits.split_first().ok_or(NotDer)?;
    if 7 < *unused || 2 < bytes.len() {
        return Err(NotDer);
    }
    let first = bytes.first().copied().unwrap_or(0);
    let second = bytes.get(1).copied().unwrap_or(0);
    Ok(u16::from_be_bytes([first, second]).reverse_bits())
}
