//! Answers whether a certificate is revoked, to whoever asks.

use std::time::Duration;

use bastide_pki::x509::{
    Answered, CertStatus, OCSP_BYTES_MAX, OcspError, OcspRequest, OcspResponder, ocsp_failure,
    sign_ocsp,
};
use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::Pki;
use super::revoke::revocation;
use super::stored::{self, Usage};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Raw, Reply};

/// The field that holds a question in base64: the door puts it there.
const FIELD: &str = "ocsp_request";

/// Returns the fields of a question that was posted.
pub fn posted(question: &[u8]) -> Map<String, Value> {
    asked(BASE64.encode(question))
}

/// Returns the fields of a question in base64.
pub fn asked(question: String) -> Map<String, Value> {
    Map::from_iter([(FIELD.to_owned(), question.into())])
}

impl Pki {
    /// `ocsp`, `ocsp/<base64>`. Whatever is wrong is an answer of OCSP, not of this API.
    pub(super) fn ocsp(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Answer {
        let body = match self.ocsp_answer(ctx, call) {
            Ok(body) => body,
            Err(error) => ocsp_failure(error),
        };
        Answer::from(Reply::Raw(Raw {
            content_type: "application/ocsp-response",
            body,
        }))
    }

    fn ocsp_answer(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, OcspError> {
        let internal = |_: Refusal| OcspError::Internal;
        let config = self.memory.config(ctx).map_err(internal)?;
        if config.crl.ocsp_disable {
            return Err(OcspError::Unauthorized);
        }
        let question = question(call).ok_or(OcspError::Malformed)?;
        let request = OcspRequest::parse(&question)?;
        let index = stored::index(ctx).map_err(internal)?;
        let first = request.ids.first().ok_or(OcspError::Malformed)?;
        let mut found = None;
        for entry in index.issuers.iter().filter(|entry| !entry.key.is_empty()) {
            let issuer = self.memory.issuer_of(ctx, &entry.id).map_err(internal)?;
            found = issuer
                .filter(|it| it.stored.usage.has(Usage::OCSP) && first.is_of(&it.certificate));
            if found.is_some() {
                break;
            }
        }
        // Of issuers that are not ours nothing is said (RFC 6960, section 2.3), and none of ours
        // answers for another's certificates (CVE-2024-2660).
        let issuer = found.ok_or(OcspError::Unauthorized)?;
        let (Some(key), Some(scheme)) = (&issuer.key, issuer.revocation_scheme) else {
            return Err(OcspError::Unauthorized);
        };
        let mut answers = Vec::with_capacity(request.ids.len());
        for id in &request.ids {
            let status = if id.is_of(&issuer.certificate) {
                let group = &issuer.stored.group;
                match revocation(ctx, group, &id.serial).map_err(internal)? {
                    Some(revoked) => CertStatus::Revoked(revoked.at),
                    None => CertStatus::Good,
                }
            } else {
                CertStatus::Unknown
            };
            answers.push(Answered { id, status });
        }
        let expiry = config.crl.ocsp_expiry;
        let responder = OcspResponder {
            issuer: &issuer.certificate,
            key,
            scheme,
            now: ctx.now(),
            next_update: (expiry != 0).then(|| ctx.now().plus(Duration::from_secs(expiry))),
        };
        sign_ocsp(&responder, &answers, request.nonce.as_deref()).map_err(|_| OcspError::Internal)
    }
}

/// Returns the question: the body of a POST, or what stands in the path of a GET.
fn question(call: &Call<'_>) -> Option<Vec<u8>> {
    let posted = call.data.get(FIELD).and_then(|body| body.as_str());
    let text = match posted {
        Some(body) => body.to_owned(),
        None => {
            let mut text = call.path.strip_prefix("ocsp/")?.to_owned();
            // The slash that ends a path may be a letter of base64.
            if call.folder {
                text.push('/');
            }
            text
        }
    };
    if 2 * OCSP_BYTES_MAX < text.len() {
        return None;
    }
    BASE64.decode(text.as_bytes()).ok()
}
