//! Private keys: OpenSSH's own form without passphrase (PROTOCOL.key), and PKCS #8, PKCS #1 and
//! SEC 1 for keys that come from elsewhere.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin, EcPrivateKeyBin};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use bastide_api::Secret;
use data_encoding::BASE64;
use zeroize::Zeroize;

use super::public::{KeyKind, PublicKey};
use super::wire::{Malformed, Reader, Writer};

/// Longest private key that is read, in bytes of text: RSA of 8192 bits has 6,300.
pub const PRIVATE_KEY_BYTES_MAX: usize = 16 << 10;
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Letters in a line of PEM, as `ssh-keygen` writes it.
const LINE: usize = 70;

/// A private key. It is overwritten when it is dropped.
pub enum PrivateKey {
    /// Ed25519.
    Ed25519 {
        /// Of which both halves are made.
        seed: Secret<[u8; 32]>,
    },
    /// ECDSA.
    Ecdsa {
        /// On which curve.
        kind: KeyKind,
        /// The private number, big-endian, as long as the curve.
        scalar: Secret<Vec<u8>>,
        /// The public point, uncompressed.
        point: Vec<u8>,
    },
    /// RSA.
    Rsa(RsaParts),
}

/// The numbers of an RSA key, big-endian, without leading zeros.
pub struct RsaParts {
    pub(super) n: Vec<u8>,
    pub(super) e: Vec<u8>,
    pub(super) d: Secret<Vec<u8>>,
    pub(super) iqmp: Secret<Vec<u8>>,
    pub(super) p: Secret<Vec<u8>>,
    pub(super) q: Secret<Vec<u8>>,
}

/// Why a text is no private key. None of them tells what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not PEM.
    #[error("is not a private key in PEM")]
    NoPem,
    /// It has a passphrase.
    #[error("is protected by a passphrase, which is not asked for here")]
    Encrypted,
    /// Of a kind that does not sign certificates.
    #[error("is of a kind that is not supported")]
    Kind,
    /// Its parts do not fit each other.
    #[error("is damaged")]
    Damaged,
}

impl From<Malformed> for PrivateKeyError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl PrivateKey {
    /// Makes an Ed25519 key of random bytes.
    pub fn ed25519(seed: [u8; 32]) -> Self {
        Self::Ed25519 {
            seed: Secret::new(seed),
        }
    }

    /// Makes an ECDSA key; `draw` fills bytes at random, and is called until they are a key.
    pub fn ecdsa(kind: KeyKind, mut draw: impl FnMut(&mut [u8])) -> Result<Self, PrivateKeyError> {
        let (algorithm, size, top) = match kind {
            KeyKind::Ecdsa256 => (&ECDH_P256, 32, 0xff),
            KeyKind::Ecdsa384 => (&ECDH_P384, 48, 0xff),
            KeyKind::Ecdsa521 => (&ECDH_P521, 66, 0x01),
            _ => return Err(PrivateKeyError::Kind),
        };
        loop {
            let mut scalar = vec![0; size];
            draw(&mut scalar);
            scalar[0] &= top;
            let scalar = Secret::new(scalar);
            // The order of P-256 is the least near to a power of two: one draw in 2^32 fails.
            let Ok(key) = agreement::PrivateKey::from_private_key(algorithm, scalar.expose())
            else {
                continue;
            };
            let point = key
                .compute_public_key()
                .map_err(|_| PrivateKeyError::Damaged)?;
            return Ok(Self::Ecdsa {
                kind,
                scalar,
                point: point.as_ref().to_vec(),
            });
        }
    }

    /// Reads a key in PEM, of whichever of the forms.
    pub fn parse(text: &str) -> Result<Self, PrivateKeyError> {
        let (label, bytes) = pem(text)?;
        match label {
            "OPENSSH PRIVATE KEY" => openssh(bytes.expose()),
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Self::from_der(bytes.expose()),
            "ENCRYPTED PRIVATE KEY" => Err(PrivateKeyError::Encrypted),
            _ => Err(PrivateKeyError::Kind),
        }
    }

