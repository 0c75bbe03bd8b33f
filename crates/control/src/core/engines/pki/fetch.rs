//! What everybody may fetch: certificates of issuers, their chains, their lists.

use bastide_pki::x509::pem;
use serde_json::json;

use super::Pki;
use super::crl::Kind;
use super::memo::Issuer;
use super::revoke::certificate;
use super::shown;
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Raw, Reply};

const DER: &str = "application/pkix-cert";
const CHAIN: &str = "application/pem-certificate-chain";
const CRL: &str = "application/pkix-crl";
const PEM_FILE: &str = "application/x-pem-file";

/// Answers bytes; none are status 204.
fn raw(content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
    Answer::from(Reply::Raw(Raw {
        content_type,
        body: body.into(),
    }))
}

/// What there is no issuer for is empty, not an error: nothing was configured yet.
fn or_empty<T>(found: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Refusal::Invalid(_) | Refusal::Failed(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

impl Pki {
    /// Answers a path that everybody may read; `None` if it is none.
    pub(super) fn fetch(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
    ) -> Option<Result<Answer, Refusal>> {
        Some(match call.segments().as_slice() {
            ["ca"] => self.fetch_ca(ctx, DER),
            ["ca", "pem"] => self.fetch_ca(ctx, CHAIN),
            ["ca_chain"] | ["cert", "ca_chain", "raw"] => self.fetch_chain(ctx),
            ["crl"] | ["cert", "crl", "raw"] => self.fetch_list(ctx, "", Kind::Whole, CRL),
            ["crl", "pem"] | ["cert", "crl", "raw", "pem"] => {
                self.fetch_list(ctx, "", Kind::Whole, PEM_FILE)
            }
            ["crl", "delta"] => self.fetch_list(ctx, "", Kind::Delta, CRL),
            ["crl", "delta", "pem"] => self.fetch_list(ctx, "", Kind::Delta, PEM_FILE),
            ["cert", "ca"] => self.shown_ca(ctx),
            ["cert", "ca_chain"] => self.shown_chain(ctx),
            ["cert", "crl"] => self.shown_list(ctx, "", Kind::Whole, "certificate"),
            ["cert", "delta-crl"] => self.shown_list(ctx, "", Kind::Delta, "certificate"),
            ["cert", serial] => Self::read_certificate(ctx, serial),
            ["cert", serial, "raw"] => Self::fetch_certificate(ctx, serial, DER),
            ["cert", serial, "raw", "pem"] => Self::fetch_certificate(ctx, serial, CHAIN),
            ["issuer", reference, "der"] => self.fetch_issuer(ctx, reference, DER),
            ["issuer", reference, "pem"] => self.fetch_issuer(ctx, reference, CHAIN),
            ["issuer", reference, "json"] => self.shown_issuer(ctx, reference),
            ["issuer", reference, "crl"] => self.shown_list(ctx, reference, Kind::Whole, "crl"),
            ["issuer", reference, "crl", "der"] => {
                self.fetch_list(ctx, reference, Kind::Whole, CRL)
            }
            ["issuer", reference, "crl", "pem"] => {
                self.fetch_list(ctx, reference, Kind::Whole, PEM_FILE)
            }
            ["issuer", reference, "crl", "delta"] => {
                self.shown_list(ctx, reference, Kind::Delta, "crl")
            }
            ["issuer", reference, "crl", "delta", "der"] => {
                self.fetch_list(ctx, reference, Kind::Delta, CRL)
            }
            ["issuer", reference, "crl", "delta", "pem"] => {
                self.fetch_list(ctx, reference, Kind::Delta, PEM_FILE)
            }
            _ => return None,
        })
    }

    fn fetch_ca(
        &self,
        ctx: &mut Context<'_, '_>,
        content_type: &'static str,
    ) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, "default"))?;
        Ok(issuer.map_or_else(|| raw(content_type, ""), |it| of(&it, content_type)))
    }

    fn fetch_issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
        content_type: &'static str,
    ) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, reference))?;
        Ok(of(&*issuer.ok_or(Refusal::Absent)?, content_type))
    }

    fn shown_issuer(&self, ctx: &mut Context<'_, '_>, reference: &str) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, reference))?.ok_or(Refusal::Absent)?;
        Ok(Answer::json(json!({
            "certificate": issuer.pem,
            "ca_chain": issuer.chain_pem,
            "issuer_id": issuer.stored.id,
            "issuer_name": issuer.stored.name,
        })))
    }

    fn fetch_chain(&self, ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, "default"))?;
        let text = issuer.map(|issuer| issuer.chain_pem.join("\n"));
        Ok(raw(CHAIN, text.unwrap_or_default()))
    }

    fn shown_ca(&self, ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, "default"))?.ok_or(Refusal::Absent)?;
        Ok(Answer::json(json!({
            "certificate": issuer.pem,
            "ca_chain": issuer.chain_pem.join("\n"),
            "issuer_id": issuer.stored.id,
            "revocation_time": 0,
            "revocation_time_rfc3339": "",
        })))
    }

    fn shown_chain(&self, ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, "default"))?.ok_or(Refusal::Absent)?;
        let chain = issuer.chain_pem.join("\n");
        Ok(Answer::json(json!({
            "certificate": chain,
            "ca_chain": chain,
            "revocation_time": 0,
            "revocation_time_rfc3339": "",
        })))
    }

    fn fetch_list(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
        kind: Kind,
        content_type: &'static str,
    ) -> Result<Answer, Refusal> {
        let der = self.list_of(ctx, reference, kind)?;
        Ok(if der.is_empty() || content_type == CRL {
            raw(content_type, der)
        } else {
            raw(content_type, pem("X509 CRL", &der))
        })
    }

    fn shown_list(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
        kind: Kind,
        field: &str,
    ) -> Result<Answer, Refusal> {
        let der = self.list_of(ctx, reference, kind)?;
        if der.is_empty() {
            return Err(Refusal::Absent);
        }
        let mut answer = json!({ "revocation_time": 0, "revocation_time_rfc3339": "" });
        answer[field] = pem("X509 CRL", &der).into();
        Ok(Answer::json(answer))
    }

    fn list_of(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
        kind: Kind,
    ) -> Result<Vec<u8>, Refusal> {
        let issuer = or_empty(self.memory.issuer(ctx, reference))?;
        match issuer {
            Some(issuer) => Self::list(ctx, &issuer.stored.group, kind),
            None if reference.is_empty() => Ok(Vec::new()),
            None => Err(Refusal::Absent),
        }
    }

    fn fetch_certificate(
        ctx: &mut Context<'_, '_>,
        serial: &str,
        content_type: &'static str,
    ) -> Result<Answer, Refusal> {
        let serial = shown::parse_serial(serial).ok_or(Refusal::Absent)?;
        let der = certificate(ctx, &serial)?.ok_or(Refusal::Absent)?.der.0;
        Ok(if content_type == DER {
            raw(DER, der)
        } else {
            raw(content_type, pem("CERTIFICATE", &der))
        })
    }
}

fn of(issuer: &Issuer, content_type: &'static str) -> Answer {
    if content_type == DER {
        raw(DER, issuer.certificate.der())
    } else {
        raw(content_type, issuer.pem.clone())
    }
}
