//! Public keys that signatures of tokens are checked with: PEM, and sets of JSON Web Keys (RFC 7517).

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use bastide_pki::pem_public_key;
use bastide_pki::x509::{KeyKind, PublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

/// Most keys of a set, or of a configuration.
pub const KEYS_MAX: usize = 64;

/// How a token is signed (RFC 7518, section 3.1; RFC 8037). There is none without a key, and none whose
/// key both sides share: a public key is no secret, and no HMAC is checked with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// All of them, with their names.
pub const ALGS: &[(Alg, &str)] = &[
    (Alg::Rs256, "RS256"),
    (Alg::Rs384, "RS384"),
    (Alg::Rs512, "RS512"),
    (Alg::Ps256, "PS256"),
    (Alg::Ps384, "PS384"),
    (Alg::Ps512, "PS512"),
    (Alg::Es256, "ES256"),
    (Alg::Es384, "ES384"),
    (Alg::Es512, "ES512"),
    (Alg::EdDsa, "EdDSA"),
];

impl Alg {
    /// Parses a name; case counts.
    pub fn parse(name: &str) -> Option<Self> {
        let known = ALGS.iter().find(|(_, known)| *known == name);
        known.map(|(alg, _)| *alg)
    }

    /// Returns the hash that goes with it: what binds an access token to an ID token (OpenID Connect Core
    /// 1.0, section 3.1.3.6). For Ed25519 it is the hash that its signatures are made with.
    pub fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &digest::SHA256,
            Self::Rs384 | Self::Ps384 | Self::Es384 => &digest::SHA384,
            Self::Rs512 | Self::Ps512 | Self::Es512 | Self::EdDsa => &digest::SHA512,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => return None,
        })
    }

    /// Returns what checks signatures, and for which kind of key; `None` for RSA.
    fn other(self) -> Option<(KeyKind, &'static dyn signature::VerificationAlgorithm)> {
        Some(match self {
            Self::Es256 => (KeyKind::P256, &signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => (KeyKind::P384, &signature::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => (KeyKind::P521, &signature::ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => (KeyKind::Ed25519, &signature::ED25519),
            _ => return None,
        })
    }
}

/// A public key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name in its set.
    kid: Option<String>,
    /// The one algorithm that it is for, if it says so.
    alg: Option<Alg>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    /// Modulus and exponent, big-endian.
    Rsa(Vec<u8>, Vec<u8>),
    /// `SubjectPublicKeyInfo` in DER, of this kind.
    Spki(KeyKind, Vec<u8>),
    /// A point of a curve.
    Point(KeyKind, Vec<u8>),
}

impl Key {
    /// Reads a public key in PEM, or the one of a certificate in PEM.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let spki = pem_public_key(pem)?;
        let kind = PublicKey::from_spki(&spki).ok()?.kind();
        Some(Self {
            kid: None,
            alg: None,
            material: Material::Spki(kind, spki),
        })
    }

    /// Reads the keys of a set that are for signatures; those of kinds that are not known are left out.
    pub fn set(json: &[u8]) -> Option<Vec<Self>> {
        let set: Value = serde_json::from_slice(json).ok()?;
        let keys = set.get("keys")?.as_array()?;
        if KEYS_MAX < keys.len() {
            return None;
        }
        Some(keys.iter().filter_map(Self::from_jwk).collect())
    }

    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|use_| use_ != "sig") {
            return None;
        }
        let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa(bytes("n")?, bytes("e")?),
            ("EC", Some(curve)) => {
                let (kind, length) = match curve {
                    "P-256" => (KeyKind::P256, 32_usize),
                    "P-384" => (KeyKind::P384, 48),
                    "P-521" => (KeyKind::P521, 66),
                    _ => return None,
                };
                // RFC 7518, section 6.2.1.2, asks for the full length, but some leave out zeros in front.
                let mut point = vec![4];
                for part in [bytes("x")?, bytes("y")?] {
                    let zeros = length.checked_sub(part.len())?;
                    point.resize(point.len() + zeros, 0);
                    point.extend_from_slice(&part);
                }
                Material::Point(kind, point)
            }
            ("OKP", Some("Ed25519")) => Material::Point(KeyKind::Ed25519, bytes("x")?),
            _ => return None,
        };
        // A key that says it is for an algorithm that is not known here is for none that is.
        let alg = match text("alg") {
            Some(name) => Some(Alg::parse(name)?),
            None => None,
        };
        Some(Self {
            kid: text("kid").map(str::to_owned),
            alg,
            material,
        })
    }

    /// Returns whether a token that names `kid` may be signed with this key: one of the two may name
    /// none.
    pub fn is_named(&self, kid: Option<&str>) -> bool {
        match (&self.kid, kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        }
    }

    /// Returns whether this key signed `message` by `alg`. A key of another kind did not.
    pub fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        if self.alg.is_some_and(|own| own != alg) {
            return false;
        }
        match (&self.material, alg.rsa(), alg.other()) {
            (Material::Rsa(n, e), Some(parameters), _) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            (Material::Spki(KeyKind::Rsa(_), spki), Some(parameters), _) => {
                let key = UnparsedPublicKey::new(parameters, spki);
                key.verify(message, signature).is_ok()
            }
            (Material::Spki(kind, key) | Material::Point(kind, key), _, Some((of, checks)))
                if *kind == of =>
            {
                let key = UnparsedPublicKey::new(checks, key);
                key.verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}
