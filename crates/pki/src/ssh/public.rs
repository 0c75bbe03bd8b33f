//! Public keys, as they stand in `authorized_keys` and in certificates.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};

use super::wire::{Malformed, Reader, Writer};

/// Longest public key that is read, in bytes of text: RSA of 16384 bits has 2,800.
pub const PUBLIC_KEY_BYTES_MAX: usize = 8 << 10;
/// Shortest and longest RSA modulus, in bits. OpenSSH refuses what is shorter.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=16384;

/// The kinds of keys that are certified. DSA is not among them: OpenSSH has removed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA on NIST P-256.
    Ecdsa256,
    /// ECDSA on NIST P-384.
    Ecdsa384,
    /// ECDSA on NIST P-521.
    Ecdsa521,
    /// Ed25519.
    Ed25519,
    /// ECDSA on NIST P-256 in a security key.
    SkEcdsa256,
    /// Ed25519 in a security key.
    SkEd25519,
}

/// All kinds, with their names in keys and in certificates, and of how many strings a key consists.
const KINDS: &[(KeyKind, &str, &str, usize)] = &[
    (KeyKind::Rsa, "ssh-rsa", "ssh-rsa-cert-v01@openssh.com", 2),
    (
        KeyKind::Ecdsa256,
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        2,
    ),
    (
        KeyKind::Ecdsa384,
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        2,
    ),
    (
        KeyKind::Ecdsa521,
        "ecdsa-sha2-nistp521",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        2,
    ),
    (
        KeyKind::Ed25519,
        "ssh-ed25519",
        "ssh-ed25519-cert-v01@openssh.com",
        1,
    ),
    (
        KeyKind::SkEcdsa256,
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        3,
    ),
    (
        KeyKind::SkEd25519,
        "sk-ssh-ed25519@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        2,
    ),
];

impl KeyKind {
    fn row(self) -> &'static (KeyKind, &'static str, &'static str, usize) {
        let row = KINDS.iter().find(|row| row.0 == self);
        row.expect("every kind has a row")
    }

    /// Returns its name in keys, such as `ssh-ed25519`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Returns its name in certificates.
    pub fn certificate_name(self) -> &'static str {
        self.row().2
    }

    /// Returns of how many strings a key of it consists, after its name.
    pub(super) fn strings(self) -> usize {
        self.row().3
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    pub(super) fn of_certificate_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Returns the name of the curve (RFC 5656 §6.1), its bytes per coordinate, for ECDSA.
    pub(super) fn curve(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Ecdsa256 | Self::SkEcdsa256 => Some(("nistp256", 32)),
            Self::Ecdsa384 => Some(("nistp384", 48)),
            Self::Ecdsa521 => Some(("nistp521", 66)),
            Self::Rsa | Self::Ed25519 | Self::SkEd25519 => None,
        }
    }
}

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Longer than any key.
    #[error("is longer than {PUBLIC_KEY_BYTES_MAX} bytes")]
    TooLong,
    /// Not a line of `authorized_keys`.
    #[error("is not a line such as `ssh-ed25519 AAAA… comment`")]
    NoLine,
    /// A kind that is not certified, or a certificate.
    #[error("is of a kind that is not supported")]
    Kind,
    /// Its inside does not fit its kind.
    #[error("is damaged")]
    Damaged,
    /// RSA of a length that OpenSSH refuses.
    #[error("is RSA of fewer than 1024 or more than 16384 bits")]
    Length,
}

impl From<Malformed> for PublicKeyError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

/// A public key whose parts were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// In the form of the wire: its kind's name, then its parts.
    blob: Vec<u8>,
}

impl PublicKey {
    /// Parses a line: a kind, the key in base64, and perhaps a comment. Options before the key, as
    /// `authorized_keys` may have them, are refused.
    pub fn parse(text: &str) -> Result<Self, PublicKeyError> {
        if PUBLIC_KEY_BYTES_MAX < text.len() {
            return Err(PublicKeyError::TooLong);
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(PublicKeyError::NoLine);
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(data)) = (words.next(), words.next()) else {
            return Err(PublicKeyError::NoLine);
        };
        let blob = BASE64
            .decode(data.as_bytes())
            .map_err(|_| PublicKeyError::NoLine)?;
        let key = Self::from_blob(blob)?;
        if key.kind.name() != name {
            return Err(PublicKeyError::Damaged);
        }
        Ok(key)
    }

