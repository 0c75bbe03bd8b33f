//! Shamir's secret sharing over GF(2^8), in the form in which Vault gives shares out.
//!
//! ```text
//! share = y of each byte of the key, in order | x        x: distinct, random, 1 to 255
//! each byte of the key is the constant term of a polynomial of degree threshold - 1
//! one share of one: the key itself, without x
//! field: GF(2)[a] / (a^8 + a^4 + a^3 + a + 1), that of AES
//! ```
//!
//! Multiplication has neither tables nor branches: which memory is touched does not depend on a
//! share's bytes. Shares are not authenticated: that they do not fit shows when the key that they
//! combine to opens nothing, and then it is not told which of them does not.

use std::hint::black_box;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use bastide_api::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{KEY_BYTES, Seal, SealError, random_key, unwrap_with};
use crate::barrier::aead;

/// Bytes of a share of several: the key's, and x.
pub const SHARE_BYTES: usize = KEY_BYTES + 1;

/// Into how many shares a key is split, and how many of them bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Sharing {
    shares: u8,
    threshold: u8,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    shares: u8,
    threshold: u8,
}

impl From<Sharing> for Stored {
    fn from(it: Sharing) -> Self {
        Self {
            shares: it.shares,
            threshold: it.threshold,
        }
    }
}

impl TryFrom<Stored> for Sharing {
    type Error = SharingError;

    fn try_from(it: Stored) -> Result<Self, SharingError> {
        Self::new(it.shares.into(), it.threshold.into())
    }
}

/// Why a key cannot be shared so. The words are Vault's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// No share.
    #[error("shares must be at least one")]
    NoShare,
    /// More shares than the field has places.
    #[error("shares must be less than 256")]
    TooMany,
    /// No share is needed.
    #[error("threshold must be at least one")]
    NoThreshold,
    /// Each share would be the key.
    #[error("threshold must be greater than one for multiple shares")]
    EachIsAll,
    /// More shares are needed than there are.
    #[error("threshold cannot be larger than shares")]
    Unreachable,
}

impl Sharing {
    /// `threshold` of `shares`: 1 of 1, or 2 to `shares` of at most 255.
    pub fn new(shares: u64, threshold: u64) -> Result<Self, SharingError> {
        let count = u8::try_from(shares).map_err(|_| SharingError::TooMany)?;
        if count == 0 {
            return Err(SharingError::NoShare);
        }
        match u8::try_from(threshold) {
            Ok(0) => Err(SharingError::NoThreshold),
            Ok(1) if 1 < count => Err(SharingError::EachIsAll),
            Ok(threshold) if threshold <= count => Ok(Self {
                shares: count,
                threshold,
            }),
            Ok(_) | Err(_) => Err(SharingError::Unreachable),
        }
    }

    /// Returns how many shares there are.
    pub fn shares(self) -> u8 {
        self.shares
    }

    /// Returns how many bring the key back.
    pub fn threshold(self) -> u8 {
        self.threshold
    }

    /// Returns how many bytes a share has.
    pub fn share_bytes(self) -> usize {
        if self.shares == 1 {
            KEY_BYTES
        } else {
            SHARE_BYTES
        }
    }
}

/// A piece of a seal's key.
pub type Share = Secret<Vec<u8>>;

/// A seal whose key nobody holds: people hold shares of it.
pub struct ShamirSeal {
    sharing: Sharing,
    key: Secret<[u8; KEY_BYTES]>,
}

impl ShamirSeal {
    /// Draws a key and splits it. The shares are not kept anywhere.
    pub fn split(sharing: Sharing) -> (Self, Vec<Share>) {
        let key = random_key();
        let shares = split(&key, sharing);
        (Self { sharing, key }, shares)
    }

    /// Combines shares to a key: the right one if all of them are right. Fails if there are too few,
    /// if one has a wrong length, or if two have the same place.
    pub fn combine(sharing: Sharing, shares: &[Share]) -> Result<Self, SealError> {
        let key = if sharing.shares == 1 {
            whole(shares)
        } else {
            (usize::from(sharing.threshold) <= shares.len())
                .then(|| combine(shares))
                .flatten()
        };
        let key = key.ok_or(SealError::Shares)?;
        Ok(Self { sharing, key })
    }
}

