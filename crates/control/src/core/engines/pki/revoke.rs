//! Revoking, and what is known of certificates that were issued.

use bastide_pki::x509::{Bundle, Certificate, PrivateKey};
use serde_json::{Map, Value, json};

use super::Pki;
use super::issuers::put_revoked;
use super::shown;
use super::stored::{self, Blob, Revocation, StoredCert};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, timestamp};

/// Reads a certificate that was issued.
pub fn certificate(
    ctx: &mut Context<'_, '_>,
    serial: &[u8],
) -> Result<Option<StoredCert>, Refusal> {
    ctx.load(&format!("cert/{}", shown::digits(serial)))
}

/// Returns when a certificate was revoked.
pub fn revocation(
    ctx: &mut Context<'_, '_>,
    group: &str,
    serial: &[u8],
) -> Result<Option<Revocation>, Refusal> {
    ctx.load(&format!("rev/{group}/{}", shown::digits(serial)))
}

impl Pki {
    /// `revoke`, `revoke-with-key`.
    pub(super) fn revoke_certificate(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        with_key: bool,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let text = fields.text("certificate")?.unwrap_or_default();
        let serial = fields.text("serial_number")?.unwrap_or_default();
        let (serial, cert) = match (serial.is_empty(), text.is_empty()) {
            (true, true) => {
                return Err(Refusal::invalid(
                    "The serial number or certificate to revoke must be provided.",
                ));
            }
            (false, false) => {
                return Err(Refusal::invalid(
                    "Must provide either the certificate or the serial to revoke; not both.",
                ));
            }
            (false, true) => {
                let bytes = shown::parse_serial(&serial);
                let found = match &bytes {
                    Some(bytes) => certificate(ctx, bytes)?,
                    None => None,
                };
                bytes.zip(found).ok_or_else(|| {
                    Refusal::invalid(format!("certificate with serial {serial} not found."))
                })?
            }
            (true, false) => self.brought(ctx, &text)?,
        };
        if with_key {
            prove_key(&fields.required("private_key")?, &cert.der.0)?;
        }
        let index = stored::index(ctx)?;
        for entry in &index.issuers {
            if stored::issuer(ctx, &entry.id)?.certificate == cert.der {
                return Err(Refusal::invalid(format!(
                    "adding issuer (id: {}) to its own CRL is not allowed: use issuer/{}/revoke",
                    entry.id, entry.id
                )));
            }
        }
        Self::revoke_now(ctx, &serial, &cert)
    }

    /// Revokes a certificate; once revoked, it stays as it was.
    pub(super) fn revoke_now(
        ctx: &mut Context<'_, '_>,
        serial: &[u8],
        cert: &StoredCert,
    ) -> Result<Answer, Refusal> {
        if let Some(before) = revocation(ctx, &cert.group, serial)? {
            return Ok(answered(&before));
        }
        let now = ctx.now();
        if cert.expires <= now {
            return Ok(Answer::done().warn(format!(
                "certificate with serial {} already expired; refusing to add to CRL",
                shown::serial(serial)
            )));
        }
        Self::note_revoked(ctx, &cert.group, serial, now, cert.expires)?;
        Ok(answered(&Revocation {
            at: now,
            expires: cert.expires,
        }))
    }

    /// Takes a certificate that whoever asks brought, if one of our issuers signed it.
    fn brought(
        &self,
        ctx: &mut Context<'_, '_>,
        text: &str,
    ) -> Result<(Vec<u8>, StoredCert), Refusal> {
        let bundle = Bundle::parse(text).map_err(|error| Refusal::invalid(error.to_string()))?;
        let ([theirs], []) = (bundle.certificates.as_slice(), bundle.keys.as_slice()) else {
            return Err(Refusal::invalid(
                "one certificate in PEM is expected, and no key",
            ));
        };
        if let Some(known) = certificate(ctx, &theirs.serial)? {
            if known.der.0 != theirs.der() {
                return Err(Refusal::invalid(
                    "another certificate with this serial number was issued here",
                ));
            }
            return Ok((theirs.serial.clone(), known));
        }
        let index = stored::index(ctx)?;
        for entry in &index.issuers {
            let Some(issuer) = self.memory.issuer_of(ctx, &entry.id)? else {
                continue;
            };
            if theirs.is_signed_by(&issuer.certificate) {
                let stored = StoredCert {
                    der: Blob(theirs.der().to_vec()),
                    issuer: entry.id.clone(),
                    group: entry.group.clone(),
                    expires: theirs.not_after,
                };
                ctx.save(&format!("cert/{}", shown::digits(&theirs.serial)), &stored)?;
                return Ok((theirs.serial.clone(), stored));
            }
        }
        Err(Refusal::invalid(
            "certificate was not issued by an issuer of this mount",
        ))
    }

    /// `certs/revoked`.
    pub(super) fn list_revoked(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let mut serials: Vec<String> = ctx
            .keys("rev/")?
            .iter()
            .filter_map(|key| key.split_once('/'))
            .map(|(_, digits)| with_colons(digits))
            .collect();
        serials.sort();
        Answer::keys(serials)
    }

    /// `certs`.
    pub(super) fn list_certificates(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let digits = ctx.keys("cert/")?;
        Answer::keys(digits.iter().map(|digits| with_colons(digits)).collect())
    }

    /// `cert/<serial>`.
    pub(super) fn read_certificate(
        ctx: &mut Context<'_, '_>,
        serial: &str,
    ) -> Result<Answer, Refusal> {
        let serial = shown::parse_serial(serial).ok_or(Refusal::Absent)?;
        let cert = certificate(ctx, &serial)?.ok_or(Refusal::Absent)?;
        let revoked = revocation(ctx, &cert.group, &serial)?;
        let mut data = Map::new();
        let pem = bastide_pki::x509::pem("CERTIFICATE", &cert.der.0);
        data.insert("certificate".to_owned(), pem.into());
        data.insert("revocation_time".to_owned(), 0.into());
        data.insert("revocation_time_rfc3339".to_owned(), "".into());
        data.insert("issuer_id".to_owned(), cert.issuer.into());
        if let Some(revoked) = revoked {
            put_revoked(&mut data, revoked.at);
        }
        Ok(Answer::data(data))
    }
}

fn answered(revocation: &Revocation) -> Answer {
    Answer::json(json!({
        "revocation_time": revocation.at.as_secs(),
        "revocation_time_rfc3339": timestamp(revocation.at),
        "state": "revoked",
    }))
}

fn with_colons(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 3 / 2);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && at % 2 == 0 {
            text.push(':');
        }
        text.push(digit);
    }
    text
}

/// Refuses whoever does not hold the key of a certificate. The whole public key is compared.
fn prove_key(text: &str, der: &[u8]) -> Result<(), Refusal> {
    let bundle = Bundle::parse(text).map_err(|error| Refusal::invalid(error.to_string()))?;
    let key: &PrivateKey = bundle
        .keys
        .first()
        .ok_or_else(|| Refusal::invalid("private_key is not a key in PEM"))?;
    let theirs = Certificate::parse(der).map_err(|error| Refusal::corrupt("certificate", error))?;
    if key.public() != &theirs.key {
        return Err(Refusal::invalid(
            "provided private key does not match the certificate",
        ));
    }
    Ok(())
}

/// The serial number that a lease of this engine stands for.
pub fn leased_serial(data: &Value) -> Option<Vec<u8>> {
    shown::parse_serial(data.get("serial_number")?.as_str()?)
}
