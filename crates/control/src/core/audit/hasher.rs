//! Keyed hashes of what a record must not show.

use aws_lc_rs::hmac;
use bastide_store::Unsealed;

/// What a keyed hash begins with.
const LABEL: &[u8] = b"hmac-sha256:";

/// Hashes values for one device, under a key of the store that is the device's own.
///
/// The key is kept as the two states of SHA-256 after its padded blocks (RFC 2104), so that a short
/// value costs two compressions, not four.
pub struct Hasher(hmac::Key);

impl Hasher {
    /// Derives the key of the device `salt`.
    pub fn new(barrier: &Unsealed, salt: &str) -> Self {
        let key = barrier.secret_for(&format!("audit {salt}"));
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// Returns `hmac-sha256:` and the HMAC of a text.
    pub fn hash(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(LABEL.len() + 64);
        self.hash_into(text, &mut out);
        String::from_utf8(out).expect("a label and hexadecimal digits are ASCII")
    }

    /// Appends `hmac-sha256:` and the HMAC of a text.
    pub(super) fn hash_into(&self, text: &str, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(&self.0, text.as_bytes());
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(tag.as_ref()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.extend_from_slice(LABEL);
        out.extend_from_slice(&digits);
    }
}
