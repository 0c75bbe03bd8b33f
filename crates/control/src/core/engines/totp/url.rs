//! Addresses `otpauth://totp/ISSUER:ACCOUNT?secret=…`, by which keys travel to devices.

use std::fmt::Write;

use super::Key;
use crate::core::path::percent_decode;

/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 4_096;

/// What is wanted of a key, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// In base32.
    pub secret: String,
    /// Who made it.
    pub issuer: String,
    /// Whose it is.
    pub account: String,
    /// `SHA1`, `SHA256` or `SHA512`.
    pub hash: String,
    /// Six or eight.
    pub digits: u64,
    /// In seconds.
    pub period: u64,
}

/// Why a text is no such address. Holds nothing of it: it has a secret in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is too long.
    #[error("the url is longer than {URL_BYTES_MAX} bytes")]
    Long,
    /// It does not begin with `otpauth://totp/`.
    #[error("the url is not of the form otpauth://totp/...")]
    Scheme,
    /// A percent sign stands for no byte, or the bytes for no text.
    #[error("the url is not valid")]
    Encoding,
    /// Digits or period are no number.
    #[error("a number in the url is not one")]
    Number,
}

/// Takes over what an address says.
pub fn read(text: &str, wanted: &mut Wanted) -> Result<(), UrlError> {
    if URL_BYTES_MAX < text.len() {
        return Err(UrlError::Long);
    }
    let rest = text
        .strip_prefix("otpauth://totp/")
        .ok_or(UrlError::Scheme)?;
    let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
    let decode = |text: &str| percent_decode(text).map_err(|_| UrlError::Encoding);
    let label = decode(label)?;
    match label.split_once(':') {
        Some((issuer, account)) => {
            issuer.trim().clone_into(&mut wanted.issuer);
            account.trim().clone_into(&mut wanted.account);
        }
        None => label.trim().clone_into(&mut wanted.account),
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(&value.replace('+', " "))?;
        let number = || value.parse().map_err(|_| UrlError::Number);
        match name {
            "secret" => wanted.secret = value,
            "issuer" => wanted.issuer = value,
            "algorithm" => wanted.hash = value.to_ascii_uppercase(),
            "digits" => wanted.digits = number()?,
            "period" => wanted.period = number()?,
            _ => {}
        }
    }
    Ok(())
}

/// Prints the address of a key.
pub fn print(key: &Key) -> String {
    format!(
        "otpauth://totp/{issuer}:{account}?algorithm={hash}&digits={digits}&issuer={issuer}\
         &period={period}&secret={secret}",
        issuer = encode(&key.issuer),
        account = encode(&key.account),
        hash = key.hash.as_str(),
        digits = key.digits,
        period = key.period,
        secret = key.secret,
    )
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
