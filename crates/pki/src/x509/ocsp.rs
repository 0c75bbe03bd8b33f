//! Answers about single certificates (OCSP, RFC 6960).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use bastide_api::UnixTime;

use super::certificate::{Certificate, seal, serial};
use super::der::{self, NotDer, Reader, Writer};
use super::extension::write_one;
use super::key::{KeyError, PrivateKey, SignatureScheme};
use super::oid::known;

/// Most bytes of a question.
pub const OCSP_BYTES_MAX: usize = 2048;
/// Most certificates that one question is about; each costs a look-up.
const QUESTIONS_MAX: usize = 8;
/// Longest nonce that is echoed (RFC 9654).
const NONCE_BYTES_MAX: usize = 128;

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspError {
    /// It is not OCSP.
    Malformed,
    /// The responder failed.
    Internal,
    /// The responder does not answer this.
    Unauthorized,
}

impl From<NotDer> for OcspError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}

/// Which certificate a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertId {
    /// All of it in DER, to be repeated in the answer.
    whole: Vec<u8>,
    is_sha1: bool,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    /// The certificate's serial number, big-endian.
    pub serial: Vec<u8>,
}

impl CertId {
    /// Returns whether it is a certificate of this issuer: name and key are both compared.
    pub fn is_of(&self, issuer: &Certificate) -> bool {
        let algorithm = if self.is_sha1 {
            &SHA1_FOR_LEGACY_USE_ONLY
        } else {
            &SHA256
        };
        digest(algorithm, &issuer.subject).as_ref() == self.issuer_name
            && digest(algorithm, issuer.key.bits()).as_ref() == self.issuer_key
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest {
    /// What it is about: one at least.
    pub ids: Vec<CertId>,
    /// What whoever asks wants to find in the answer.
    pub nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads a question in DER. A signature of whoever asks is not looked at: all may ask.
    pub fn parse(question: &[u8]) -> Result<Self, OcspError> {
        if OCSP_BYTES_MAX < question.len() {
            return Err(OcspError::Malformed);
        }
        let mut outer = Reader::new(question);
        let mut parts = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let mut tbs = parts.nested(der::SEQUENCE)?;
        parts.optional(der::constructed(0))?;
        parts.end()?;
        if let Some(version) = tbs.optional(der::constructed(0))?
            && version != [der::INTEGER, 1, 0]
        {
            return Err(OcspError::Malformed);
        }
        tbs.optional(der::constructed(1))?;
        let mut list = tbs.nested(der::SEQUENCE)?;
        let mut ids = Vec::new();
        while !list.is_empty() {
            if QUESTIONS_MAX <= ids.len() {
                return Err(OcspError::Malformed);
            }
            let mut request = list.nested(der::SEQUENCE)?;
            let (tag, content, whole) = request.any()?;
            request.optional(der::constructed(0))?;
            request.end()?;
            if tag != der::SEQUENCE {
                return Err(OcspError::Malformed);
            }
            ids.push(cert_id(content, whole)?);
        }
        let nonce = match tbs.optional(der::constructed(2))? {
            Some(extensions) => nonce(extensions)?,
            None => None,
        };
        tbs.end()?;
        if ids.is_empty() {
            return Err(OcspError::Malformed);
        }
        Ok(Self { ids, nonce })
    }
}

fn cert_id(content: &[u8], whole: &[u8]) -> Result<CertId, OcspError> {
    let mut parts = Reader::new(content);
    let mut algorithm = parts.nested(der::SEQUENCE)?;
    let oid = algorithm.value(der::OID)?;
    algorithm.optional(der::NULL)?;
    algorithm.end()?;
    let is_sha1 = match oid {
        known::SHA1 => true,
        known::SHA256 => false,
        _ => return Err(OcspError::Malformed),
    };
    let issuer_name = parts.value(der::OCTET_STRING)?.to_vec();
    let issuer_key = parts.value(der::OCTET_STRING)?.to_vec();
    let serial = serial(parts.value(der::INTEGER)?)?;
    parts.end()?;
    Ok(CertId {
        whole: whole.to_vec(),
        is_sha1,
        issuer_name,
        issuer_key,
        serial,
    })
}

fn nonce(extensions: &[u8]) -> Result<Option<Vec<u8>>, OcspError> {
    let found = super::certificate::read_extensions(extensions)?;
    let nonce = found
        .into_iter()
        .find(|(oid, ..)| oid.content() == known::OCSP_NONCE);
    match nonce {
        Some((_, _, content)) if NONCE_BYTES_MAX + 4 < content.len() => Err(OcspError::Malformed),
        Some((_, _, content)) => Ok(Some(content)),
        None => Ok(None),
    }
}

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// It is not revoked.
    Good,
    /// It was revoked at this time.
    Revoked(UnixTime),
    /// It is not of this issuer.
    Unknown,
}

/// An answer about one certificate.
pub struct Answered<'a> {
    /// Which one.
    pub id: &'a CertId,
    /// What is known of it.
    pub status: CertStatus,
}