    /// Reads a key in DER: PKCS #8, SEC 1 or PKCS #1.
    pub fn from_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let seed = pair.seed().map_err(|_| PrivateKeyError::Damaged)?;
            let bytes: Curve25519SeedBin<'_> =
                seed.as_be_bytes().map_err(|_| PrivateKeyError::Damaged)?;
            return Ok(Self::ed25519(fixed(bytes.as_ref())?));
        }
        for (kind, algorithm) in [
            (KeyKind::Ecdsa256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (KeyKind::Ecdsa384, &ECDSA_P384_SHA384_FIXED_SIGNING),
            (KeyKind::Ecdsa521, &ECDSA_P521_SHA512_FIXED_SIGNING),
        ] {
            let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) else {
                continue;
            };
            let scalar: EcPrivateKeyBin<'_> = pair
                .private_key()
                .as_be_bytes()
                .map_err(|_| PrivateKeyError::Damaged)?;
            return Ok(Self::Ecdsa {
                kind,
                scalar: Secret::new(scalar.as_ref().to_vec()),
                point: pair.public_key().as_ref().to_vec(),
            });
        }
        rsa_of_der(der).map(Self::Rsa)
    }

    /// Returns the public half.
    pub fn public(&self) -> Result<PublicKey, PrivateKeyError> {
        let made = match self {
            Self::Ed25519 { seed } => {
                let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
                    .map_err(|_| PrivateKeyError::Damaged)?;
                PublicKey::ed25519(pair.public_key().as_ref())
            }
            Self::Ecdsa { kind, point, .. } => PublicKey::ecdsa(*kind, point),
            Self::Rsa(rsa) => PublicKey::rsa(&rsa.e, &rsa.n),
        };
        made.map_err(|_| PrivateKeyError::Damaged)
    }

    /// Returns it in OpenSSH's form, in PEM, without passphrase. `check` is any random number.
    pub fn to_openssh(&self, comment: &str, check: u32) -> Result<Secret<String>, PrivateKeyError> {
        let public = self.public()?;
        let mut inside = Writer(Vec::with_capacity(8 << 10));
        inside.u32(check).u32(check).string(public.kind().name());
        match self {
            Self::Ed25519 { seed } => {
                let point = &public.parts()[4..];
                let mut both = [seed.expose().as_slice(), point].concat();
                inside.string(point).string(&both);
                both.zeroize();
            }
            Self::Ecdsa {
                kind,
                scalar,
                point,
            } => {
                let (curve, _) = kind.curve().ok_or(PrivateKeyError::Kind)?;
                inside.string(curve).string(point).positive(scalar.expose());
            }
            Self::Rsa(rsa) => {
                inside.positive(&rsa.n).positive(&rsa.e);
                inside.positive(rsa.d.expose()).positive(rsa.iqmp.expose());
                inside.positive(rsa.p.expose()).positive(rsa.q.expose());
            }
        }
        inside.string(comment);
        for pad in 1..=u8::MAX {
            if inside.0.len().is_multiple_of(8) {
                break;
            }
            inside.u8(pad);
        }
        let inside = Secret::new(inside.0);
        let mut whole = Writer(Vec::with_capacity(16 << 10));
        whole.raw(MAGIC).string("none").string("none").string("");
        whole.u32(1).string(public.blob()).string(inside.expose());
        let whole = Secret::new(whole.0);
        let body = Secret::new(BASE64.encode(whole.expose()));
        let mut text = String::with_capacity(body.expose().len() + 512);
        text.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for line in body.expose().as_bytes().chunks(LINE) {
            text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            text.push('\n');
        }
        text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
        Ok(Secret::new(text))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], PrivateKeyError> {
    bytes.try_into().map_err(|_| PrivateKeyError::Damaged)
}

/// Takes PEM apart: the label, and the bytes.
fn pem(text: &str) -> Result<(&str, Secret<Vec<u8>>), PrivateKeyError> {
    use PrivateKeyError::NoPem;
    if PRIVATE_KEY_BYTES_MAX < text.len() {
        return Err(NoPem);
    }
    let text = text.trim();
    let rest = text.strip_prefix("-----BEGIN ").ok_or(NoPem)?;
    let (label, rest) = rest.split_once("-----").ok_or(NoPem)?;
    let (body, end) = rest.split_once("-----END ").ok_or(NoPem)?;
    if end.strip_suffix("-----") != Some(label) {
        return Err(NoPem);
    }
    if body.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PrivateKeyError::Encrypted);
    }
    let mut packed = Vec::with_capacity(body.len());
    packed.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let packed = Secret::new(packed);
    let bytes = BASE64.decode(packed.expose()).map_err(|_| NoPem)?;
    Ok((label, Secret::new(bytes)))
}

