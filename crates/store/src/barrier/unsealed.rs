//! The open barrier, and how values are sealed by it.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use aws_lc_rs::{hkdf, hmac};
use bastide_api::{ClusterId, Secret, UnixTime};
use zeroize::{Zeroize, Zeroizing};

use super::ring::Ring;
use super::{BarrierError, StoredKeyring, aead, damaged};
use crate::map::{Batch, Key, Op};

const SUITE: u8 = 1;
const HEADER_BYTES: usize = 5;
/// The purpose of digests whose key is kept: to derive it takes longer than to use it, and each request
/// does.
const EACH_REQUEST: &str = "token";

/// What is told of the epoch that values are sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStatus {
    /// Which.
    pub epoch: u32,
    /// Since when; `UnixTime::EPOCH`: since a time that was not noted.
    pub installed: UnixTime,
    /// How many values it has sealed; never fewer than there were, and after a crash up to a million
    /// more.
    pub sealed: u64,
}

/// The open barrier: who holds it can read and write values. Only [`Barrier`] makes one.
pub struct Unsealed {
    pub(super) cluster: ClusterId,
    /// Kept because a further epoch is sealed under it. Who can read this memory has the keys that it
    /// seals anyway.
    pub(super) root: Box<Zeroizing<[u8; 32]>>,
    pub(super) ring: Ring,
    index: Secret<[u8; 32]>,
    /// The key for [`EACH_REQUEST`].
    each_request: hmac::Key,
    /// How many values the epoch had sealed when the barrier was opened.
    pub(super) began: AtomicU64,
    /// How many are noted in the store.
    pub(super) bound: AtomicU64,
    /// Held while keyring or count are written.
    pub(super) turning: Mutex<()>,
}

impl Unsealed {
    pub(super) fn new(
        cluster: ClusterId,
        root: &[u8; 32],
        keyring: &StoredKeyring,
        sealed: u64,
    ) -> Self {
        // In place: a key that is moved leaves a copy where it was.
        let mut kept = Box::new(Zeroizing::new([0; 32]));
        kept.copy_from_slice(root);
        let index = Secret::new(keyring.index);
        Self {
            cluster,
            root: kept,
            ring: keyring.ring(sealed),
            each_request: key_for(&index, EACH_REQUEST),
            index,
            began: AtomicU64::new(sealed),
            bound: AtomicU64::new(sealed),
            turning: Mutex::new(()),
        }
    }

    /// Returns which cluster the store belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the epoch that values are sealed under now.
    pub fn epoch(&self) -> u32 {
        self.ring.active()
    }

    /// Returns what is known of that epoch.
    pub fn epoch_status(&self) -> EpochStatus {
        let epoch = self.ring.active();
        EpochStatus {
            epoch,
            installed: self.ring.installed(epoch),
            sealed: self.ring.sealed(),
        }
    }

    /// Returns HMAC-SHA256 of `text` under a key of this store and of `purpose`; the same for the
    /// store's whole life. Under it stand tokens and whatever else must be found but not read.
    pub fn digest(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        let tag = if purpose == EACH_REQUEST {
            hmac::sign(&self.each_request, text)
        } else {
            hmac::sign(&key_for(&self.index, purpose), text)
        };
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Returns the key of this store for `purpose`.
    pub fn secret_for(&self, purpose: &str) -> Secret<[u8; 32]> {
        secret_for(&self.index, purpose)
    }

    fn associated(&self, epoch: u32, key: &Key) -> Vec<u8> {
        let mut data = b"bastide value 1".to_vec();
        data.extend_from_slice(self.cluster.as_bytes());
        data.extend_from_slice(&epoch.to_be_bytes());
        data.push(SUITE);
        data.extend_from_slice(key.as_bytes());
        data
    }

    /// Seals a value for the place `key`.
    pub fn seal(&self, key: &Key, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + 12 + plain.len() + 16);
        let (epoch, with) = self.ring.to_seal(key.table().0);
        sealed.extend_from_slice(&epoch.to_be_bytes());
        sealed.push(SUITE);
        aead::seal_into(with, &self.associated(epoch, key), plain, &mut sealed);
        sealed
    }

    /// Opens a value that was sealed for the place `key`.
    pub fn open(&self, key: &Key, sealed: &[u8]) -> Result<Secret<Vec<u8>>, BarrierError> {
        let (header, body) = sealed
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| damaged(key))?;
        let [a, b, c, d, suite] = *header;
        let epoch = u32::from_be_bytes([a, b, c, d]);
        let with = self
            .ring
            .key(epoch, key.table().0)
            .filter(|_| suite == SUITE)
            .ok_or_else(|| damaged(key))?;
        aead::open_with(with, &self.associated(epoch, key), body)
            .map(Secret::new)
            .ok_or_else(|| damaged(key))
    }

    /// Seals the values of a batch that was decided in plain.
    pub fn seal_batch(&self, mut batch: Batch) -> Batch {
        for op in &mut batch.ops {
            if let Op::Put(key, value) = op {
                let sealed = self.seal(key, value);
                value.zeroize();
                *value = sealed;
            }
        }
        batch
    }
}

fn secret_for(index: &Secret<[u8; 32]>, purpose: &str) -> Secret<[u8; 32]> {
    derive(index.expose(), &[b"bastide index ", purpose.as_bytes()])
}

fn key_for(index: &Secret<[u8; 32]>, purpose: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret_for(index, purpose).expose())
}

fn derive(key: &[u8; 32], info: &[&[u8]]) -> Secret<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    derive_to(key, info, &mut bytes);
    Secret::new(*bytes)
}

pub(super) fn derive_to(key: &[u8; 32], info: &[&[u8]], to: &mut [u8; 32]) {
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key);
    derived
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(to))
        .expect("HKDF-SHA256 gives 32 bytes");
}
