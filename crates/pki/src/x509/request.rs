//! Certificate requests (PKCS #10, RFC 2986).

use super::certificate::{
    AuthorityLimit, bits, read_constraints, read_extensions, read_usage, seal,
};
use super::der::{self, NotDer, Reader, Writer};
use super::extension::{Extensions, San};
use super::key::{KeyError, PrivateKey, PublicKey, SignatureScheme};
use super::name::Name;
use super::oid::{Oid, known};

/// Most bytes of a request in PEM.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Why a request is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not PKCS #10 in PEM.
    #[error("csr contains no data: it is not PKCS #10 in PEM")]
    Format,
    /// Its names are not all of kinds that are known.
    #[error(
        "csr holds alternative names that cannot be read: only DNS, mail, URI, address and text are signed"
    )]
    Names,
    /// Its key is not served.
    #[error("csr has a key that cannot be certified: {0}")]
    Key(#[from] KeyError),
    /// Whoever asks does not hold the key.
    #[error("csr is not signed by its own key, or with an algorithm that is not served")]
    Signature,
}

impl From<NotDer> for RequestError {
    fn from(_: NotDer) -> Self {
        Self::Format
    }
}

/// A request whose signature was checked: whoever sent it held the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Its key.
    pub key: PublicKey,
    /// The subject's name in DER, as it was sent.
    pub subject_der: Vec<u8>,
    /// The subject's name.
    pub subject: Name,
    /// The alternative names.
    pub names: Vec<San>,
    /// Bits of the key usage that is asked for.
    pub key_usage: Option<u16>,
    /// The extended key usages that are asked for.
    pub extended_usages: Vec<Oid>,
    /// Whether it is to be an authority.
    pub authority: Option<AuthorityLimit>,
    /// All extensions that are asked for: identifier, whether critical, content.
    pub extensions: Vec<(Oid, bool, Vec<u8>)>,
}

impl CertificateRequest {
    /// Reads a request in PEM and checks its signature.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        use rustls_pki_types::pem::PemObject;
        if REQUEST_BYTES_MAX < text.len() {
            return Err(RequestError::Format);
        }
        // The label that other programs used to write.
        let text = text.replace("NEW CERTIFICATE REQUEST", "CERTIFICATE REQUEST");
        let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
            .map_err(|_| RequestError::Format)?;
        Self::parse_der(der.as_ref())
    }

    fn parse_der(request: &[u8]) -> Result<Self, RequestError> {
        let mut outer = Reader::new(request);
        let mut parts = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let (tag, content, info) = parts.any()?;
        let (_, _, algorithm) = parts.any()?;
        let signature = bits(parts.value(der::BIT_STRING)?)?;
        parts.end()?;
        if tag != der::SEQUENCE {
            return Err(RequestError::Format);
        }
        let mut fields = Reader::new(content);
        if fields.value(der::INTEGER)? != [0] {
            return Err(RequestError::Format);
        }
        let (tag, _, subject_der) = fields.any()?;
        if tag != der::SEQUENCE {
            return Err(RequestError::Format);
        }
        let subject = Name::from_der(subject_der)?;
        let (_, _, spki) = fields.any()?;
        let extensions = match fields.optional(der::constructed(0))? {
            Some(attributes) => requested(attributes)?,
            None => Vec::new(),
        };
        fields.end()?;
        let key = PublicKey::from_spki(spki)?;
        let scheme = SignatureScheme::read(algorithm).ok_or(RequestError::Signature)?;
        if !key.verify(scheme, info, signature) {
            return Err(RequestError::Signature);
        }
        let find = |oid: &[u8]| {
            let found = extensions.iter().find(|(found, ..)| found.content() == oid);
            found.map(|(_, _, content)| content.as_slice())
        };
        let names = match find(known::SUBJECT_ALT_NAME) {
            Some(content) => San::read_all(content).map_err(|_| RequestError::Names)?,
            None => Vec::new(),
        };
        let extended_usages = match find(known::EXT_KEY_USAGE) {
            Some(content) => read_extended(content)?,
            None => Vec::new(),
        };
        Ok(Self {
            key,
            subject_der: subject_der.to_vec(),
            subject,
            names,
            key_usage: find(known::KEY_USAGE).map(read_usage).transpose()?,
            extended_usages,
            authority: find(known::BASIC_CONSTRAINTS)
                .map(read_constraints)
                .transpose()?
                .flatten(),
            extensions,
        })
    }
}

/// Reads the extensions out of a request's attributes.
fn requested(attributes: &[u8]) -> Result<Vec<(Oid, bool, Vec<u8>)>, NotDer> {
    let mut attributes = Reader::new(attributes);
    let mut found = None;
    while !attributes.is_empty() {
        let mut attribute = attributes.nested(der::SEQUENCE)?;
        let oid = attribute.value(der::OID)?;
        let values = attribute.value(der::SET)?;
        attribute.end()?;
        if oid == known::EXTENSION_REQUEST {
            // Twice would mean that a checker may read the one, and a signer the other.
            if found.replace(read_extensions(values)?).is_some() {
                return Err(NotDer);
            }
        }
    }
    Ok(found.unwrap_or_default())
}

fn read_extended(content: &[u8]) -> Result<Vec<Oid>, NotDer> {
    let mut outer = Reader::new(content);
    let mut list = outer.nested(der::SEQUENCE)?;
    outer.end()?;
    let mut found = Vec::new();
    while !list.is_empty() {
        found.push(Oid::from_content(list.value(der::OID)?));
    }
    Ok(found)
}

/// Makes a request for `key`; returns it in DER.
pub fn sign_request(
    subject: &[u8],
    extensions: &Extensions<'_>,
    key: &PrivateKey,
    scheme: SignatureScheme,
) -> Result<Vec<u8>, KeyError> {
    let mut info = Writer::with_room(512);
    info.nest(der::SEQUENCE, |out| {
        out.value(der::INTEGER, &[0]);
        out.raw(subject);
        out.raw(key.public().spki());
        out.nest(der::constructed(0), |out| {
            if extensions.is_empty() {
                return;
            }
            out.nest(der::SEQUENCE, |out| {
                out.value(der::OID, known::EXTENSION_REQUEST);
                out.nest(der::SET, |out| extensions.write(out));
            });
        });
    });
    seal(&info.into_bytes(), key, scheme)
}
