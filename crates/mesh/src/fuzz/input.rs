//! Bytes of a fuzzer, read as decisions; and randomness that is the same in each run.

use std::net::SocketAddr;

use blake2::{Blake2s256, Digest};

use crate::core::wireguard::Entropy;

/// What is left of the input. Past its end there are zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Returns up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Random bytes that are the same in each run.
pub struct Seeded {
    seed: u8,
    drawn: u64,
}

impl Seeded {
    pub fn new(seed: u8) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let mut hash = Blake2s256::new();
            hash.update([self.seed]);
            hash.update(self.drawn.to_le_bytes());
            self.drawn += 1;
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

/// Where `host` stands on the wire.
pub fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 51820))
}
