//! Large positive numbers in decimal, as Go writes them in JSON, to and from bytes.

use std::fmt::Write as _;

use zeroize::{Zeroize, Zeroizing};

/// Most digits that are read: those of 4096 bits.
const DIGITS_MAX: usize = 1234;
/// Digits that are taken at a time.
const CHUNK: usize = 9;
const CHUNK_VALUE: u64 = 1_000_000_000;

/// Reads digits; returns the number's bytes, the highest first, without leading zeros.
pub(super) fn parse(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number || DIGITS_MAX < text.len() {
        return None;
    }
    // The lowest limb first.
    let mut limbs: Zeroizing<Vec<u32>> = Zeroizing::new(Vec::with_capacity(DIGITS_MAX / CHUNK + 1));
    let first = text.len() % CHUNK;
    let (head, rest) = text.split_at(first);
    let chunks = rest.as_bytes().chunks(CHUNK);
    for chunk in std::iter::once(head.as_bytes()).chain(chunks) {
        let mut carry = chunk
            .iter()
            .fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        for limb in limbs.iter_mut() {
            carry += u64::from(*limb) * CHUNK_VALUE;
            *limb = low(carry);
            carry >>= 32;
        }
        if carry != 0 {
            limbs.push(low(carry));
        }
    }
    let bytes = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes());
    Some(Zeroizing::new(
        bytes.skip_while(|byte| *byte == 0).collect(),
    ))
}

/// Writes a number, given as bytes with the highest first.
pub(super) fn print(bytes: &[u8]) -> Zeroizing<String> {
    let mut limbs: Zeroizing<Vec<u32>> = Zeroizing::new(Vec::with_capacity(bytes.len() / 4 + 1));
    // The highest limb first.
    let (head, rest) = bytes.split_at(bytes.len() % 4);
    for chunk in std::iter::once(head).chain(rest.chunks(4)) {
        limbs.push(
            chunk
                .iter()
                .fold(0, |limb, byte| limb << 8 | u32::from(*byte)),
        );
    }
    let mut chunks = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut left = 0_u64;
        for limb in limbs.iter_mut() {
            let value = left << 32 | u64::from(*limb);
            *limb = low(value / CHUNK_VALUE);
            left = value % CHUNK_VALUE;
        }
        chunks.push(left);
    }
    let mut text = Zeroizing::new(String::with_capacity(chunks.len() * CHUNK + 1));
    match chunks.last() {
        None => text.push('0'),
        Some(first) => text.push_str(&first.to_string()),
    }
    for chunk in chunks.iter().rev().skip(1) {
        write!(text, "{chunk:09}").expect("a text takes all that is written");
    }
    chunks.zeroize();
    text
}

/// Returns the lower half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("the upper half is masked away")
}

#[cfg(test)]
mod tests;
