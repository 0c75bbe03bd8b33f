//! Signing and verifying.

use std::sync::LazyLock;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    self, ED25519, KeyPair as _, ParsedPublicKey, RsaParameters, RsaPssSaltLength,
    RsaSignatureEncoding,
};
use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE, BASE64URL_NOPAD};
use serde_json::{Map, Value};

use super::cipher::{put_together, take_apart};
use super::der;
use super::fault::Fault;
use super::hashes::Hash;
use super::kind::Kind;
use super::material::{self, Key, Material};
use super::named::Named;
use crate::core::engine::Call;
use crate::core::refusal::Refusal;

/// The longest salt of RSA-PSS: of a key of 4096 bits with SHA-256, in bytes.
const SALT_BYTES_MAX: usize = 478;
/// Salts that are tried where none is named, after the longest and the hash's own length: those that
/// other programs write.
const SALTS_TRIED: &[usize] = &[0, 20, 32, 48, 64];

/// How to sign, or how it was signed.
pub(super) struct Manner {
    pub hash: Hash,
    pub prehashed: bool,
    pub marshaling: Marshaling,
    pub padding: Padding,
}

/// The form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marshaling {
    Asn1,
    Jws,
}

/// How RSA pads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Pss(Salt),
    Pkcs1v15,
}

/// How long the salt of RSA-PSS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Salt {
    /// As long as possible; when verifying, whatever it was.
    Auto,
    /// As long as the hash.
    Hash,
    /// This many bytes.
    Bytes(usize),
}

impl Manner {
    /// Reads it from the fields; the path's last part names the hash where there is one.
    pub(super) fn of(call: &Call<'_>, in_path: Option<&str>) -> Result<Self, Refusal> {
        let fields = call.fields();
        let mut name = in_path.unwrap_or_default().to_owned();
        for field in ["hash_algorithm", "algorithm"] {
            if name.is_empty() {
                name = fields.text(field)?.unwrap_or_default();
            }
        }
        if name.is_empty() {
            super::hashes::DEFAULT.clone_into(&mut name);
        }
        let hash = Hash::parse(&name)
            .ok_or_else(|| Refusal::invalid(format!("invalid hash algorithm {name:?}")))?;
        let marshaling = match fields.text("marshaling_algorithm")?.as_deref() {
            None | Some("" | "asn1") => Marshaling::Asn1,
            Some("jws") => Marshaling::Jws,
            Some(other) => {
                return Err(Refusal::invalid(format!(
                    "invalid marshaling type {other:?}"
                )));
            }
        };
        let salt = salt(&fields.text("salt_length")?.unwrap_or_default())?;
        let padding = match fields.text("signature_algorithm")?.as_deref() {
            None | Some("" | "pss") => Padding::Pss(salt),
            Some("pkcs1v15") => Padding::Pkcs1v15,
            Some(other) => {
                return Err(Refusal::invalid(format!(
                    "unsupported rsa signature algorithm {other}"
                )));
            }
        };
        let prehashed = fields.flag("prehashed")?.unwrap_or(false);
        if hash == Hash::None && (!prehashed || padding != Padding::Pkcs1v15) {
            return Err(Refusal::invalid(
                "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15",
            ));
        }
        Ok(Self {
            hash,
            prehashed,
            marshaling,
            padding,
        })
    }
}

/// Reads the length of a salt: `auto`, `hash`, or a number, where -1 and 0 are those two as in Go.
fn salt(text: &str) -> Result<Salt, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "" | "auto" | "0" => Ok(Salt::Auto),
        "hash" | "-1" => Ok(Salt::Hash),
        other => match other.parse::<i64>() {
            Ok(bytes) if 0 < bytes => Ok(Salt::Bytes(usize::try_from(bytes).unwrap_or(usize::MAX))),
            Ok(bytes) => Err(Refusal::invalid(format!("salt length is invalid: {bytes}"))),
            Err(_) => Err(Refusal::invalid(
                "salt length neither 'auto', 'hash', nor an int",
            )),
        },
    }
}

/// The encodings of one hash: with a salt of its length, with the longest, and with each other.
struct Encodings {
    pkcs1: &'static RsaSignatureEncoding,
    pss: RsaSignatureEncoding,
    pss_longest: RsaSignatureEncoding,
    pss_of: Vec<RsaSignatureEncoding>,
}

/// The same for verifying.
struct Parameters {
    pkcs1: &'static RsaParameters,
    pss: RsaParameters,
    pss_longest: RsaParameters,
    pss_of: Vec<RsaParameters>,
}

fn lengths() -> impl Iterator<Item = RsaPssSaltLength> {
    (0..=SALT_BYTES_MAX)
        .map(|bytes| RsaPssSaltLength::Custom(u16::try_from(bytes).unwrap_or(u16::MAX)))
}

