//! Kinds of keys, and what each can do.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Aes128Gcm96,
    Aes256Gcm96,
    ChaCha20Poly1305,
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Hmac,
}

/// Each kind, its name, and its number in Vault's backups.
const ALL: &[(Kind, &str, u64)] = &[
    (Kind::Aes256Gcm96, "aes256-gcm96", 0),
    (Kind::EcdsaP256, "ecdsa-p256", 1),
    (Kind::Ed25519, "ed25519", 2),
    (Kind::Rsa2048, "rsa-2048", 3),
    (Kind::Rsa4096, "rsa-4096", 4),
    (Kind::ChaCha20Poly1305, "chacha20-poly1305", 5),
    (Kind::EcdsaP384, "ecdsa-p384", 6),
    (Kind::EcdsaP521, "ecdsa-p521", 7),
    (Kind::Aes128Gcm96, "aes128-gcm96", 8),
    (Kind::Rsa3072, "rsa-3072", 9),
    (Kind::Hmac, "hmac", 11),
];

/// OpenBao's number of `hmac`, where Vault has keys held elsewhere.
const HMAC_AT_OPENBAO: u64 = 10;

impl Kind {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let found = ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(kind, _, _)| *kind)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().1
    }

    /// Returns the number that it has in Vault's backups.
    pub(super) fn number(self) -> u64 {
        self.row().2
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        if number == HMAC_AT_OPENBAO {
            return Some(Self::Hmac);
        }
        let found = ALL.iter().find(|(_, _, known)| *known == number);
        found.map(|(kind, _, _)| *kind)
    }

    fn row(self) -> &'static (Self, &'static str, u64) {
        let found = ALL.iter().find(|(kind, _, _)| *kind == self);
        found.expect("each kind has a row")
    }

    /// Returns whether it encrypts under a nonce, and takes associated data.
    pub(super) fn is_aead(self) -> bool {
        matches!(
            self,
            Self::Aes128Gcm96 | Self::Aes256Gcm96 | Self::ChaCha20Poly1305
        )
    }

    /// Returns the length of an RSA key, in bits.
    pub(super) fn rsa_bits(self) -> Option<u32> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    /// Returns how many bytes a coordinate of the curve has.
    pub(super) fn curve_bytes(self) -> Option<usize> {
        match self {
            Self::EcdsaP256 => Some(32),
            Self::EcdsaP384 => Some(48),
            Self::EcdsaP521 => Some(66),
            _ => None,
        }
    }

    /// Returns what `keys/NAME` calls its versions.
    pub(super) fn version_name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "P-256",
            Self::EcdsaP384 => "P-384",
            Self::EcdsaP521 => "P-521",
            other => other.name(),
        }
    }

    pub(super) fn encrypts(self) -> bool {
        self.is_aead() || self.rsa_bits().is_some()
    }

    pub(super) fn signs(self) -> bool {
        self.has_public()
    }

    /// Returns whether it has a public half.
    pub(super) fn has_public(self) -> bool {
        self == Self::Ed25519 || self.curve_bytes().is_some() || self.rsa_bits().is_some()
    }

    pub(super) fn derives(self) -> bool {
        self.is_aead() || self == Self::Ed25519
    }

    /// Returns whether what is signed is hashed first.
    pub(super) fn hashes(self) -> bool {
        self.signs() && self != Self::Ed25519
    }

    /// Returns how long a symmetric key is, in bytes; `size` is what was asked for of `hmac`.
    pub(super) fn key_bytes(self, size: usize) -> Option<usize> {
        match self {
            Self::Aes128Gcm96 => Some(16),
            Self::Aes256Gcm96 | Self::ChaCha20Poly1305 => Some(32),
            Self::Hmac => Some(size),
            _ => None,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let unknown = || serde::de::Error::custom("no such kind of key");
        Self::parse(&name).ok_or_else(unknown)
    }
}
