//! Signed tokens (RFC 7515, RFC 7519), read strictly: three parts, an algorithm that is allowed, no
//! header that would have to be understood.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::keys::{Alg, Key};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Longest name of a key in a token, in bytes.
const KID_BYTES_MAX: usize = 512;

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no signed token.
    #[error("token is not a JWS of three parts")]
    Format,
    /// Its algorithm is not one of those that are allowed, or none at all.
    #[error("token is signed with an algorithm that is not allowed")]
    Algorithm,
    /// It names headers that whoever reads it must understand (RFC 7515, section 4.1.11).
    #[error("token has critical headers, which are not understood")]
    Critical,
    /// No key that is known signed it.
    #[error("no known key successfully validated the token signature")]
    Signature,
}

/// A token that was read, and of which nothing is proven.
pub struct Unproven<'t> {
    alg: Alg,
    kid: Option<String>,
    /// Header and claims, as they are signed.
    signed: &'t str,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

/// The claims of a token whose signature holds. Only [`Unproven::verify`] makes one.
#[derive(Debug)]
pub struct Proven(Map<String, Value>);

impl<'t> Unproven<'t> {
    /// Reads a token.
    pub fn read(text: &'t str) -> Result<Self, TokenError> {
        if TOKEN_BYTES_MAX < text.len() {
            return Err(TokenError::Format);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Format)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Format)?;
        // A fourth part makes no claims: a dot is no letter of base64.
        let [header, claims, signature] = [header, claims, signature].map(|part| {
            BASE64URL_NOPAD
                .decode(part.as_bytes())
                .map_err(|_| TokenError::Format)
        });
        let header: Map<String, Value> =
            serde_json::from_slice(&header?).map_err(|_| TokenError::Format)?;
        let alg = header.get("alg").and_then(Value::as_str);
        let alg = alg.and_then(Alg::parse).ok_or(TokenError::Algorithm)?;
        // No extension is known here, and an empty list is not allowed: either way it is refused.
        // `b64` changes what is signed, and must be critical.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(TokenError::Critical);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(TokenError::Format),
        };
        Ok(Self {
            alg,
            kid,
            signed,
            claims: claims?,
            signature: signature?,
        })
    }

    /// Returns how it says that it is signed.
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// Checks the signature: by one of `keys`, and by an algorithm of `allowed`.
    pub fn verify(&self, keys: &[Key], allowed: &[Alg]) -> Result<Proven, TokenError> {
        if !allowed.contains(&self.alg) {
            return Err(TokenError::Algorithm);
        }
        let signed = self.signed.as_bytes();
        let holds = keys
            .iter()
            .filter(|key| key.is_named(self.kid.as_deref()))
            .any(|key| key.verifies(self.alg, signed, &self.signature));
        if !holds {
            return Err(TokenError::Signature);
        }
        let claims = serde_json::from_slice(&self.claims).map_err(|_| TokenError::Format)?;
        Ok(Proven(claims))
    }
}

impl Proven {
    /// Adds what its issuer told of the same person besides. What was signed stands.
    pub fn add(&mut self, more: Map<String, Value>) {
        for (name, value) in more {
            self.0.entry(name).or_insert(value);
        }
    }

    /// Returns a claim by name or, if it begins with a slash, by JSON pointer (RFC 6901).
    pub fn claim(&self, name: &str) -> Option<&Value> {
        match name.strip_prefix('/') {
            None => self.0.get(name),
            Some(rest) => {
                let (first, rest) = match rest.split_once('/') {
                    Some((first, rest)) => (first, format!("/{rest}")),
                    None => (rest, String::new()),
                };
                let first = first.replace("~1", "/").replace("~0", "~");
                self.0.get(&first)?.pointer(&rest)
            }
        }
        .filter(|value| !value.is_null())
    }

    /// Returns a claim that is a number of seconds since 1970 (RFC 7519, section 2); `Err` if it is
    /// something else.
    pub fn moment(&self, name: &str) -> Result<Option<i64>, TokenError> {
        match self.claim(name) {
            None => Ok(None),
            Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(secs), _) => Ok(Some(secs)),
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "fractions of a second do not count"
                )]
                (None, Some(secs)) if secs.abs() < 1e15 => Ok(Some(secs as i64)),
                _ => Err(TokenError::Format),
            },
            Some(_) => Err(TokenError::Format),
        }
    }
}
