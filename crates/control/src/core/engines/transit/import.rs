//! Keys that were made elsewhere.
//!
//! `ciphertext` is an AES-256 key under RSA-OAEP for the mount's wrapping key, 512 bytes, and after it
//! the imported key under AES-KWP (RFC 5649) with that key.

use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair};
use serde_json::json;
use zeroize::Zeroizing;

use super::batch::base64;
use super::cache::Cache;
use super::der;
use super::kind::Kind;
use super::material;
use super::named::{Named, Wanted};
use super::stored::{Version, Wrapping};
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::{Refusal, Work};
use crate::core::reply::Answer;

/// The length of what RSA-4096 seals, in bytes.
const WRAPPED_KEY_BYTES: usize = 512;
/// Longest key that is imported, in bytes: PKCS #8 of RSA-4096 has some 2400.
const IMPORTED_BYTES_MAX: usize = 8 << 10;
const WRAPPING_AT: &str = "wrapping";
/// Shortest and longest key of `hmac`, in bytes.
pub(super) const HMAC_BYTES: std::ops::RangeInclusive<usize> = 32..=512;

/// Returns the mount's wrapping key; the first time it is made, which is slow work.
fn wrapping(ctx: &mut Context<'_, '_>) -> Result<Wrapping, Refusal> {
    if let Some(known) = ctx.load(WRAPPING_AT)? {
        return Ok(known);
    }
    let made = ctx.draft.work(Work::RsaKey { bits: 4096 })?;
    let wrapping = Wrapping {
        private: Zeroizing::new(made.expose().clone()),
    };
    let is_right = material::public_of(Kind::Rsa4096, &wrapping.private).is_some();
    if !is_right {
        return Err(Refusal::Unavailable("try again".to_owned()));
    }
    ctx.save(WRAPPING_AT, &wrapping)?;
    Ok(wrapping)
}

/// Answers `wrapping_key`.
pub(super) fn wrapping_key(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let wrapping = wrapping(ctx)?;
    let public = material::public_of(Kind::Rsa4096, &wrapping.private);
    let public = public.ok_or_else(|| Refusal::corrupt("wrapping key", "it cannot be parsed"))?;
    Ok(Answer::json(json!({
        "public_key": der::pem("PUBLIC KEY", &public),
    })))
}

/// Unwraps an imported key.
fn unwrapped(
    ctx: &mut Context<'_, '_>,
    fields: Fields<'_>,
    text: &str,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let hash = fields.text("hash_function")?.unwrap_or_default();
    let algorithm = match hash.to_ascii_uppercase().as_str() {
        "" | "SHA256" => &OAEP_SHA256_MGF1SHA256,
        "SHA1" => &OAEP_SHA1_MGF1SHA1,
        "SHA384" => &OAEP_SHA384_MGF1SHA384,
        "SHA512" => &OAEP_SHA512_MGF1SHA512,
        _ => return Err(Refusal::invalid(format!("unknown hash function: {hash}"))),
    };
    let bytes = base64(text).map_err(Refusal::from)?;
    let short = || Refusal::invalid("provided ciphertext is too short");
    let (key, body) = bytes
        .split_at_checked(WRAPPED_KEY_BYTES)
        .ok_or_else(short)?;
    if body.is_empty() {
        return Err(short());
    }
    if IMPORTED_BYTES_MAX < body.len() {
        return Err(Refusal::invalid("provided ciphertext is too long"));
    }
    let wrapping = wrapping(ctx)?;
    let corrupt = |_| Refusal::corrupt("wrapping key", "it cannot be parsed");
    let pair = PrivateDecryptingKey::from_pkcs8(&wrapping.private)
        .map_err(|_| corrupt(aws_lc_rs::error::Unspecified))?;
    let pair = OaepPrivateDecryptingKey::new(pair).map_err(corrupt)?;
    // One text for all that can be wrong with what is sealed, whichever part it was.
    let wrong = |_| {
        Refusal::invalid("the key could not be unwrapped: wrap it for this mount's wrapping_key")
    };
    let mut ephemeral = Zeroizing::new(vec![0; pair.min_output_size()]);
    let length = pair
        .decrypt(algorithm, key, &mut ephemeral, None)
        .map_err(wrong)?
        .len();
    let ephemeral = KeyEncryptionKey::new(&AES_256, &ephemeral[..length]).map_err(wrong)?;
    let mut plain = Zeroizing::new(vec![0; body.len()]);
    let length = ephemeral
        .unwrap_with_padding(body, &mut plain)
        .map_err(wrong)?
        .len();
    plain.truncate(length);
    Ok(plain)
}