// The library takes encodings that live for ever, so those of all salts are made, once.
static ENCODINGS: LazyLock<[Encodings; 3]> = LazyLock::new(|| {
    let of = |pkcs1, pss: fn() -> RsaSignatureEncoding| Encodings {
        pkcs1,
        pss: pss(),
        pss_longest: pss().with_pss_salt_length(RsaPssSaltLength::Max),
        pss_of: lengths()
            .map(|length| pss().with_pss_salt_length(length))
            .collect(),
    };
    [
        of(&signature::RSA_PKCS1_SHA256, || signature::RSA_PSS_SHA256),
        of(&signature::RSA_PKCS1_SHA384, || signature::RSA_PSS_SHA384),
        of(&signature::RSA_PKCS1_SHA512, || signature::RSA_PSS_SHA512),
    ]
});

static PARAMETERS: LazyLock<[Parameters; 3]> = LazyLock::new(|| {
    let of = |pkcs1, pss: fn() -> RsaParameters| Parameters {
        pkcs1,
        pss: pss(),
        pss_longest: pss().with_pss_salt_length(RsaPssSaltLength::Max),
        pss_of: lengths()
            .map(|length| pss().with_pss_salt_length(length))
            .collect(),
    };
    [
        of(&signature::RSA_PKCS1_2048_8192_SHA256, || {
            signature::RSA_PSS_2048_8192_SHA256
        }),
        of(&signature::RSA_PKCS1_2048_8192_SHA384, || {
            signature::RSA_PSS_2048_8192_SHA384
        }),
        of(&signature::RSA_PKCS1_2048_8192_SHA512, || {
            signature::RSA_PSS_2048_8192_SHA512
        }),
    ]
});

/// Returns the row of a hash that RSA signs with.
fn rsa_row(hash: Hash) -> Result<usize, Fault> {
    match hash {
        Hash::Sha256 => Ok(0),
        Hash::Sha384 => Ok(1),
        Hash::Sha512 => Ok(2),
        _ => Err(Fault::user(
            "RSA keys sign with sha2-256, sha2-384 and sha2-512 here",
        )),
    }
}

/// Returns the longest salt that an RSA key of this kind has room for.
fn salt_max(kind: Kind, hash: Hash) -> usize {
    let key = kind.rsa_bits().unwrap_or_default().div_ceil(8) as usize;
    let hash = hash.algorithm().map_or(0, digest::Algorithm::output_len);
    key.saturating_sub(hash + 2)
}

impl Manner {
    /// Returns what is signed: the input, or its hash.
    fn hashed(&self, kind: Kind, input: &[u8]) -> Vec<u8> {
        if kind.hashes() && !self.prehashed {
            self.hash.digest(input)
        } else {
            input.to_vec()
        }
    }

