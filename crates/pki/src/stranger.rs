//! Certificates of people and machines that are not of this cluster, for logins: read strictly, and
//! judged by authorities that an operator named.

use std::fmt::Write;
use std::time::Duration;

use bastide_api::UnixTime;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATIONAL_UNIT};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

use crate::public_key_of;

/// Largest certificate that is read, in bytes of DER.
pub const STRANGER_BYTES_MAX: usize = 16 << 10;
/// Most names of one kind in a certificate.
const NAMES_MAX: usize = 256;
/// Most extensions of a certificate.
const EXTENSIONS_MAX: usize = 64;
/// Most certificates of one text in PEM.
pub const BUNDLE_MAX: usize = 16;
/// Most certificates that one list revokes.
pub const REVOKED_MAX: usize = 50_000;

/// A certificate that was read, and of which nothing is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    der: Vec<u8>,
    /// Its serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// The last common name of its subject; empty if there is none.
    pub common_name: String,
    /// The organizational units of its subject.
    pub organizational_units: Vec<String>,
    /// Its DNS names.
    pub dns: Vec<String>,
    /// Its mail addresses.
    pub emails: Vec<String>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Whether it is an authority's.
    pub is_authority: bool,
    /// Whether it is for clients: it says so, or says nothing of uses.
    pub is_for_clients: bool,
    /// From when it is good.
    pub begins: UnixTime,
    /// Until when it is good.
    pub ends: UnixTime,
    /// The identifier of its key; empty if it names none.
    pub subject_key_id: Vec<u8>,
    /// The identifier of its authority's key; empty if it names none.
    pub authority_key_id: Vec<u8>,
    /// Its extensions: identifiers with dots, and contents in DER.
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// Why a certificate or a list of them cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StrangerError {
    /// It is not X.509, or says something twice, or something that cannot be read.
    #[error("it is not X.509 as this program reads it")]
    Format,
    /// It is larger than what is read.
    #[error("it is larger than what is read")]
    TooLarge,
    /// There is none.
    #[error("there is none in the text")]
    Nothing,
}

impl Stranger {
    /// Reads a certificate in DER. One without extensions, of version 1, is read as well.
    pub fn parse(der: &[u8]) -> Result<Self, StrangerError> {
        if STRANGER_BYTES_MAX < der.len() {
            return Err(StrangerError::TooLarge);
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| StrangerError::Format)?;
        if !rest.is_empty() || EXTENSIONS_MAX < parsed.extensions().len() {
            return Err(StrangerError::Format);
        }
        let mut this = Self {
            der: der.to_vec(),
            serial: trimmed(parsed.raw_serial()).to_vec(),
            common_name: texts(parsed.subject(), Attribute::CommonName)?
                .pop()
                .unwrap_or_default(),
            organizational_units: texts(parsed.subject(), Attribute::Unit)?,
            dns: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            is_authority: false,
            is_for_clients: true,
            begins: moment(parsed.validity().not_before.timestamp()),
            ends: moment(parsed.validity().not_after.timestamp()),
            subject_key_id: Vec::new(),
            authority_key_id: Vec::new(),
            extensions: Vec::with_capacity(parsed.extensions().len()),
        };
        for extension in parsed.extensions() {
            let oid = extension.oid.to_id_string();
            // RFC 5280, section 4.2: "A certificate MUST NOT include more than one instance of a
            // particular extension."
            if this.extensions.iter().any(|(known, _)| *known == oid) {
                return Err(StrangerError::Format);
            }
            this.extensions.push((oid, extension.value.to_vec()));
            this.take_in(extension.parsed_extension())?;
        }
        Ok(this)
    }

    fn take_in(&mut self, extension: &ParsedExtension<'_>) -> Result<(), StrangerError> {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    let (kind, name) = match name {
                        GeneralName::DNSName(name) => (&mut self.dns, name),
                        GeneralName::RFC822Name(name) => (&mut self.emails, name),
                        GeneralName::URI(name) => (&mut self.uris, name),
                        GeneralName::Invalid(..) => return Err(StrangerError::Format),
                        _ => continue,
                    };
                    if NAMES_MAX <= kind.len() {
                        return Err(StrangerError::TooLarge);
                    }
                    kind.push((*name).to_owned());
                }
            }
            ParsedExtension::BasicConstraints(limits) => self.is_authority = limits.ca,
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.is_for_clients = usage.client_auth || usage.any;
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let id = id.key_identifier.as_ref();
                self.authority_key_id = id.map(|id| id.0.to_vec()).unwrap_or_default();
            }
            ParsedExtension::ParseError { .. } => return Err(StrangerError::Format),
            _ => {}
        }
        Ok(())
    }

    /// Reads the certificates of a text in PEM; at least one.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, StrangerError> {
        if BUNDLE_MAX * 2 * STRANGER_BYTES_MAX < text.len() {
            return Err(StrangerError::TooLarge);
        }
        let mut found = Vec::new();
        for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
            if BUNDLE_MAX <= found.len() {
                return Err(StrangerError::TooLarge);
            }
            found.push(Self::parse(&der.map_err(|_| StrangerError::Format)?)?);
        }
        if found.is_empty() {
            return Err(StrangerError::Nothing);
        }
        Ok(found)
    }

    /// Returns it in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns whether `now` lies within its time.
    pub fn is_good_at(&self, now: UnixTime) -> bool {
        self.begins <= now && now <= self.ends
    }

    /// Checks that it chains to one of `trusted` at `now`, by way of `between` where need be, for the use
    /// by clients. Returns the serial numbers of all that the chain holds, its own first and that of the
    /// trusted certificate last; `None` if there is no such chain.
    ///
    /// Only authorities are trusted so: a certificate that is none cannot vouch for another, whatever
    /// key or name the other has.
    ///
    /// The holder's possession of the key is the TLS handshake's to prove.
    pub fn chains_to(
        &self,
        trusted: &[Self],
        between: &[Vec<u8>],
        now: UnixTime,
    ) -> Option<Vec<Vec<u8>>> {
        let leaf = CertificateDer::from(self.der.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).ok()?;
        let authorities: Vec<(&Self, CertificateDer<'_>)> = trusted
            .iter()
            .filter(|it| it.is_authority && it.is_good_at(now))
            .map(|it| (it, CertificateDer::from(it.der.as_slice())))
            .collect();
        let anchors: Vec<_> = authorities
            .iter()
            .filter_map(|(_, der)| anchor_from_trusted_cert(der).ok())
            .collect();
        let between: Vec<_> = between
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let path = leaf
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                &between,
                at,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .ok()?;
        let mut serials = vec![self.serial.clone()];
        serials.extend(
            path.intermediate_certificates()
                .map(|it| trimmed(it.serial()).to_vec()),
        );
        // Several trusted certificates may have one name and key: each of their serials counts.
        let anchor = path.anchor();
        for (authority, der) in &authorities {
            let is_it = anchor_from_trusted_cert(der).is_ok_and(|it| it == *anchor);
            if is_it {
                serials.push(authority.serial.clone());
            }
        }
        Some(serials)
    }
}