impl ShamirSeal {
    /// Returns whether both have the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.key.expose(), other.key.expose()).is_ok()
    }
}

impl Seal for ShamirSeal {
    fn name(&self) -> &'static str {
        "shamir"
    }

    fn sharing(&self) -> Option<Sharing> {
        Some(self.sharing)
    }

    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        Ok(aead::seal(self.key.expose(), context, root))
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError> {
        unwrap_with(self.name(), &self.key, context, wrapped).map_err(|_| SealError::Shares)
    }
}

fn whole(shares: &[Share]) -> Option<Secret<[u8; KEY_BYTES]>> {
    let [share] = shares else { return None };
    <[u8; KEY_BYTES]>::try_from(share.expose().as_slice())
        .ok()
        .map(Secret::new)
}

fn split(key: &Secret<[u8; KEY_BYTES]>, sharing: Sharing) -> Vec<Share> {
    if sharing.shares == 1 {
        return vec![Secret::new(key.expose().to_vec())];
    }
    let places = places(sharing.shares);
    let mut shares: Vec<Vec<u8>> = places
        .iter()
        .map(|_| Vec::with_capacity(SHARE_BYTES))
        .collect();
    // All but the constant term, which is the key's byte.
    let mut coefficients = vec![0; usize::from(sharing.threshold) - 1];
    for &byte in key.expose() {
        rand::fill(&mut coefficients).expect("the system's random source answers");
        for (share, &x) in shares.iter_mut().zip(&places) {
            let above = coefficients.iter().rev();
            let value = above.fold(0, |sum, &coefficient| multiply(sum ^ coefficient, x));
            share.push(value ^ byte);
        }
    }
    coefficients.zeroize();
    for (share, &x) in shares.iter_mut().zip(&places) {
        share.push(x);
    }
    shares.into_iter().map(Secret::new).collect()
}

/// Draws `count` distinct places, none of them zero, where the key is.
fn places(count: u8) -> Vec<u8> {
    let mut left: Vec<u8> = (1..=u8::MAX).collect();
    (0..count)
        .map(|_| left.swap_remove(below(left.len())))
        .collect()
}

/// Draws a number below `bound`, which is at most 255, each as likely as any other.
fn below(bound: usize) -> usize {
    let fair = (256 / bound) * bound;
    loop {
        let mut byte = [0];
        rand::fill(&mut byte).expect("the system's random source answers");
        let drawn = usize::from(byte[0]);
        if drawn < fair {
            return drawn % bound;
        }
    }
}

/// Finds the polynomials' values at zero. `None` if lengths or places are wrong.
fn combine(shares: &[Share]) -> Option<Secret<[u8; KEY_BYTES]>> {
    let mut points = Vec::with_capacity(shares.len());
    for share in shares {
        let (&x, values) = share.expose().split_last()?;
        let is_new = points.iter().all(|&(known, _)| known != x);
        if values.len() != KEY_BYTES || x == 0 || !is_new {
            return None;
        }
        points.push((x, values));
    }
    let mut key = [0; KEY_BYTES];
    for &(x, values) in &points {
        let others = points.iter().map(|&(other, _)| other);
        let weight = others
            .filter(|&other| other != x)
            .fold(1, |product, other| {
                multiply(product, multiply(other, invert(other ^ x)))
            });
        for (byte, &value) in key.iter_mut().zip(values) {
            *byte ^= multiply(value, weight);
        }
    }
    let secret = Secret::new(key);
    key.zeroize();
    Some(secret)
}

/// Multiplies in the field, in a time that depends on neither factor.
fn multiply(mut a: u8, b: u8) -> u8 {
    let mut product = 0;
    for bit in 0..8 {
        // All ones or none; the black box keeps the compiler from making it a branch.
        product ^= a & black_box(0u8.wrapping_sub((b >> bit) & 1));
        a = (a << 1) ^ (0x1b & black_box(0u8.wrapping_sub(a >> 7)));
    }
    product
}

/// Returns what multiplies with `a` to one: `a` to the power of 254.
fn invert(a: u8) -> u8 {
    // 254 = 2 + 4 + 8 + 16 + 32 + 64 + 128
    let mut power = a;
    let mut product = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

#[cfg(test)]
mod tests;
