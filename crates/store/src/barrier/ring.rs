//! The keyring in memory: epochs, each with a key from which those of the tables are derived when they
//! are first needed. Readers take no lock; an epoch that is there stays until the ring is dropped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aws_lc_rs::aead::LessSafeKey;
use bastide_api::UnixTime;
use zeroize::Zeroizing;

use super::aead;
use super::unsealed::derive_to;

/// Highest epoch: 65,535. One a day lasts for 179 years.
pub(super) const EPOCH_MAX: u32 = SHELF * SHELF - 1;
const SHELF: u32 = 256;

/// One epoch.
struct Epoch {
    key: Zeroizing<[u8; 32]>,
    installed: UnixTime,
    tables: [OnceLock<LessSafeKey>; 256],
}

impl Epoch {
    fn table(&self, table: u8) -> &LessSafeKey {
        self.tables[usize::from(table)].get_or_init(|| {
            // In place: a key that is moved leaves a copy where it was.
            let mut bytes = Zeroizing::new([0; 32]);
            derive_to(&self.key, &[b"bastide table", &[table]], &mut bytes);
            aead::key(&bytes)
        })
    }
}

type Shelf = [OnceLock<Box<Epoch>>; SHELF as usize];

/// All epochs of a store.
pub(super) struct Ring {
    active: AtomicU32,
    shelves: Box<[OnceLock<Box<Shelf>>; SHELF as usize]>,
    /// How many values were sealed under the active epoch, or a little more.
    sealed: AtomicU64,
}

impl Ring {
    /// A ring without epochs, which has sealed `sealed` values.
    pub(super) fn new(sealed: u64) -> Self {
        Self {
            active: AtomicU32::new(0),
            shelves: Box::new([const { OnceLock::new() }; SHELF as usize]),
            sealed: AtomicU64::new(sealed),
        }
    }

    /// Adds an epoch, at most [`EPOCH_MAX`]. One that is there already stays as it is.
    pub(super) fn install(&self, epoch: u32, key: &[u8; 32], installed: UnixTime) {
        let (shelf, place) = places(epoch).expect("epochs are checked before they are installed");
        let shelf = self.shelves[shelf]
            .get_or_init(|| Box::new([const { OnceLock::new() }; SHELF as usize]));
        // In place, as below.
        let mut made = Box::new(Epoch {
            key: Zeroizing::new([0; 32]),
            installed,
            tables: [const { OnceLock::new() }; 256],
        });
        made.key.copy_from_slice(key);
        let _ = shelf[place].set(made);
    }

    /// Seals under `epoch` from now on. It is installed.
    pub(super) fn activate(&self, epoch: u32) {
        self.active.store(epoch, Ordering::Release);
    }

    /// As [`Self::activate`], for an epoch under which nothing is sealed yet.
    pub(super) fn turn_to(&self, epoch: u32) {
        self.activate(epoch);
        self.sealed.store(0, Ordering::Relaxed);
    }

    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Acquire)
    }

    fn epoch(&self, epoch: u32) -> Option<&Epoch> {
        let (shelf, place) = places(epoch)?;
        self.shelves[shelf].get()?[place].get().map(|it| &**it)
    }

    /// Returns the key of a table in an epoch; `None` if there is no such epoch.
    pub(super) fn key(&self, epoch: u32, table: u8) -> Option<&LessSafeKey> {
        self.epoch(epoch).map(|epoch| epoch.table(table))
    }

    /// Counts a value, and returns the epoch and key to seal it with.
    pub(super) fn to_seal(&self, table: u8) -> (u32, &LessSafeKey) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        let active = self.active();
        let key = self.key(active, table);
        (active, key.expect("the active epoch is installed"))
    }

    pub(super) fn installed(&self, epoch: u32) -> UnixTime {
        self.epoch(epoch)
            .map_or(UnixTime::EPOCH, |epoch| epoch.installed)
    }

    pub(super) fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }
}

fn places(epoch: u32) -> Option<(usize, usize)> {
    let shelf = usize::try_from(epoch / SHELF).ok()?;
    let place = usize::try_from(epoch % SHELF).ok()?;
    (epoch <= EPOCH_MAX).then_some((shelf, place))
}
