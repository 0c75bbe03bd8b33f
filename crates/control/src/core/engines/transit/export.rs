//! Showing keys to whoever may have them.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::der;
use super::kind::Kind;
use super::material;
use super::named::Named;
use super::stored::{self, Version};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// What of a key is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Encryption,
    Signing,
    Hmac,
    Public,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Default,
    Raw,
    Der,
    Pem,
}

/// Returns an Ed25519 public key as Vault shows it.
pub(super) fn ed25519_public(spki: &[u8]) -> String {
    BASE64.encode(material::ed25519_raw(spki))
}

impl Named<'_> {
    /// Answers `export/TYPE/NAME[/VERSION]`.
    pub(super) fn export(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        part: &str,
        version: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let kind = self.ring.kind;
        let refused = |text: &str| Err(Refusal::invalid(text));
        let part = match part {
            "encryption-key" => Part::Encryption,
            "signing-key" => Part::Signing,
            "hmac-key" => Part::Hmac,
            "public-key" => Part::Public,
            other => return refused(&format!("invalid export type: {other}")),
        };
        let form = match call.fields().text("format")?.as_deref() {
            None | Some("") => Form::Default,
            Some("raw") => Form::Raw,
            Some("der") => Form::Der,
            Some("pem") => Form::Pem,
            Some(other) => return refused(&format!("invalid format: {other}")),
        };
        if !self.ring.exportable && part != Part::Public {
            return refused("private key material is not exportable");
        }
        if part == Part::Encryption && !kind.encrypts() {
            return refused("encryption not supported for the key");
        }
        if part == Part::Signing && !kind.signs() {
            return refused("signing not supported for the key");
        }
        if part == Part::Public && (!kind.has_public() || self.ring.derived) {
            return refused(&format!(
                "unknown key type {} for export type public-key",
                kind.name()
            ));
        }
        let numbers = match version {
            None => self.ring.decryption_min..=self.ring.latest,
            Some("latest") => self.ring.latest..=self.ring.latest,
            Some(number) => {
                let number = number.strip_prefix('v').unwrap_or(number);
                let Ok(number) = number.parse::<u32>() else {
                    return refused("invalid key version");
                };
                if number < self.ring.decryption_min {
                    return refused("version for export is below minimum decryption version");
                }
                if self.ring.latest < number {
                    return refused("version does not exist or cannot be found");
                }
                number..=number
            }
        };
        let mut keys = Map::new();
        for number in numbers {
            let version = stored::version(ctx, &self.name, number)?;
            let text = written(kind, &version, part, form)?;
            keys.insert(number.to_string(), text.into());
        }
        Ok(Answer::json(json!({
            "name": self.name,
            "type": kind.name(),
            "keys": Value::Object(keys),
        })))
    }
}

fn written(kind: Kind, version: &Version, part: Part, form: Form) -> Result<String, Refusal> {
    let corrupt = || Refusal::corrupt("key version", "it cannot be parsed");
    let symmetric = part == Part::Hmac || part == Part::Encryption && kind.is_aead();
    let refused = || {
        let (key, forms) = match (symmetric, kind.curve_bytes()) {
            (true, _) => ("symmetric", "`` or `raw`"),
            (false, Some(_)) => ("ec", "``, `der`, or `pem`"),
            (false, None) => ("rsa", "``, `der`, or `pem`"),
        };
        Refusal::invalid(format!(
            "unknown format for {key} key; supported values are {forms}"
        ))
    };
    if symmetric {
        let key = if part == Part::Hmac {
            &version.hmac
        } else {
            &version.private
        };
        return match form {
            Form::Default | Form::Raw => Ok(BASE64.encode(key)),
            Form::Der | Form::Pem => Err(refused()),
        };
    }
    if part == Part::Public {
        return match form {
            Form::Default | Form::Raw if kind == Kind::Ed25519 => {
                Ok(ed25519_public(&version.public))
            }
            Form::Raw => Err(refused()),
            Form::Der => Ok(BASE64.encode(&version.public)),
            Form::Default | Form::Pem => Ok(der::pem("PUBLIC KEY", &version.public)),
        };
    }
    if version.private.is_empty() {
        return Ok(String::new());
    }
    if kind == Kind::Ed25519 && matches!(form, Form::Default | Form::Raw) {
        let long = material::ed25519_long(&version.private).ok_or_else(corrupt)?;
        return Ok(BASE64.encode(&long));
    }
    let pkcs8 = pkcs8(kind, version).ok_or_else(corrupt)?;
    match form {
        Form::Raw => Err(refused()),
        Form::Der => Ok(BASE64.encode(&pkcs8)),
        Form::Pem => Ok(der::pem("PRIVATE KEY", &pkcs8)),
        Form::Default if kind.curve_bytes().is_some() => {
            let sec1 = material::ec_sec1(kind, &pkcs8).ok_or_else(corrupt)?;
            Ok(der::pem("EC PRIVATE KEY", &sec1))
        }
        Form::Default => {
            let inner = der::inner_of_pkcs8(&pkcs8).ok_or_else(corrupt)?;
            Ok(der::pem("RSA PRIVATE KEY", inner))
        }
    }
}

fn pkcs8(kind: Kind, version: &Version) -> Option<Zeroizing<Vec<u8>>> {
    if kind == Kind::Ed25519 {
        let pair = material::ed25519(&version.private)?;
        let der = pair.to_pkcs8v1().ok()?;
        return Some(Zeroizing::new(der.as_ref().to_vec()));
    }
    Some(version.private.clone())
}
