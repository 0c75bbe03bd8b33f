//! The keys of a version, parsed, and how they are made.

use std::sync::atomic::AtomicU64;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey};
use aws_lc_rs::aead::{NONCE_LEN, UnboundKey};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Pkcs8V1Der};
use aws_lc_rs::encoding::{EcPrivateKeyBin, EcPrivateKeyRfc5915Der, PublicKeyX509Der};
use aws_lc_rs::hkdf;
use aws_lc_rs::rsa::{self, OaepPrivateDecryptingKey, OaepPublicEncryptingKey};
use aws_lc_rs::rsa::{PrivateDecryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_ASN1,
    ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use bastide_api::UnixTime;
use zeroize::Zeroizing;

use super::der;
use super::kind::Kind;
use super::stored::Version;
use crate::core::engine::Context;
use crate::core::refusal::{Refusal, Work};

/// A version's keys, ready to use.
pub(super) struct Material {
    pub key: Key,
    /// The public half as SubjectPublicKeyInfo in DER; empty without one.
    pub public: Vec<u8>,
    pub hmac: Zeroizing<Vec<u8>>,
    /// Encryptions since the last whole block that is stored.
    pub used: AtomicU64,
}

/// A parsed key.
pub(super) enum Key {
    /// A symmetric key as it is used; it makes one cipher for all.
    Aead(Box<LessSafeKey>),
    /// What keys are derived from: a symmetric key, or an Ed25519 pair as seed and public key.
    Root(Zeroizing<Vec<u8>>),
    /// A key of `hmac` alone.
    Hmac,
    Ed25519(Ed25519KeyPair),
    Ecdsa(Box<Ecdsa>),
    Rsa(Box<Rsa>),
    /// Only the public half is known.
    Public,
}

/// An ECDSA pair, for either form of its signatures.
pub(super) struct Ecdsa {
    pub asn1: EcdsaKeyPair,
    pub jws: EcdsaKeyPair,
}

/// An RSA pair.
pub(super) struct Rsa {
    pub sign: rsa::KeyPair,
    pub decrypt: OaepPrivateDecryptingKey,
}

/// The algorithms of a curve.
pub(super) struct Curve {
    pub sign_asn1: &'static EcdsaSigningAlgorithm,
    pub sign_jws: &'static EcdsaSigningAlgorithm,
    pub verify_asn1: &'static EcdsaVerificationAlgorithm,
    pub verify_jws: &'static EcdsaVerificationAlgorithm,
}

pub(super) fn curve(kind: Kind) -> Option<Curve> {
    Some(match kind {
        Kind::EcdsaP256 => Curve {
            sign_asn1: &ECDSA_P256_SHA256_ASN1_SIGNING,
            sign_jws: &ECDSA_P256_SHA256_FIXED_SIGNING,
            verify_asn1: &ECDSA_P256_SHA256_ASN1,
            verify_jws: &ECDSA_P256_SHA256_FIXED,
        },
        Kind::EcdsaP384 => Curve {
            sign_asn1: &ECDSA_P384_SHA384_ASN1_SIGNING,
            sign_jws: &ECDSA_P384_SHA384_FIXED_SIGNING,
            verify_asn1: &ECDSA_P384_SHA384_ASN1,
            verify_jws: &ECDSA_P384_SHA384_FIXED,
        },
        Kind::EcdsaP521 => Curve {
            sign_asn1: &ECDSA_P521_SHA512_ASN1_SIGNING,
            sign_jws: &ECDSA_P521_SHA512_FIXED_SIGNING,
            verify_asn1: &ECDSA_P521_SHA512_ASN1,
            verify_jws: &ECDSA_P521_SHA512_FIXED,
        },
        _ => return None,
    })
}

fn aead(kind: Kind) -> Option<&'static Algorithm> {
    Some(match kind {
        Kind::Aes128Gcm96 => &AES_128_GCM,
        Kind::Aes256Gcm96 => &AES_256_GCM,
        Kind::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        _ => return None,
    })
}

/// Makes the cipher of a symmetric key of this kind; none if its length is wrong.
pub(super) fn cipher(kind: Kind, key: &[u8]) -> Option<LessSafeKey> {
    let key = UnboundKey::new(aead(kind)?, key).ok()?;
    Some(LessSafeKey::new(key))
}

