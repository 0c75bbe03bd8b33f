//! How certificates and keys are shown: PEM, DER in base64, or all in one text.

use bastide_pki::x509::{PrivateKey, pem};
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::{Map, Value, json};

use super::memo::Issuer;
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;

/// In which form things are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PEM.
    Pem,
    /// DER, in base64.
    Der,
    /// PEM, with key and chain in one text.
    Bundle,
}

impl Format {
    /// Reads the field `format`.
    pub fn of(fields: Fields<'_>) -> Result<Self, Refusal> {
        match fields.text("format")?.as_deref() {
            None | Some("" | "pem") => Ok(Self::Pem),
            Some("der") => Ok(Self::Der),
            Some("pem_bundle") => Ok(Self::Bundle),
            Some(_) => Err(Refusal::invalid(
                "the \"format\" path parameter must be \"pem\", \"der\", or \"pem_bundle\"",
            )),
        }
    }

    /// Shows DER.
    pub fn show(self, label: &str, der: &[u8]) -> String {
        match self {
            Self::Der => BASE64.encode(der),
            Self::Pem | Self::Bundle => pem(label, der),
        }
    }
}

/// Whether a key is shown as PKCS #8, whatever its family.
pub fn is_pkcs8(fields: Fields<'_>) -> Result<bool, Refusal> {
    match fields.text("private_key_format")?.as_deref() {
        None | Some("" | "der" | "pem") => Ok(false),
        Some("pkcs8") => Ok(true),
        Some(_) => Err(Refusal::invalid(
            "the \"private_key_format\" path parameter must be \"der\" or \"pkcs8\"",
        )),
    }
}

/// Shows a private key, and of what family it is.
pub fn put_key(
    data: &mut Map<String, Value>,
    fields: Fields<'_>,
    format: Format,
    key: &PrivateKey,
) -> Result<(), Refusal> {
    let failed = |_| Refusal::Internal("key could not be encoded".to_owned());
    let as_pkcs8 = is_pkcs8(fields)?;
    let text = if format == Format::Der {
        let der = if as_pkcs8 {
            key.pkcs8()
        } else {
            key.traditional().map(|(_, der)| der)
        };
        BASE64.encode(der.map_err(failed)?.expose())
    } else {
        key.to_pem(as_pkcs8).map_err(failed)?.expose().clone()
    };
    data.insert("private_key".to_owned(), text.into());
    data.insert("private_key_type".to_owned(), key.kind().family().into());
    Ok(())
}

/// Shows the issuer and what is above it.
pub fn put_chain(data: &mut Map<String, Value>, format: Format, issuer: &Issuer, no_roots: bool) {
    let shown = match format {
        Format::Der => BASE64.encode(issuer.certificate.der()),
        Format::Pem | Format::Bundle => issuer.pem.clone(),
    };
    data.insert("issuing_ca".to_owned(), shown.into());
    let chain: Vec<Value> = issuer
        .chain
        .iter()
        .zip(&issuer.chain_pem)
        .filter(|((_, is_root), _)| !(no_roots && *is_root))
        .map(|((der, _), pem)| match format {
            Format::Der => BASE64.encode(der).into(),
            Format::Pem | Format::Bundle => pem.clone().into(),
        })
        .collect();
    data.insert("ca_chain".to_owned(), json!(chain));
}

/// Puts key, certificate and chain into one text, if that is asked for.
pub fn bundle(data: &mut Map<String, Value>, format: Format) {
    if format != Format::Bundle {
        return;
    }
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let chain = data.get("ca_chain").and_then(Value::as_array);
    let chain = chain.into_iter().flatten().filter_map(Value::as_str);
    let chain: Vec<String> = chain.map(str::to_owned).collect();
    let all: Vec<String> = text("private_key")
        .into_iter()
        .chain(text("certificate"))
        .chain(chain)
        .collect();
    data.insert("certificate".to_owned(), all.join("\n").into());
}

/// A serial number as Vault shows it: `1a:2b:…`.
pub fn serial(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(3 * bytes.len());
    for byte in bytes {
        if !text.is_empty() {
            text.push(':');
        }
        text.push_str(&HEXLOWER.encode(&[*byte]));
    }
    text
}

/// Returns the digits of a serial number, which stand in keys of the store.
pub fn digits(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Reads a serial number with colons, dashes, or neither; `None` if it is none.
pub fn parse_serial(text: &str) -> Option<Vec<u8>> {
    let plain: String = text
        .chars()
        .filter(|letter| !matches!(letter, ':' | '-'))
        .collect();
    let bytes = HEXLOWER_PERMISSIVE.decode(plain.as_bytes()).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = bytes[zeros..].to_vec();
    (!bytes.is_empty() && bytes.len() <= 20).then_some(bytes)
}