/// Returns the public key of a text in PEM, as `SubjectPublicKeyInfo` in DER: the key itself, or that of
/// a certificate. The first of either counts.
pub fn pem_public_key(pem: &str) -> Option<Vec<u8>> {
    if 2 * STRANGER_BYTES_MAX < pem.len() {
        return None;
    }
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
    let (kind, der) = sections.next()?.ok()?;
    match kind {
        SectionKind::PublicKey => Some(der),
        SectionKind::Certificate => Some(public_key_of(&der.into())?.to_vec()),
        _ => None,
    }
}

/// Reads a revocation list in PEM: the serial numbers that it lists, big-endian, without leading zeros.
///
/// Its signature is not checked: it is an operator's word.
pub fn revoked_serials(pem: &str) -> Result<Vec<Vec<u8>>, StrangerError> {
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| StrangerError::Nothing)?;
    let (rest, list) =
        CertificateRevocationList::from_der(&der).map_err(|_| StrangerError::Format)?;
    if !rest.is_empty() {
        return Err(StrangerError::Format);
    }
    let mut serials = Vec::new();
    for revoked in list.iter_revoked_certificates() {
        if REVOKED_MAX <= serials.len() {
            return Err(StrangerError::TooLarge);
        }
        serials.push(trimmed(revoked.raw_serial()).to_vec());
    }
    Ok(serials)
}

/// Returns a number, big-endian, in decimal digits, as serial numbers are told.
pub fn decimal(number: &[u8]) -> String {
    // Digits of nine, the lowest first.
    let mut parts: Vec<u64> = vec![0];
    for byte in number {
        let mut carry = u64::from(*byte);
        for part in &mut parts {
            let value = *part * 256 + carry;
            *part = value % 1_000_000_000;
            carry = value / 1_000_000_000;
        }
        if carry != 0 {
            parts.push(carry);
        }
    }
    let mut text = parts.pop().unwrap_or_default().to_string();
    for part in parts.iter().rev() {
        write!(text, "{part:09}").expect("a string takes all");
    }
    text
}

/// Returns the text of an ASN.1 string in DER, as extensions of one's own hold it; `None` for anything
/// else.
pub fn string_content(der: &[u8]) -> Option<&str> {
    let (rest, value) = x509_parser::der_parser::asn1_rs::Any::from_der(der).ok()?;
    // UTF8String, NumericString, PrintableString, IA5String: all of them ASCII or UTF-8.
    let is_string = matches!(value.tag().0, 12 | 18 | 19 | 22);
    (rest.is_empty() && is_string)
        .then_some(value.data)
        .and_then(|content| std::str::from_utf8(content).ok())
}

#[derive(Clone, Copy)]
enum Attribute {
    CommonName,
    Unit,
}

fn texts(name: &X509Name<'_>, attribute: Attribute) -> Result<Vec<String>, StrangerError> {
    let oid = match attribute {
        Attribute::CommonName => &OID_X509_COMMON_NAME,
        Attribute::Unit => &OID_X509_ORGANIZATIONAL_UNIT,
    };
    let found = name.iter_by_oid(oid).take(NAMES_MAX + 1);
    let found: Result<Vec<_>, _> = found.map(|it| it.as_str().map(str::to_owned)).collect();
    let found = found.map_err(|_| StrangerError::Format)?;
    if NAMES_MAX < found.len() {
        return Err(StrangerError::TooLarge);
    }
    Ok(found)
}

fn trimmed(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros.min(serial.len().saturating_sub(1))..]
}

fn moment(secs: i64) -> UnixTime {
    UnixTime::EPOCH.plus(Duration::from_secs(u64::try_from(secs).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
