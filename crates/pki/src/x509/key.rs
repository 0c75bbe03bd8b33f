//! Keys of certificates: of what kind, how they sign, and in which forms they are kept and shown.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::signature::{EcdsaSigningAlgorithm, UnparsedPublicKey, VerificationAlgorithm};
use bastide_api::Secret;

use super::der::{self, Reader, Writer};
use super::oid::known;
use super::pem::pem;

/// Fewest bits of an RSA key.
pub const RSA_BITS_MIN: u32 = 2048;
/// Most bits of an RSA key: signatures of longer ones stop a core for long.
pub const RSA_BITS_MAX: u32 = 4096;

/// Of what kind a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, of so many bits.
    Rsa(u32),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// Returns the word for its family: `rsa`, `ec` or `ed25519`.
    pub fn family(self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa",
            Self::P256 | Self::P384 | Self::P521 => "ec",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Returns its size in bits, as roles name it; 0 for Ed25519.
    pub fn bits(self) -> u32 {
        match self {
            Self::Rsa(bits) => bits,
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
            Self::Ed25519 => 0,
        }
    }

    /// Returns the kind of a family and a size; 0 bits are the family's usual size.
    pub fn of(family: &str, bits: u32) -> Option<Self> {
        Some(match (family, bits) {
            ("rsa", 0) => Self::Rsa(2048),
            ("rsa", 2048 | 3072 | 4096) => Self::Rsa(bits),
            ("ec", 0 | 256) => Self::P256,
            ("ec", 384) => Self::P384,
            ("ec", 521) => Self::P521,
            ("ed25519", _) => Self::Ed25519,
            _ => return None,
        })
    }

    /// Returns how such a key signs. `bits` of the hash and `pss` are for RSA: 0 means 256; curves
    /// have the hash of their own size.
    pub fn scheme(self, bits: u32, pss: bool) -> SignatureScheme {
        use SignatureScheme as S;
        match (self, bits, pss) {
            (Self::Rsa(_), 384, false) => S::RsaSha384,
            (Self::Rsa(_), 512, false) => S::RsaSha512,
            (Self::Rsa(_), _, false) => S::RsaSha256,
            (Self::Rsa(_), 384, true) => S::PssSha384,
            (Self::Rsa(_), 512, true) => S::PssSha512,
            (Self::Rsa(_), _, true) => S::PssSha256,
            (Self::P256, ..) => S::EcdsaSha256,
            (Self::P384, ..) => S::EcdsaSha384,
            (Self::P521, ..) => S::EcdsaSha512,
            (Self::Ed25519, ..) => S::Ed25519,
        }
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSA PKCS #1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RsaSha384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RsaSha512,
    /// RSASSA-PSS with SHA-256.
    PssSha256,
    /// RSASSA-PSS with SHA-384.
    PssSha384,
    /// RSASSA-PSS with SHA-512.
    PssSha512,
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// ECDSA with SHA-512.
    EcdsaSha512,
    /// Ed25519.
    Ed25519,
}

impl SignatureScheme {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::PssSha256,
        Self::PssSha384,
        Self::PssSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::Ed25519,
    ];

    /// Returns its name as Go's library spells it, which Vault's fields use.
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "SHA256WithRSA",
            Self::RsaSha384 => "SHA384WithRSA",
            Self::RsaSha512 => "SHA512WithRSA",
            Self::PssSha256 => "SHA256WithRSAPSS",
            Self::PssSha384 => "SHA384WithRSAPSS",
            Self::PssSha512 => "SHA512WithRSAPSS",
            Self::EcdsaSha256 => "ECDSAWithSHA256",
            Self::EcdsaSha384 => "ECDSAWithSHA384",
            Self::EcdsaSha512 => "ECDSAWithSHA512",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Writes its `AlgorithmIdentifier`.
    pub fn write(self, out: &mut Writer) {
        let (oid, pss) = match self {
            Self::RsaSha256 => (known::RSA_SHA256, None),
            Self::RsaSha384 => (known::RSA_SHA384, None),
            Self::RsaSha512 => (known::RSA_SHA512, None),
            Self::PssSha256 => (known::RSA_PSS, Some((known::SHA256, 32))),
            Self::PssSha384 => (known::RSA_PSS, Some((known::SHA384, 48))),
            Self::PssSha512 => (known::RSA_PSS, Some((known::SHA512, 64))),
            Self::EcdsaSha256 => (known::ECDSA_SHA256, None),
            Self::EcdsaSha384 => (known::ECDSA_SHA384, None),
            Self::EcdsaSha512 => (known::ECDSA_SHA512, None),
            Self::Ed25519 => (known::ED25519, None),
        };
        out.nest(der::SEQUENCE, |out| {
            out.value(der::OID, oid);
            match (self, pss) {
                (Self::RsaSha256 | Self::RsaSha384 | Self::RsaSha512, _) => {
                    out.value(der::NULL, &[]);
                }
                (_, Some((hash, salt))) => write_pss(out, hash, salt),
                _ => {}
            }
        });
    }

    /// Finds the scheme of an `AlgorithmIdentifier`, all of its DER.
    pub fn read(algorithm: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| {
            let mut own = Writer::default();
            scheme.write(&mut own);
            own.into_bytes() == algorithm
        })
    }
}