fn openssh(bytes: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(PrivateKeyError::Damaged)?);
    if reader.string()? != b"none" || reader.string()? != b"none" {
        return Err(PrivateKeyError::Encrypted);
    }
    reader.string()?;
    if reader.u32()? != 1 {
        return Err(PrivateKeyError::Damaged);
    }
    let public = reader.string()?;
    let mut inside = Reader::new(reader.string()?);
    if inside.u32()? != inside.u32()? {
        return Err(PrivateKeyError::Damaged);
    }
    let kind = KeyKind::of_name(inside.text()?).ok_or(PrivateKeyError::Kind)?;
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec());
    let key = match kind {
        KeyKind::Ed25519 => {
            inside.string()?;
            let both = inside.string()?;
            let seed = both.get(..32).ok_or(PrivateKeyError::Damaged)?;
            PrivateKey::ed25519(fixed(seed)?)
        }
        KeyKind::Ecdsa256 | KeyKind::Ecdsa384 | KeyKind::Ecdsa521 => {
            let (curve, size) = kind.curve().ok_or(PrivateKeyError::Kind)?;
            if inside.text()? != curve {
                return Err(PrivateKeyError::Damaged);
            }
            let point = inside.string()?.to_vec();
            let number = inside.positive()?;
            if size < number.len() {
                return Err(PrivateKeyError::Damaged);
            }
            let mut scalar = vec![0; size];
            scalar[size - number.len()..].copy_from_slice(number);
            PrivateKey::Ecdsa {
                kind,
                scalar: Secret::new(scalar),
                point,
            }
        }
        KeyKind::Rsa => PrivateKey::Rsa(RsaParts {
            n: inside.positive()?.to_vec(),
            e: inside.positive()?.to_vec(),
            d: secret(inside.positive()?),
            iqmp: secret(inside.positive()?),
            p: secret(inside.positive()?),
            q: secret(inside.positive()?),
        }),
        KeyKind::SkEcdsa256 | KeyKind::SkEd25519 => return Err(PrivateKeyError::Kind),
    };
    if key.public()?.blob() != public {
        return Err(PrivateKeyError::Damaged);
    }
    Ok(key)
}

/// Reads RSA's numbers of PKCS #1 (RFC 8017 A.1.2), or of PKCS #8 around it (RFC 5208 §5).
fn rsa_of_der(der: &[u8]) -> Result<RsaParts, PrivateKeyError> {
    /// `1.2.840.113549.1.1.1`, rsaEncryption.
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let mut outer = Der(element(&mut Der(der), 0x30)?);
    element(&mut outer, 0x02)?;
    let mut inner = outer;
    if outer.0.first() == Some(&0x30) {
        let mut algorithm = Der(element(&mut outer, 0x30)?);
        if element(&mut algorithm, 0x06)? != RSA {
            return Err(PrivateKeyError::Kind);
        }
        inner = Der(element(&mut Der(element(&mut outer, 0x04)?), 0x30)?);
        element(&mut inner, 0x02)?;
    }
    let mut number = || -> Result<Vec<u8>, PrivateKeyError> {
        let bytes = element(&mut inner, 0x02)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes[zeros..].to_vec())
    };
    let (n, e) = (number()?, number()?);
    let (d, p, q) = (number()?, number()?, number()?);
    Secret::new(number()?);
    Secret::new(number()?);
    let iqmp = number()?;
    Ok(RsaParts {
        n,
        e,
        d: Secret::new(d),
        iqmp: Secret::new(iqmp),
        p: Secret::new(p),
        q: Secret::new(q),
    })
}

/// Bytes of DER, read from the front.
#[derive(Clone, Copy)]
struct Der<'b>(&'b [u8]);

/// Takes the next element, which must have this tag, and returns its contents.
fn element<'b>(from: &mut Der<'b>, tag: u8) -> Result<&'b [u8], PrivateKeyError> {
    let damaged = PrivateKeyError::Damaged;
    let [found, first, rest @ ..] = from.0 else {
        return Err(damaged);
    };
    if *found != tag {
        return Err(damaged);
    }
    let (length, rest) = match *first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_at_checked(1).ok_or(damaged)?;
            (usize::from(length[0]), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_at_checked(2).ok_or(damaged)?;
            (usize::from(length[0]) << 8 | usize::from(length[1]), rest)
        }
        _ => return Err(damaged),
    };
    let (contents, rest) = rest.split_at_checked(length).ok_or(damaged)?;
    from.0 = rest;
    Ok(contents)
}

/// Returns `d mod (p - 1)`, which OpenSSH's form leaves out. Numbers are big-endian; `p` is odd.
///
/// Its time depends on the key. It runs where a key is read, at most once per start and authority,
/// and its result is never compared with what a stranger sends.
pub(super) fn crt_exponent(d: &[u8], p: &[u8]) -> Secret<Vec<u8>> {
    let mut modulus = p.to_vec();
    if let Some(last) = modulus.last_mut() {
        *last &= 0xfe;
    }
    // One byte more, for what is shifted out.
    let mut left = vec![0; modulus.len() + 1];
    modulus.insert(0, 0);
    for byte in d {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for digit in left.iter_mut().rev() {
                let next = *digit >> 7;
                *digit = *digit << 1 | carry;
                carry = next;
            }
            if left >= modulus && modulus.iter().any(|digit| *digit != 0) {
                let mut borrow = false;
                for (digit, less) in left.iter_mut().zip(&modulus).rev() {
                    let (once, under) = digit.overflowing_sub(*less);
                    let (twice, again) = once.overflowing_sub(u8::from(borrow));
                    *digit = twice;
                    borrow = under || again;
                }
            }
        }
    }
    modulus.zeroize();
    left.remove(0);
    Secret::new(left)
}
