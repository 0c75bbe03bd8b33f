//! Keys that sign JSON Web Tokens (RFC 7515, RFC 7518, RFC 8037), and their public halves as JSON
//! (RFC 7517).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaSignatureEncoding, UnparsedPublicKey,
    VerificationAlgorithm,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroize;

use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// Length of RSA keys that are made here, in bits.
const RSA_BITS: u32 = 2048;
/// Longest token that is looked at, in bytes.
pub const JWT_BYTES_MAX: usize = 64 << 10;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// On P-384 with SHA-384.
    Es384,
    /// On P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All names, in Vault's order.
    pub const NAMES: &[&str] = &[
        "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA",
    ];

    /// Returns its name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Returns the hash that it signs; of Ed25519, the one that bindings of tokens use.
    pub fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::Rs256 | Self::Es256 => &SHA256,
            Self::Rs384 | Self::Es384 => &SHA384,
            Self::Rs512 | Self::Es512 | Self::EdDsa => &SHA512,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Rs256 => Kind::Rsa(&RSA_PKCS1_SHA256, &RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Kind::Rsa(&RSA_PKCS1_SHA384, &RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Kind::Rsa(&RSA_PKCS1_SHA512, &RSA_PKCS1_2048_8192_SHA512),
            Self::Es256 => Kind::Ec(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &ECDSA_P256_SHA256_FIXED,
                "P-256",
            ),
            Self::Es384 => Kind::Ec(
                &ECDSA_P384_SHA384_FIXED_SIGNING,
                &ECDSA_P384_SHA384_FIXED,
                "P-384",
            ),
            Self::Es512 => Kind::Ec(
                &ECDSA_P521_SHA512_FIXED_SIGNING,
                &ECDSA_P521_SHA512_FIXED,
                "P-521",
            ),
            Self::EdDsa => Kind::Ed,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.as_str().to_owned()
    }
}

/// No algorithm has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown signing algorithm")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let all = [
            Self::Rs256,
            Self::Rs384,
            Self::Rs512,
            Self::Es256,
            Self::Es384,
            Self::Es512,
            Self::EdDsa,
        ];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownAlgorithm)
    }
}

impl TryFrom<String> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(text: String) -> Result<Self, UnknownAlgorithm> {
        text.parse()
    }
}

enum Kind {
    Rsa(
        &'static RsaSignatureEncoding,
        &'static dyn VerificationAlgorithm,
    ),
    Ec(
        &'static EcdsaSigningAlgorithm,
        &'static dyn VerificationAlgorithm,
        &'static str,
    ),
    Ed,
}

/// A key, as it is stored: behind the barrier.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its public half.
    pub public: PublicKey,
    /// PKCS #8 in base64.
    private: String,
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

/// The public half of a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Names it in the headers of tokens.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// As aws-lc-rs takes it: an RSA key's PKCS #1, a curve's uncompressed point, Ed25519's 32
    /// bytes; in base64.
    key: String,
}

fn internal(what: &str) -> Refusal {
    Refusal::Internal(format!("a signing key {what}"))
}

impl SigningKey {
    /// Makes a key. For RSA this asks for slow work, and the decision is made anew.
    pub fn make(ctx: &mut Context<'_, '_>, algorithm: Algorithm) -> Result<Self, Refusal> {
        let failed = |_| internal("could not be made");
        let rejected = |_| internal("is not one");
        let (private, public) = match algorithm.kind() {
            Kind::Rsa(..) => {
                let der = ctx.rsa_key(RSA_BITS)?.expose();
                let pair = rsa::KeyPair::from_pkcs8(der).map_err(rejected)?;
                (BASE64.encode(der), pair.public_key().as_ref().to_vec())
            }
            Kind::Ec(curve, ..) => {
                let pair = EcdsaKeyPair::generate(curve).map_err(failed)?;
                let der = pair.to_pkcs8v1().map_err(failed)?;
                (
                    BASE64.encode(der.as_ref()),
                    pair.public_key().as_ref().to_vec(),
                )
            }
            Kind::Ed => {
                let mut seed = ctx.entropy().bytes::<32>();
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(rejected)?;
                seed.zeroize();
                let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(failed)?;
                (
                    BASE64.encode(der.as_ref()),
                    pair.public_key().as_ref().to_vec(),
                )
            }
        };
        Ok(Self {
            public: PublicKey {
                kid: ctx.entropy().uuid(),
                algorithm,
                key: BASE64.encode(&public),
            },
            private,
        })
    }

