//! The keyring as it is stored: sealed under the root key.

use std::collections::BTreeMap;

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::ring::{EPOCH_MAX, Ring};

/// The keys, as they are sealed under the root key.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredKeyring {
    pub(super) epochs: BTreeMap<u32, [u8; 32]>,
    pub(crate) active: u32,
    pub(super) index: [u8; 32],
    /// When each epoch began; stores of earlier versions do not say it of the first.
    #[serde(default)]
    pub(super) installed: BTreeMap<u32, UnixTime>,
}

impl Drop for StoredKeyring {
    fn drop(&mut self) {
        self.epochs.values_mut().for_each(Zeroize::zeroize);
        self.index.zeroize();
    }
}

impl StoredKeyring {
    /// A ring with one epoch.
    pub(super) fn draw(now: UnixTime) -> Self {
        Self {
            epochs: BTreeMap::from([(1, *super::random().expose())]),
            active: 1,
            index: *super::random().expose(),
            installed: BTreeMap::from([(1, now)]),
        }
    }

    /// Reads one that was opened; `None` if it is none.
    pub(crate) fn parse(plain: &[u8]) -> Option<Self> {
        let ring: Self = serde_json::from_slice(plain).ok()?;
        let known = ring.epochs.keys().all(|epoch| *epoch <= EPOCH_MAX);
        (known && ring.epochs.contains_key(&ring.active)).then_some(ring)
    }

    /// Adds an epoch and makes it the active one; `None` if there can be no more.
    pub(crate) fn turn(&mut self, now: UnixTime) -> Option<u32> {
        let last = *self.epochs.keys().next_back()?;
        let next = last.checked_add(1).filter(|next| *next <= EPOCH_MAX)?;
        self.epochs.insert(next, *super::random().expose());
        self.installed.insert(next, now);
        self.active = next;
        Some(next)
    }

    pub(super) fn key(&self, epoch: u32) -> &[u8; 32] {
        &self.epochs[&epoch]
    }

    /// Brings it into memory.
    pub(super) fn ring(&self, sealed: u64) -> Ring {
        let ring = Ring::new(sealed);
        for &epoch in self.epochs.keys() {
            let installed = self.installed.get(&epoch).copied();
            ring.install(epoch, self.key(epoch), installed.unwrap_or(UnixTime::EPOCH));
        }
        ring.activate(self.active);
        ring
    }
}