/// The nonce's length, in bytes.
pub(super) const NONCE_BYTES: usize = NONCE_LEN;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derives `length` bytes with HKDF-SHA256, without salt, `context` being its info.
pub(super) fn derive(root: &[u8], context: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(vec![0; length]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(root)
        .expand(&[context], Length(length))
        .and_then(|okm| okm.fill(&mut out))
        .expect("at most 64 bytes are derived, and HKDF-SHA256 gives 8160");
    out
}

/// Returns the pair of an Ed25519 seed.
pub(super) fn ed25519(seed: &[u8]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

/// Returns an Ed25519 key as Vault keeps it: seed and public key.
pub(super) fn ed25519_long(seed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let pair = ed25519(seed)?;
    let long = [seed, pair.public_key().as_ref()].concat();
    Some(Zeroizing::new(long))
}

/// Returns the public half of a private key, as SubjectPublicKeyInfo in DER; empty for symmetric
/// keys, none if the key is not of this kind.
pub(super) fn public_of(kind: Kind, private: &[u8]) -> Option<Vec<u8>> {
    fn der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
        Some(key.as_der().ok()?.as_ref().to_vec())
    }
    if kind == Kind::Ed25519 {
        return der(ed25519(private)?.public_key());
    }
    if let Some(curve) = curve(kind) {
        return der(EcdsaKeyPair::from_pkcs8(curve.sign_asn1, private)
            .ok()?
            .public_key());
    }
    if let Some(bits) = kind.rsa_bits() {
        let pair = rsa::KeyPair::from_pkcs8(private).ok()?;
        let numbers = der::rsa_numbers(private)?;
        return (bits_of(numbers.n) == bits as usize).then(|| der(pair.public_key()))?;
    }
    Some(Vec::new())
}

/// Returns how many bits a positive number has.
fn bits_of(number: &[u8]) -> usize {
    let leading = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - leading as usize
}

/// Returns whether a SubjectPublicKeyInfo is a key of this kind.
pub(super) fn is_public(kind: Kind, spki: &[u8]) -> bool {
    use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RSA_PSS_2048_8192_SHA256};
    if let Some(curve) = curve(kind) {
        return ParsedPublicKey::new(curve.verify_asn1, spki).is_ok();
    }
    if let Some(bits) = kind.rsa_bits() {
        let size = PublicEncryptingKey::from_der(spki).map(|key| key.key_size_bits());
        return size.is_ok_and(|size| size == bits as usize)
            && ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, spki).is_ok();
    }
    kind == Kind::Ed25519 && ParsedPublicKey::new(&ED25519, spki).is_ok()
}

/// Returns the secret number of an elliptic key, of full length.
pub(super) fn ec_secret(kind: Kind, pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let pair = EcdsaKeyPair::from_pkcs8(curve(kind)?.sign_asn1, pkcs8).ok()?;
    let secret: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
    Some(Zeroizing::new(secret.as_ref().to_vec()))
}

/// Returns the two numbers of an elliptic key's point, both of full length, of its
/// SubjectPublicKeyInfo: its last bytes, uncompressed (RFC 5480, 2.2), as this program writes it and
/// the library has checked.
pub(super) fn ec_point(kind: Kind, spki: &[u8]) -> Option<Vec<u8>> {
    if !is_public(kind, spki) {
        return None;
    }
    let (head, point) = spki.split_at_checked(spki.len().checked_sub(2 * kind.curve_bytes()?)?)?;
    (head.last() == Some(&4)).then(|| point.to_vec())
}

/// Returns the SubjectPublicKeyInfo of an RSA key's public numbers.
pub(super) fn rsa_spki(n: &[u8], e: &[u8]) -> Option<Vec<u8>> {
    let components = rsa::PublicKeyComponents { n, e };
    let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

/// Returns an elliptic key as ECPrivateKey (RFC 5915), with its curve and point.
pub(super) fn ec_sec1(kind: Kind, pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let pair = EcdsaKeyPair::from_pkcs8(curve(kind)?.sign_asn1, pkcs8).ok()?;
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().ok()?;
    Some(Zeroizing::new(der.as_ref().to_vec()))
}

/// Makes PKCS #8 of an elliptic key's numbers.
pub(super) fn ec_pkcs8(kind: Kind, secret: &[u8], point: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let point = [&[4], point].concat();
    let algorithm = curve(kind)?.sign_asn1;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, &point).ok()?;
    Some(Zeroizing::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec()))
}

/// Makes PKCS #8 of an RSA key's numbers, which must belong together.
pub(super) fn rsa_pkcs8(numbers: &der::RsaNumbers<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let components = rsa::KeyPairComponents {
        public_key: rsa::PublicKeyComponents {
            n: numbers.n,
            e: numbers.e,
        },
        d: numbers.d,
        p: numbers.p,
        q: numbers.q,
        dP: numbers.dp,
        dQ: numbers.dq,
        qInv: numbers.qinv,
    };
    let pair = rsa::KeyPair::from_components(&components).ok()?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(Zeroizing::new(der.as_ref().to_vec()))
}

/// Writes an RSA key's PKCS #8 anew, in the one form that is stored.
pub(super) fn rsa_canonical(pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let pair = rsa::KeyPair::from_pkcs8(pkcs8).ok()?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(Zeroizing::new(der.as_ref().to_vec()))
}