/// Who answers, and for how long the answer holds.
pub struct OcspResponder<'a> {
    /// The issuer: it answers for itself.
    pub issuer: &'a Certificate,
    /// Its key.
    pub key: &'a PrivateKey,
    /// How it signs.
    pub scheme: SignatureScheme,
    /// Now.
    pub now: UnixTime,
    /// Until when the answer is good; `None`: there is always a newer one.
    pub next_update: Option<UnixTime>,
}

/// Answers a question; returns the response in DER.
pub fn sign_ocsp(
    responder: &OcspResponder<'_>,
    answers: &[Answered<'_>],
    nonce: Option<&[u8]>,
) -> Result<Vec<u8>, KeyError> {
    let mut data = Writer::with_room(512);
    data.nest(der::SEQUENCE, |out| {
        out.nest(der::constructed(2), |out| {
            let id = digest(&SHA1_FOR_LEGACY_USE_ONLY, responder.issuer.key.bits());
            out.value(der::OCTET_STRING, id.as_ref());
        });
        out.generalized_time(responder.now);
        out.nest(der::SEQUENCE, |out| {
            for answer in answers {
                write_answer(out, responder, answer);
            }
        });
        if let Some(nonce) = nonce {
            out.nest(der::constructed(1), |out| {
                out.nest(der::SEQUENCE, |out| {
                    write_one(out, known::OCSP_NONCE, false, |out| out.raw(nonce));
                });
            });
        }
    });
    let data = data.into_bytes();
    let basic = seal(&data, responder.key, responder.scheme)?;
    let mut out = Writer::with_room(basic.len() + 32);
    out.nest(der::SEQUENCE, |out| {
        out.value(der::ENUMERATED, &[0]);
        out.nest(der::constructed(0), |out| {
            out.nest(der::SEQUENCE, |out| {
                out.value(der::OID, known::OCSP_BASIC);
                out.value(der::OCTET_STRING, &basic);
            });
        });
    });
    Ok(out.into_bytes())
}

fn write_answer(out: &mut Writer, responder: &OcspResponder<'_>, answer: &Answered<'_>) {
    out.nest(der::SEQUENCE, |out| {
        out.raw(&answer.id.whole);
        match answer.status {
            CertStatus::Good => out.value(der::context(0), &[]),
            CertStatus::Revoked(at) => {
                out.nest(der::constructed(1), |out| out.generalized_time(at));
            }
            CertStatus::Unknown => out.value(der::context(2), &[]),
        }
        out.generalized_time(responder.now);
        if let Some(until) = responder.next_update {
            out.nest(der::constructed(0), |out| out.generalized_time(until));
        }
    });
}

/// Returns the unsigned response that says why a question is not answered (RFC 6960, section 2.3).
pub fn ocsp_failure(error: OcspError) -> Vec<u8> {
    let code = match error {
        OcspError::Malformed => 1,
        OcspError::Internal => 2,
        OcspError::Unauthorized => 6,
    };
    vec![der::SEQUENCE, 3, der::ENUMERATED, 1, code]
}
