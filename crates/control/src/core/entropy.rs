//! Randomness that is passed in: a stream made of one seed.

use aws_lc_rs::hmac;
use bastide_api::Secret;

/// The letters of tokens, accessors and lease ids.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A stream of random bytes: HMAC-SHA256 of a counter under the seed. The same seed gives the same
/// stream, so that a decision can be made again in a test or a simulation.
pub struct Entropy {
    key: hmac::Key,
    block: Secret<Vec<u8>>,
    used: usize,
    counter: u64,
}

impl Entropy {
    /// Begins the stream of `seed`, which must be drawn for this request alone.
    pub fn new(seed: &Secret<[u8; 32]>) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, seed.expose()),
            block: Secret::new(Vec::new()),
            used: 0,
            counter: 0,
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.expose().len() {
                let tag = hmac::sign(&self.key, &self.counter.to_be_bytes());
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
        let hex = data_encoding::HEXLOWER.encode(&self.bytes::<16>());
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        format!("{a}-{b}-{c}-{d}-{e}")
    }
}
