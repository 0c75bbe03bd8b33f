//! Hashes by the names that Vault gives them, and HMAC with each.

use aws_lc_rs::{constant_time, digest};
use zeroize::Zeroizing;

/// The longest HMAC block that there is: 144 bytes (SHA3-224); ours end at 136.
const BLOCK_BYTES_MAX: usize = 144;

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    /// What is given is signed as it is.
    None,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha3x256,
    Sha3x384,
    Sha3x512,
}

/// Used where none is named.
pub(super) const DEFAULT: &str = "sha2-256";

impl Hash {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "sha1" => Self::Sha1,
            "sha2-224" => Self::Sha224,
            "sha2-256" => Self::Sha256,
            "sha2-384" => Self::Sha384,
            "sha2-512" => Self::Sha512,
            "sha3-256" => Self::Sha3x256,
            "sha3-384" => Self::Sha3x384,
            "sha3-512" => Self::Sha3x512,
            _ => return None,
        })
    }

    /// Returns the library's algorithm; none for [`Self::None`].
    pub(super) fn algorithm(self) -> Option<&'static digest::Algorithm> {
        Some(match self {
            Self::None => return None,
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
            Self::Sha3x256 => &digest::SHA3_256,
            Self::Sha3x384 => &digest::SHA3_384,
            Self::Sha3x512 => &digest::SHA3_512,
        })
    }

    /// Hashes; [`Self::None`] returns what it is given.
    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self.algorithm() {
            None => data.to_vec(),
            Some(algorithm) => digest::digest(algorithm, data).as_ref().to_vec(),
        }
    }

    /// Returns the HMAC (RFC 2104) of `data`; none for [`Self::None`].
    ///
    /// The library's own HMAC lacks SHA-3, so all are made alike, of its hashes.
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let algorithm = self.algorithm()?;
        let block_len = algorithm.block_len().min(BLOCK_BYTES_MAX);
        let mut block = Zeroizing::new([0_u8; BLOCK_BYTES_MAX]);
        if block_len < key.len() {
            let hashed = digest::digest(algorithm, key);
            block[..hashed.as_ref().len()].copy_from_slice(hashed.as_ref());
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let under = |mask: u8, data: &[u8]| {
            let mut context = digest::Context::new(algorithm);
            let mut pad = Zeroizing::new([0_u8; BLOCK_BYTES_MAX]);
            for (to, from) in pad.iter_mut().zip(block.iter()) {
                *to = from ^ mask;
            }
            context.update(&pad[..block_len]);
            context.update(data);
            context.finish()
        };
        let inner = under(0x36, data);
        Some(under(0x5c, inner.as_ref()).as_ref().to_vec())
    }
}

/// Compares in constant time.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests;