/// Returns the seed of an Ed25519 pair.
pub(super) fn seed_of(pair: &Ed25519KeyPair) -> Option<Zeroizing<Vec<u8>>> {
    let seed = pair.seed().ok()?;
    let bytes = seed.as_be_bytes().ok()?;
    Some(Zeroizing::new(bytes.as_ref().to_vec()))
}

/// Makes a version with a new key. RSA keys are slow work: the decision is made anew with the result.
pub(super) fn make(
    ctx: &mut Context<'_, '_>,
    kind: Kind,
    key_size: u32,
) -> Result<Version, Refusal> {
    let failed = || Refusal::Internal("could not make a key".to_owned());
    let mut private = Zeroizing::new(Vec::new());
    if let Some(length) = kind.key_bytes(key_size as usize) {
        private.resize(length, 0);
        ctx.entropy().fill(&mut private);
    } else if kind == Kind::Ed25519 {
        private.resize(32, 0);
        ctx.entropy().fill(&mut private);
    } else if let Some(curve) = curve(kind) {
        let pair = EcdsaKeyPair::generate(curve.sign_asn1).map_err(|_| failed())?;
        let der = pair.to_pkcs8v1().map_err(|_| failed())?;
        private.extend_from_slice(der.as_ref());
    } else if let Some(bits) = kind.rsa_bits() {
        let made = ctx.draft.work(Work::RsaKey { bits })?;
        private.extend_from_slice(made.expose());
    }
    // The key that slow work made may be one of another length, if the request was decided anew on
    // something else.
    let changed = || Refusal::Unavailable("the key changed meanwhile: try again".to_owned());
    let public = public_of(kind, &private).ok_or_else(changed)?;
    Ok(assemble(ctx, kind, private, public))
}

/// Makes a version of a key, with a new key for `hmac`.
pub(super) fn assemble(
    ctx: &mut Context<'_, '_>,
    kind: Kind,
    private: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
) -> Version {
    let hmac = if kind == Kind::Hmac {
        private.clone()
    } else {
        let mut key = Zeroizing::new(vec![0; 32]);
        ctx.entropy().fill(&mut key);
        key
    };
    Version {
        created: ctx.now(),
        private,
        public: Zeroizing::new(public),
        hmac,
    }
}

impl Material {
    /// Parses a stored version; none if it is damaged.
    pub(super) fn parse(kind: Kind, derived: bool, version: &Version) -> Option<Self> {
        let private = &version.private;
        let key = if private.is_empty() {
            Key::Public
        } else if kind == Kind::Hmac {
            Key::Hmac
        } else if kind == Kind::Ed25519 {
            if derived {
                Key::Root(ed25519_long(private)?)
            } else {
                Key::Ed25519(ed25519(private)?)
            }
        } else if let Some(curve) = curve(kind) {
            Key::Ecdsa(Box::new(Ecdsa {
                asn1: EcdsaKeyPair::from_pkcs8(curve.sign_asn1, private).ok()?,
                jws: EcdsaKeyPair::from_pkcs8(curve.sign_jws, private).ok()?,
            }))
        } else if kind.rsa_bits().is_some() {
            let decrypt = PrivateDecryptingKey::from_pkcs8(private).ok()?;
            Key::Rsa(Box::new(Rsa {
                sign: rsa::KeyPair::from_pkcs8(private).ok()?,
                decrypt: OaepPrivateDecryptingKey::new(decrypt).ok()?,
            }))
        } else if derived {
            Key::Root(private.clone())
        } else {
            Key::Aead(Box::new(cipher(kind, private)?))
        };
        Some(Self {
            key,
            public: version.public.to_vec(),
            hmac: version.hmac.clone(),
            used: AtomicU64::new(0),
        })
    }

    /// Returns the key that RSA encrypts for.
    pub(super) fn rsa_public(&self) -> Option<OaepPublicEncryptingKey> {
        let key = PublicEncryptingKey::from_der(&self.public).ok()?;
        OaepPublicEncryptingKey::new(key).ok()
    }
}

/// Returns the raw public key of an Ed25519 SubjectPublicKeyInfo: its last 32 bytes (RFC 8410).
pub(super) fn ed25519_raw(spki: &[u8]) -> &[u8] {
    &spki[spki.len().saturating_sub(32)..]
}

/// Returns the SubjectPublicKeyInfo of a raw Ed25519 public key.
pub(super) fn ed25519_spki(raw: &[u8; 32]) -> Vec<u8> {
    const HEAD: [u8; 12] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    [&HEAD[..], raw].concat()
}

/// When a version was made, for clients that are told seconds.
pub(super) fn seconds(at: UnixTime) -> u64 {
    at.as_secs()
}