    /// Signs claims: a token in compact form.
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<String, Refusal> {
        let header = json!({ "alg": self.public.algorithm.as_str(), "kid": self.public.kid });
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let claims = serde_json::to_vec(claims).expect("claims are plain JSON");
        let text = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(&claims)
        );
        let mut der = BASE64
            .decode(self.private.as_bytes())
            .map_err(|_| internal("is not base64"))?;
        let signature = self.signature(&der, text.as_bytes());
        der.zeroize();
        Ok(format!("{text}.{}", encode(&signature?)))
    }

    fn signature(&self, der: &[u8], text: &[u8]) -> Result<Vec<u8>, Refusal> {
        let rejected = |_| internal("is not one");
        let failed = |_| internal("does not sign");
        let hash = digest(self.public.algorithm.hash(), text);
        Ok(match self.public.algorithm.kind() {
            Kind::Rsa(encoding, _) => {
                let pair = rsa::KeyPair::from_pkcs8(der).map_err(rejected)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(encoding, &hash, &mut signature)
                    .map_err(failed)?;
                signature
            }
            Kind::Ec(curve, ..) => {
                let pair = EcdsaKeyPair::from_pkcs8(curve, der).map_err(rejected)?;
                let signature = pair.sign_digest(&hash).map_err(failed)?;
                signature.as_ref().to_vec()
            }
            Kind::Ed => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?;
                pair.sign(text).as_ref().to_vec()
            }
        })
    }
}

impl PublicKey {
    /// Returns it as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let key = BASE64.decode(self.key.as_bytes()).unwrap_or_default();
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut jwk = match self.algorithm.kind() {
            Kind::Rsa(..) => {
                let (modulus, exponent) = rsa_parts(&key).unwrap_or_default();
                json!({ "kty": "RSA", "n": encode(modulus), "e": encode(exponent) })
            }
            Kind::Ec(_, _, curve) => {
                let point = key.get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Kind::Ed => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&key) }),
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.kid.as_str().into();
        jwk["alg"] = self.algorithm.as_str().into();
        jwk
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = BASE64.decode(self.key.as_bytes()) else {
            return false;
        };
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm.kind() {
            Kind::Rsa(_, algorithm) | Kind::Ec(_, algorithm, _) => algorithm,
            Kind::Ed => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &key)
            .verify(text, signature)
            .is_ok()
    }
}

/// Returns modulus and exponent of an RSA key of ours, PKCS #1 in DER, without leading zeros.
fn rsa_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = der_value(der, 0x30)?;
    let (modulus, rest) = der_value(sequence, 0x02)?;
    let (exponent, _) = der_value(rest, 0x02)?;
    let bare = |number: &'_ [u8]| number.iter().take_while(|byte| **byte == 0).count();
    Some((&modulus[bare(modulus)..], &exponent[bare(exponent)..]))
}

/// Returns the contents of the first value, which must have this tag, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = der else {
        return None;
    };
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Why a text is no token that one of these keys signed. In words that may be told: they hold
/// nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It does not have the form.
    #[error("error parsing token: it is not a signed token in compact form")]
    Form,
    /// No key of ours has the id in its header, with the algorithm in its header.
    #[error("error validating signature: no key of ours has signed it")]
    Key,
    /// The signature is not the key's.
    #[error("error validating signature: it is not the key's")]
    Signature,
}

/// Returns the claims of a token that one of `keys` signed. Which key and which algorithm is what the
/// key's record says; the header only names the key, and must agree.
pub fn verified(text: &str, keys: &[PublicKey]) -> Result<Map<String, Value>, JwtError> {
    if JWT_BYTES_MAX < text.len() {
        return Err(JwtError::Form);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(JwtError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtError::Form)?;
    let object = |part: &str| -> Result<Map<String, Value>, JwtError> {
        let bytes = BASE64URL_NOPAD.decode(part.as_bytes());
        let bytes = bytes.map_err(|_| JwtError::Form)?;
        serde_json::from_slice(&bytes).map_err(|_| JwtError::Form)
    };
    let header = object(header)?;
    let claims = object(claims)?;
    let signature = BASE64URL_NOPAD
        .decode(signature.as_bytes())
        .map_err(|_| JwtError::Form)?;
    let told = |name: &str| header.get(name).and_then(Value::as_str);
    let key = keys
        .iter()
        .find(|key| told("kid") == Some(&key.kid) && told("alg") == Some(key.algorithm.as_str()))
        .ok_or(JwtError::Key)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(JwtError::Signature);
    }
    Ok(claims)
}
