//! Randomness that is passed in: a stream made of one seed.

use aws_lc_rs::hmac;
use bastide_api::Secret;

/// The letters of tokens, accessors and lease ids.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A stream of random bytes: HMAC-SHA256 of a counter under the seed. The same seed gives the same
/// stream, so that a decision can be made again in a test or a simulation.
pub struct Entropy {
    seed: Secret<[u8; 32]>,
    /// Made when it is first drawn from: most requests draw nothing.
    key: Option<hmac::Key>,
    block: Secret<Vec<u8>>,
    used: usize,
    counter: u64,
}

impl Entropy {
    /// Begins the stream of `seed`, which must be drawn for this request alone.
    pub fn new(seed: &Secret<[u8; 32]>) -> Self {
        Self {
            seed: seed.duplicate(),
            key: None,
            block: Secret::new(Vec::new()),
            used: 0,
            counter: 0,
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.expose().len() {
                let seed = &self.seed;
                let key = self
                    .key
                    .get_or_insert_with(|| hmac::Key::new(hmac::HMAC_SHA256, seed.expose()));
                let tag = hmac::sign(key, &self.counter.to_be_bytes());
                self.block = Secret::new(tag.as_ref().to_vec());
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block.expose()[self.used];
            self.used += 1;
        }
    }

    /// Draws `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Draws `length` letters and digits, each of 62 alike: 5.95 bits a letter.
    pub fn base62(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let [byte] = self.bytes();
            // 248 is the largest multiple of 62 that a byte can hold.
            if byte < 248 {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
        text
    }

    /// Draws 128 bits in the form 8-4-4-4-12 of a UUID.
    pub fn uuid(&mut self) -> String {
        uuid(&self.bytes::<16>())
    }
}

/// Writes 16 bytes in the form 8-4-4-4-12 of a UUID.
pub fn uuid(bytes: &[u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