    fn check_salt(&self, kind: Kind) -> Result<(), Fault> {
        match self.padding {
            Padding::Pss(Salt::Bytes(bytes))
                if salt_max(kind, self.hash).min(SALT_BYTES_MAX) < bytes =>
            {
                Err(Fault::User(format!(
                    "requested salt length {bytes} is invalid"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Imports a hash for RSA, which takes those of the right length alone.
fn rsa_digest(hash: Hash, hashed: &[u8]) -> Result<Digest, Fault> {
    let algorithm = hash
        .algorithm()
        .ok_or_else(|| Fault::user("unsupported hash algorithm"))?;
    Digest::import_less_safe(hashed, algorithm)
        .map_err(|_| Fault::user("crypto/rsa: input must be hashed message"))
}

/// Imports a hash of any length for ECDSA. What is signed is its leftmost bits, as many as the
/// curve's order has, taken as a number (FIPS 186-5, 6.4.1): so a longer one is cut, and a shorter
/// one filled with zeros on the left, to the length of the hash that the library wants.
fn ecdsa_digest(kind: Kind, hashed: &[u8]) -> Result<Digest, Fault> {
    let algorithm = match kind {
        Kind::EcdsaP256 => &digest::SHA256,
        Kind::EcdsaP384 => &digest::SHA384,
        _ => &digest::SHA512,
    };
    let length = algorithm.output_len();
    if kind == Kind::EcdsaP521 && length < hashed.len() {
        return Err(Fault::user("a hash has at most 64 bytes"));
    }
    let cut = &hashed[..hashed.len().min(length)];
    let mut number = vec![0; length - cut.len()];
    number.extend_from_slice(cut);
    Digest::import_less_safe(&number, algorithm)
        .map_err(|_| Fault::Failed("could not take the hash".to_owned()))
}

impl Named<'_> {
    /// Signs. Returns the result's fields.
    pub(super) fn sign(
        &self,
        material: &Material,
        version: u32,
        manner: &Manner,
        context: &[u8],
        input: &[u8],
    ) -> Result<Map<String, Value>, Fault> {
        let kind = self.ring.kind;
        let failed = |_| Fault::Failed("could not sign".to_owned());
        let hashed = manner.hashed(kind, input);
        let mut public = None;
        let signed = match &material.key {
            Key::Ed25519(pair) => pair.sign(&hashed).as_ref().to_vec(),
            Key::Root(_) if kind == Kind::Ed25519 => {
                let pair = self
                    .ed25519(material, context)?
                    .ok_or_else(|| Fault::Failed("could not derive the key".to_owned()))?;
                public = Some(BASE64.encode(pair.public_key().as_ref()));
                pair.sign(&hashed).as_ref().to_vec()
            }
            Key::Ecdsa(pair) => {
                let digest = ecdsa_digest(kind, &hashed)?;
                let pair = match manner.marshaling {
                    Marshaling::Asn1 => &pair.asn1,
                    Marshaling::Jws => &pair.jws,
                };
                let signed = pair.sign_digest(&digest).map_err(failed)?;
                signed.as_ref().to_vec()
            }
            Key::Rsa(pair) => {
                manner.check_salt(kind)?;
                let row = &ENCODINGS[rsa_row(manner.hash)?];
                let encoding = match manner.padding {
                    Padding::Pkcs1v15 => row.pkcs1,
                    Padding::Pss(Salt::Hash) => &row.pss,
                    Padding::Pss(Salt::Auto) => &row.pss_longest,
                    Padding::Pss(Salt::Bytes(bytes)) => &row.pss_of[bytes],
                };
                let mut signed = vec![0; pair.sign.public_modulus_len()];
                let digest = rsa_digest(manner.hash, &hashed)?;
                let done = pair.sign.sign_digest(encoding, &digest, &mut signed);
                done.map_err(failed)?;
                signed
            }
            Key::Public => {
                return Err(Fault::user(
                    "requested version for signing does not contain a private part",
                ));
            }
            Key::Aead(_) | Key::Root(_) | Key::Hmac => {
                return Err(Fault::User(format!(
                    "key type {} does not support signing",
                    kind.name()
                )));
            }
        };
        let text = match manner.marshaling {
            Marshaling::Asn1 => BASE64.encode(&signed),
            Marshaling::Jws => BASE64URL_NOPAD.encode(&signed),
        };
        let mut shown = Map::new();
        shown.insert("signature".into(), put_together(version, &text).into());
        shown.insert("key_version".into(), version.into());
        if let Some(public) = public {
            shown.insert("public_key".into(), public.into());
        }
        Ok(shown)
    }

    /// Returns whether a signature, taken apart, is one of `input`.
    pub(super) fn verify(
        &self,
        material: &Material,
        manner: &Manner,
        context: &[u8],
        input: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        let kind = self.ring.kind;
        let corrupt = |_| Fault::Failed("the key cannot be parsed".to_owned());
        let hashed = manner.hashed(kind, input);
        if kind == Kind::Ed25519 {
            let public = match self.ed25519(material, context)? {
                Some(pair) => pair.public_key().as_ref().to_vec(),
                None => material::ed25519_raw(&material.public).to_vec(),
            };
            let key = ParsedPublicKey::new(&ED25519, public).map_err(corrupt)?;
            return Ok(key.verify_sig(&hashed, signature).is_ok());
        }
        if let Some(curve) = material::curve(kind) {
            let algorithm = match manner.marshaling {
                Marshaling::Asn1 if !der::is_ecdsa_signature(signature) => {
                    return Err(Fault::user("supplied signature is invalid"));
                }
                Marshaling::Asn1 => curve.verify_asn1,
                Marshaling::Jws => curve.verify_jws,
            };
            let key = ParsedPublicKey::new(algorithm, &material.public).map_err(corrupt)?;
            let digest = ecdsa_digest(kind, &hashed)?;
            return Ok(key.verify_digest_sig(&digest, signature).is_ok());
        }
        manner.check_salt(kind)?;
        let row = &PARAMETERS[rsa_row(manner.hash)?];
        let digest = rsa_digest(manner.hash, &hashed)?;
        let holds = |parameters: &'static RsaParameters| {
            let key = ParsedPublicKey::new(parameters, &material.public).map_err(corrupt)?;
            Ok(key.verify_digest_sig(&digest, signature).is_ok())
        };
        match manner.padding {
            Padding::Pkcs1v15 => holds(row.pkcs1),
            Padding::Pss(Salt::Hash) => holds(&row.pss),
            Padding::Pss(Salt::Bytes(bytes)) => holds(&row.pss_of[bytes]),
            Padding::Pss(Salt::Auto) => {
                let others = SALTS_TRIED.iter().map(|bytes| &row.pss_of[*bytes]);
                for parameters in [&row.pss_longest, &row.pss].into_iter().chain(others) {
                    if holds(parameters)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// Takes a signature apart: the version that it says it is of, and its bytes.
pub(super) fn parse_signature(text: &str, marshaling: Marshaling) -> Result<(i64, Vec<u8>), Fault> {
    let (version, body) = take_apart(text, "signature")?;
    let encoding = match marshaling {
        Marshaling::Asn1 => BASE64_MIME_PERMISSIVE,
        Marshaling::Jws => BASE64URL_NOPAD,
    };
    let bytes = encoding.decode(body.as_bytes());
    let bytes = bytes.map_err(|_| Fault::user("invalid base64 signature value"))?;
    Ok((version, bytes))
}