/// Parameters of RSASSA-PSS (RFC 4055, section 3.1).
fn write_pss(out: &mut Writer, hash: &[u8], salt: u8) {
    let algorithm = |out: &mut Writer| {
        out.nest(der::SEQUENCE, |out| {
            out.value(der::OID, hash);
            out.value(der::NULL, &[]);
        });
    };
    out.nest(der::SEQUENCE, |out| {
        out.nest(der::constructed(0), algorithm);
        out.nest(der::constructed(1), |out| {
            out.nest(der::SEQUENCE, |out| {
                out.value(der::OID, known::MGF1);
                algorithm(out);
            });
        });
        out.nest(der::constructed(2), |out| out.value(der::INTEGER, &[salt]));
    });
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not a key in a known form.
    #[error("it is not an unencrypted RSA, EC or Ed25519 key in DER")]
    Format,
    /// It is of a kind that is not served.
    #[error(
        "only RSA keys of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, P-256, P-384, P-521 and Ed25519 are served"
    )]
    Kind,
    /// The library could not draw or use it.
    #[error("cryptographic library refused it")]
    Library,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Vec<u8>,
    bits: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let parse = || {
            let mut outer = Reader::new(spki);
            let mut info = outer.nested(der::SEQUENCE)?;
            outer.end()?;
            let mut algorithm = info.nested(der::SEQUENCE)?;
            let bits = info.value(der::BIT_STRING)?;
            info.end()?;
            let oid = algorithm.value(der::OID)?;
            let parameters = if algorithm.is_empty() {
                None
            } else {
                Some(algorithm.any()?)
            };
            algorithm.end()?;
            let (&unused, bits) = bits.split_first().ok_or(der::NotDer)?;
            if unused != 0 {
                return Err(der::NotDer);
            }
            Ok((oid, parameters, bits))
        };
        let (oid, parameters, bits) = parse().map_err(|_| KeyError::Format)?;
        let parameters = parameters.map(|(tag, content, _)| (tag, content));
        let kind = match (oid, parameters) {
            (known::EC_PUBLIC_KEY, Some((der::OID, known::P256))) if bits.len() == 65 => {
                KeyKind::P256
            }
            (known::EC_PUBLIC_KEY, Some((der::OID, known::P384))) if bits.len() == 97 => {
                KeyKind::P384
            }
            (known::EC_PUBLIC_KEY, Some((der::OID, known::P521))) if bits.len() == 133 => {
                KeyKind::P521
            }
            (known::ED25519, None) if bits.len() == 32 => KeyKind::Ed25519,
            (known::RSA, Some((der::NULL, []))) => KeyKind::Rsa(rsa_bits(bits)?),
            _ => return Err(KeyError::Kind),
        };
        Ok(Self {
            kind,
            spki: spki.to_vec(),
            bits: bits.to_vec(),
        })
    }

    fn new(kind: KeyKind, bits: &[u8]) -> Self {
        let mut out = Writer::with_room(bits.len() + 32);
        out.nest(der::SEQUENCE, |out| {
            out.nest(der::SEQUENCE, |out| match kind {
                KeyKind::Rsa(_) => {
                    out.value(der::OID, known::RSA);
                    out.value(der::NULL, &[]);
                }
                KeyKind::Ed25519 => out.value(der::OID, known::ED25519),
                KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
                    out.value(der::OID, known::EC_PUBLIC_KEY);
                    out.value(der::OID, curve(kind));
                }
            });
            out.bits(bits);
        });
        Self {
            kind,
            spki: out.into_bytes(),
            bits: bits.to_vec(),
        }
    }

    /// Returns its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns its `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns its identifier: SHA-1 of the key's bits (RFC 5280, section 4.2.1.2, method 1).
    pub fn id(&self) -> Vec<u8> {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.bits)
            .as_ref()
            .to_vec()
    }

    /// Returns SHA-1 and SHA-256 of the key's bits: what OCSP asks for.
    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Checks a signature.
    pub fn verify(&self, scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> bool {
        use SignatureScheme as S;
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, scheme) {
            (KeyKind::Rsa(_), S::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa(_), S::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa(_), S::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::Rsa(_), S::PssSha256) => &signature::RSA_PSS_2048_8192_SHA256,
            (KeyKind::Rsa(_), S::PssSha384) => &signature::RSA_PSS_2048_8192_SHA384,
            (KeyKind::Rsa(_), S::PssSha512) => &signature::RSA_PSS_2048_8192_SHA512,
            (KeyKind::P256, S::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, S::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P256, S::EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (KeyKind::P384, S::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, S::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::P384, S::EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (KeyKind::P521, S::EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (KeyKind::P521, S::EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (KeyKind::P521, S::EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
            (KeyKind::Ed25519, S::Ed25519) => &signature::ED25519,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.bits)
            .verify(message, signature)
            .is_ok()
    }
}

fn curve(kind: KeyKind) -> &'static [u8] {
    match kind {
        KeyKind::P384 => known::P384,
        KeyKind::P521 => known::P521,
        _ => known::P256,
    }
}

/// Returns how many bits the modulus of an `RSAPublicKey` has.
fn rsa_bits(key: &[u8]) -> Result<u32, KeyError> {
    let modulus = || {
        let mut outer = Reader::new(key);
        let mut key = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let modulus = key.value(der::INTEGER)?;
        key.value(der::INTEGER)?;
        key.end()?;
        Ok::<_, der::NotDer>(modulus)
    };
    let modulus = modulus().map_err(|_| KeyError::Format)?;
    let digits = match modulus {
        [0, digits @ ..] => digits,
        digits => digits,
    };
    let first = digits.first().ok_or(KeyError::Format)?;
    let bits = u32::try_from(digits.len() * 8).map_err(|_| KeyError::Kind)? - first.leading_zeros();
    if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        Ok(bits)
    } else {
        Err(KeyError::Kind)
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key. What it holds is freed and wiped by the cryptographic library.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

impl PrivateKey {
    /// Draws a key from the system's random source. Takes up to seconds for RSA.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let pair = match kind {
            KeyKind::Rsa(bits) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    _ => return Err(KeyError::Kind),
                };
                Pair::Rsa(RsaKeyPair::generate(size).map_err(|_| KeyError::Library)?)
            }
            KeyKind::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| KeyError::Library)?)
            }
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
                let pair = EcdsaKeyPair::generate(ecdsa(kind));
                Pair::Ec(pair.map_err(|_| KeyError::Library)?)
            }
        };
        Self::new(pair, kind)
    }

    fn new(pair: Pair, kind: KeyKind) -> Result<Self, KeyError> {
        let bits: &[u8] = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        let kind = match kind {
            KeyKind::Rsa(_) => KeyKind::Rsa(rsa_bits(bits)?),
            other => other,
        };
        let public = PublicKey::new(kind, bits);
        Ok(Self { pair, public })
    }

    /// Reads PKCS #8.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let (oid, parameters) = pkcs8_algorithm(pkcs8).map_err(|_| KeyError::Format)?;
        match oid {
            known::RSA => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Format)?;
                Self::new(Pair::Rsa(pair), KeyKind::Rsa(0))
            }
            known::ED25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8);
                let pair = pair.map_err(|_| KeyError::Format)?;
                Self::new(Pair::Ed25519(pair), KeyKind::Ed25519)
            }
            known::EC_PUBLIC_KEY => {
                let kind = match parameters {
                    Some(known::P256) => KeyKind::P256,
                    Some(known::P384) => KeyKind::P384,
                    Some(known::P521) => KeyKind::P521,
                    _ => return Err(KeyError::Kind),
                };
                let pair = EcdsaKeyPair::from_pkcs8(ecdsa(kind), pkcs8);
                Self::new(Pair::Ec(pair.map_err(|_| KeyError::Format)?), kind)
            }
            _ => Err(KeyError::Kind),
        }
    }

    /// Reads an `RSAPrivateKey` (RFC 8017).
    pub fn from_pkcs1(pkcs1: &[u8]) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::from_der(pkcs1).map_err(|_| KeyError::Format)?;
        Self::new(Pair::Rsa(pair), KeyKind::Rsa(0))
    }

    /// Reads an `ECPrivateKey` (RFC 5915).
    pub fn from_sec1(sec1: &[u8]) -> Result<Self, KeyError> {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(ecdsa(kind), sec1) {
                return Self::new(Pair::Ec(pair), kind);
            }
        }
        Err(KeyError::Format)
    }

    /// Returns its kind.
    pub fn kind(&self) -> KeyKind {
        self.public.kind
    }

    /// Returns its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Returns it as PKCS #8.
    pub fn pkcs8(&self) -> Result<Secret<Vec<u8>>, KeyError> {
        let document = match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Library)?;
                return Ok(Secret::new(der.as_ref().to_vec()));
            }
            Pair::Ec(pair) => pair.to_pkcs8v1(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        let document = document.map_err(|_| KeyError::Library)?;
        Ok(Secret::new(document.as_ref().to_vec()))
    }

    /// Returns it in the form of its own family, and that form's PEM label: PKCS #1, SEC 1, or PKCS #8
    /// for Ed25519, which has no other.
    pub fn traditional(&self) -> Result<(&'static str, Secret<Vec<u8>>), KeyError> {
        match &self.pair {
            Pair::Rsa(_) => {
                let pkcs8 = self.pkcs8()?;
                let inner = pkcs8_inner(pkcs8.expose()).map_err(|_| KeyError::Library)?;
                Ok(("RSA PRIVATE KEY", Secret::new(inner.to_vec())))
            }
            Pair::Ec(pair) => {
                let der: EcPrivateKeyRfc5915Der<'_> =
                    pair.private_key().as_der().map_err(|_| KeyError::Library)?;
                Ok(("EC PRIVATE KEY", Secret::new(der.as_ref().to_vec())))
            }
            Pair::Ed25519(_) => Ok(("PRIVATE KEY", self.pkcs8()?)),
        }
    }

    /// Returns it in PEM: PKCS #8, or the form of its own family.
    pub fn to_pem(&self, as_pkcs8: bool) -> Result<Secret<String>, KeyError> {
        let (label, der) = if as_pkcs8 {
            ("PRIVATE KEY", self.pkcs8()?)
        } else {
            self.traditional()?
        };
        Ok(Secret::new(pem(label, der.expose())))
    }

    /// Signs.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        use SignatureScheme as S;
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match scheme {
                    S::RsaSha256 => &signature::RSA_PKCS1_SHA256,
                    S::RsaSha384 => &signature::RSA_PKCS1_SHA384,
                    S::RsaSha512 => &signature::RSA_PKCS1_SHA512,
                    S::PssSha256 => &signature::RSA_PSS_SHA256,
                    S::PssSha384 => &signature::RSA_PSS_SHA384,
                    S::PssSha512 => &signature::RSA_PSS_SHA512,
                    _ => return Err(KeyError::Kind),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .map_err(|_| KeyError::Library)?;
                Ok(signature)
            }
            Pair::Ec(pair) if scheme == self.public.kind.scheme(0, false) => {
                let signature = pair.sign(&random, message);
                Ok(signature.map_err(|_| KeyError::Library)?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) if scheme == S::Ed25519 => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ec(_) | Pair::Ed25519(_) => Err(KeyError::Kind),
        }
    }
}

fn ecdsa(kind: KeyKind) -> &'static EcdsaSigningAlgorithm {
    match kind {
        KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        KeyKind::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}

/// Returns the algorithm of a `PrivateKeyInfo` (RFC 5958), and its parameters if they are an identifier.
fn pkcs8_algorithm(pkcs8: &[u8]) -> Result<(&[u8], Option<&[u8]>), der::NotDer> {
    let mut info = Reader::new(pkcs8).nested(der::SEQUENCE)?;
    info.value(der::INTEGER)?;
    let mut algorithm = info.nested(der::SEQUENCE)?;
    let oid = algorithm.value(der::OID)?;
    Ok((oid, algorithm.optional(der::OID)?))
}

/// Returns the key inside a `PrivateKeyInfo`.
fn pkcs8_inner(pkcs8: &[u8]) -> Result<&[u8], der::NotDer> {
    let mut info = Reader::new(pkcs8).nested(der::SEQUENCE)?;
    info.value(der::INTEGER)?;
    info.value(der::SEQUENCE)?;
    info.value(der::OCTET_STRING)
}