/// A key that comes in: its private half and its public half, either of which may be empty.
struct Incoming {
    private: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

fn incoming(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    kind: Kind,
    derived: bool,
) -> Result<Incoming, Refusal> {
    let fields = call.fields();
    let wrapped = fields.text("ciphertext")?.filter(|text| !text.is_empty());
    let public = fields.text("public_key")?.filter(|text| !text.is_empty());
    match (wrapped, public) {
        (Some(_), Some(_)) => Err(Refusal::invalid(
            "only one of the following fields, ciphertext and public_key, can be set",
        )),
        (None, None) => Err(Refusal::invalid(
            "one of the following fields, ciphertext and public_key, must be set",
        )),
        (Some(wrapped), None) => {
            let key = unwrapped(ctx, fields, &wrapped)?;
            private_half(kind, &key)
        }
        (None, Some(public)) => {
            if !kind.has_public() || derived {
                return Err(Refusal::invalid(
                    "provided type does not support public_key import",
                ));
            }
            let spki = der::public_of_pem(&public)
                .ok_or_else(|| Refusal::invalid("error parsing public key: not in PEM format"))?;
            if !material::is_public(kind, &spki) {
                return Err(Refusal::invalid(format!(
                    "error parsing public key: it is no key of type {}",
                    kind.name()
                )));
            }
            Ok(Incoming {
                private: Zeroizing::new(Vec::new()),
                public: spki,
            })
        }
    }
}

/// Takes a private key as it is imported: the bytes of a symmetric one, or PKCS #8 in DER.
fn private_half(kind: Kind, key: &[u8]) -> Result<Incoming, Refusal> {
    let size = || {
        Refusal::invalid(format!(
            "invalid key size {} bytes for key type {}",
            key.len(),
            kind.name()
        ))
    };
    let wrong = || {
        Refusal::invalid(format!(
            "error parsing asymmetric key: it is no PKCS #8 of type {}",
            kind.name()
        ))
    };
    let private = if kind == Kind::Hmac {
        if !HMAC_BYTES.contains(&key.len()) {
            return Err(size());
        }
        Zeroizing::new(key.to_vec())
    } else if let Some(length) = kind.key_bytes(0) {
        if key.len() != length {
            return Err(size());
        }
        Zeroizing::new(key.to_vec())
    } else if kind == Kind::Ed25519 {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map_err(|_| wrong())?;
        material::seed_of(&pair).ok_or_else(wrong)?
    } else if let Some(curve) = material::curve(kind) {
        // Written anew, so that what is stored is of one form.
        let pair = EcdsaKeyPair::from_pkcs8(curve.sign_asn1, key).map_err(|_| wrong())?;
        let der = pair.to_pkcs8v1().map_err(|_| wrong())?;
        Zeroizing::new(der.as_ref().to_vec())
    } else {
        material::rsa_canonical(key).ok_or_else(wrong)?
    };
    let public = material::public_of(kind, &private).ok_or_else(wrong)?;
    Ok(Incoming { private, public })
}

/// Answers `keys/NAME/import`.
pub(super) fn import(
    ctx: &mut Context<'_, '_>,
    cache: &Cache,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    if fields.get("convergent_encryption").is_some() {
        return Err(Refusal::invalid(
            "import cannot be used on keys with convergent encryption enabled",
        ));
    }
    let kind = super::kind_of(&fields.text("type")?.unwrap_or_default())?;
    let wanted = Wanted {
        derived: fields.flag("derived")?.unwrap_or(false),
        exportable: fields.flag("exportable")?.unwrap_or(false),
        plaintext_backup: fields.flag("allow_plaintext_backup")?.unwrap_or(false),
        imported: true,
        imported_rotates: fields.flag("allow_rotation")?.unwrap_or(false),
        rotate_secs: super::rotate_secs(fields)?.unwrap_or(0),
        ..Wanted::default()
    };
    super::fits(kind, &wanted)?;
    if wanted.rotate_secs != 0 && !wanted.imported_rotates {
        return Err(Refusal::invalid(
            "allow_rotation must be set to true if auto-rotation is enabled",
        ));
    }
    if Named::load(ctx, cache, name)?.is_some() {
        return Err(Refusal::invalid(
            "the import path cannot be used with an existing key; use import-version to rotate an \
             existing imported key",
        ));
    }
    let incoming = incoming(ctx, call, kind, wanted.derived)?;
    let wanted = Wanted {
        key_size: u32::try_from(incoming.private.len()).unwrap_or(0),
        ..wanted
    };
    let mut named = Named::begin(ctx, cache, name, kind, wanted);
    let version = material::assemble(ctx, kind, incoming.private, incoming.public);
    named.append(ctx, &version)?;
    Ok(Answer::done())
}

/// Answers `keys/NAME/import_version`.
pub(super) fn import_version(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    mut named: Named<'_>,
) -> Result<Answer, Refusal> {
    if !named.ring.imported {
        return Err(Refusal::invalid(
            "the import_version endpoint can only be used with an imported key",
        ));
    }
    let kind = named.ring.kind;
    let incoming = incoming(ctx, call, kind, named.ring.derived)?;
    let asked = call.fields().count("version")?;
    let latest = u64::from(named.ring.latest);
    let number = asked.unwrap_or(latest);
    let exists = u64::from(named.ring.available_min.max(1)) <= number && number <= latest;
    if !exists {
        return Err(Refusal::invalid("no such key version"));
    }
    let number = u32::try_from(number).unwrap_or(named.ring.latest);
    let known = super::stored::version(ctx, &named.name, number)?;
    let lacks_private = known.private.is_empty();
    let completes = lacks_private && !incoming.private.is_empty();
    if completes && *known.public == incoming.public {
        // The private half of what was known.
        let version = Version {
            private: incoming.private,
            ..known
        };
        named.put(ctx, number, &version)?;
        named.save(ctx)?;
        return Ok(Answer::done());
    }
    if asked.is_some() {
        return Err(Refusal::invalid(if completes {
            "cannot import key, key pair does not match"
        } else if lacks_private {
            "cannot add a public key to a key version that already has a public key set"
        } else {
            "private key imported, key version cannot be updated"
        }));
    }
    let version = material::assemble(ctx, kind, incoming.private, incoming.public);
    named.append(ctx, &version)?;
    Ok(Answer::done())
}