    /// Takes a key in the form of the wire.
    pub fn from_blob(blob: Vec<u8>) -> Result<Self, PublicKeyError> {
        let mut reader = Reader::new(&blob);
        let kind = KeyKind::of_name(reader.text()?).ok_or(PublicKeyError::Kind)?;
        check(kind, &mut reader)?;
        if !reader.is_empty() {
            return Err(PublicKeyError::Damaged);
        }
        Ok(Self { kind, blob })
    }

    /// Makes an RSA key of exponent and modulus, big-endian.
    pub(super) fn rsa(e: &[u8], n: &[u8]) -> Result<Self, PublicKeyError> {
        let mut writer = Writer::default();
        writer.string("ssh-rsa").positive(e).positive(n);
        Self::from_blob(writer.0)
    }

    /// Makes an ECDSA key of a point in uncompressed form.
    pub(super) fn ecdsa(kind: KeyKind, point: &[u8]) -> Result<Self, PublicKeyError> {
        let (curve, _) = kind.curve().ok_or(PublicKeyError::Kind)?;
        let mut writer = Writer::default();
        writer.string(kind.name()).string(curve).string(point);
        Self::from_blob(writer.0)
    }

    /// Makes an Ed25519 key.
    pub(super) fn ed25519(point: &[u8]) -> Result<Self, PublicKeyError> {
        let mut writer = Writer::default();
        writer.string("ssh-ed25519").string(point);
        Self::from_blob(writer.0)
    }

    /// Returns its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns it in the form of the wire.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Returns its parts, without its kind's name.
    pub(super) fn parts(&self) -> &[u8] {
        &self.blob[4 + self.kind.name().len()..]
    }

    /// Returns its length in bits: of the modulus, of the curve.
    pub fn bits(&self) -> usize {
        match self.kind {
            KeyKind::Rsa => {
                let mut reader = Reader::new(self.parts());
                let modulus = reader.string().and_then(|_| reader.positive());
                modulus.map_or(0, bits)
            }
            KeyKind::Ecdsa256 | KeyKind::SkEcdsa256 => 256,
            KeyKind::Ecdsa384 => 384,
            KeyKind::Ecdsa521 => 521,
            KeyKind::Ed25519 | KeyKind::SkEd25519 => 256,
        }
    }

    /// Returns it as a line, without comment and without an end of line.
    pub fn to_line(&self) -> String {
        format!("{} {}", self.kind.name(), BASE64.encode(&self.blob))
    }

    /// Returns the SHA-256 of the key.
    pub fn sha256(&self) -> [u8; 32] {
        let hash = digest(&SHA256, &self.blob);
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Returns the SHA-256 of the key, in hexadecimal.
    pub fn sha256_hex(&self) -> String {
        HEXLOWER.encode(&self.sha256())
    }

    /// Returns its fingerprint as OpenSSH prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_NOPAD.encode(&self.sha256()))
    }
}

fn bits(number: &[u8]) -> usize {
    let lead = number.first().map_or(8, |first| first.leading_zeros());
    number.len() * 8 - lead as usize
}

/// Checks the parts of a key of `kind`.
fn check(kind: KeyKind, reader: &mut Reader<'_>) -> Result<(), PublicKeyError> {
    match kind {
        KeyKind::Rsa => {
            let e = reader.positive()?;
            let n = reader.positive()?;
            let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
            if !odd(e) || e == [1] || 8 < e.len() || !odd(n) {
                return Err(PublicKeyError::Damaged);
            }
            if !RSA_BITS.contains(&bits(n)) {
                return Err(PublicKeyError::Length);
            }
        }
        KeyKind::Ecdsa256 | KeyKind::Ecdsa384 | KeyKind::Ecdsa521 | KeyKind::SkEcdsa256 => {
            let (curve, size) = kind.curve().ok_or(PublicKeyError::Kind)?;
            let (name, point) = (reader.text()?, reader.string()?);
            if name != curve || point.len() != 1 + 2 * size || point[0] != 4 {
                return Err(PublicKeyError::Damaged);
            }
        }
        KeyKind::Ed25519 | KeyKind::SkEd25519 => {
            if reader.string()?.len() != 32 {
                return Err(PublicKeyError::Damaged);
            }
        }
    }
    if matches!(kind, KeyKind::SkEcdsa256 | KeyKind::SkEd25519) && reader.text()?.is_empty() {
        return Err(PublicKeyError::Damaged);
    }
    Ok(())
}
