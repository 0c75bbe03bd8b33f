//! The barrier: every value is sealed before it reaches a store.
//!
//! ```text
//! epoch 4 | suite 1 | nonce 12 | ciphertext | tag 16       suite 1 = AES-256-GCM
//! associated data: "bastide value 1" | cluster 16 | epoch 4 | suite 1 | table and key
//! key: HKDF-SHA256(epoch key, info = "bastide table" | table): the 2^32 limit counts per table
//! ```

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use bastide_api::{ClusterId, Secret};
use bastide_linux::clock::wall;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::map::{Batch, Key, KeyRange, Op, Snapshot, Store, StoreError, Table};
use crate::seal::{Seal, SealError, Sharing};

pub(crate) mod aead;
mod keyring;
mod ring;
mod snapshot;
mod unsealed;

pub(crate) use keyring::StoredKeyring;
pub use snapshot::{OpenSnapshot, PlainEntry};
pub use unsealed::{EpochStatus, Unsealed};

/// How many values are noted as sealed ahead of those that were.
const NOTE_AHEAD: u64 = 1 << 20;
/// Most seals of a store.
const SEALS_MAX: usize = 16;

/// Why the barrier did not open.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store has a barrier already.
    #[error("the store is already initialised")]
    Initialised,
    /// The store has no barrier yet.
    #[error("the store is not yet initialised")]
    NotInitialised,
    /// No seal of this kind wraps the store's root key.
    #[error("the store is not sealed by a seal of kind `{seal}`")]
    OtherSeal {
        /// The kind that was tried.
        seal: &'static str,
    },
    /// The store is of a later program.
    #[error(
        "the store has format {0}, of a newer version of this program, and was left as it is: \
         install that version again"
    )]
    Format(u32),
    /// There were as many epochs as there can be.
    #[error("the keyring is full: no further key can be added to this store")]
    Full,
    /// The seal opens a root key, but not that of this store.
    #[error("the seal is not of this store")]
    Foreign,
    /// It is what alone opens the store.
    #[error("seal `{0}` is the only one that opens this store")]
    OnlySeal(String),
    /// What is stored is damaged or was exchanged.
    #[error(
        "value of {key_bytes} bytes' key in table {table} is damaged or stands in a wrong place"
    )]
    Damaged {
        /// The table.
        table: u8,
        /// The length of the key, which itself may be telling.
        key_bytes: usize,
    },
}

/// What the header of every format begins with.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// How many values an epoch has sealed, as it is stored under the root key.
#[derive(Serialize, Deserialize)]
struct Noted {
    epoch: u32,
    sealed: u64,
}

/// What stands in clear: which cluster, which format.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    cluster: ClusterId,
}

/// What seals a store's root key: each of these opens it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedBy {
    /// Shares that people hold.
    pub sharing: Option<Sharing>,
    /// Other seals, by their names, in order.
    pub others: Vec<String>,
}

/// A store's barrier: made once, opened at each start.
pub struct Barrier;

impl Barrier {
    /// The format of stores that this program writes.
    const FORMAT: u32 = 1;
    /// The table that the barrier itself uses. Its values do not pass the barrier: they are the
    /// header in clear, the keyring under the root key, and the root key under the seal.
    pub const TABLE: Table = Table(0);

    /// Returns whether the store has a barrier.
    pub fn is_initialised(store: &dyn Store) -> Result<bool, BarrierError> {
        Ok(Self::header(&*store.snapshot()?)?.is_some())
    }

    /// Makes the barrier of an empty store: draws root key and keyring, and seals both.
    pub fn initialise(
        store: &dyn Store,
        seal: &dyn Seal,
        cluster: ClusterId,
    ) -> Result<Arc<Unsealed>, BarrierError> {
        Self::initialise_with(store, &[seal], cluster, |_| Ok(Batch::default()))
    }

    /// Makes the barrier of an empty store and, in the same commit, what a store begins with:
    /// `contents` decides it in plain. A crash leaves all of it or nothing. Each of the seals opens it.
    pub fn initialise_with<E: From<BarrierError>>(
        store: &dyn Store,
        seals: &[&dyn Seal],
        cluster: ClusterId,
        contents: impl FnOnce(&Arc<Unsealed>) -> Result<Batch, E>,
    ) -> Result<Arc<Unsealed>, E> {
        if Self::is_initialised(store)? {
            return Err(BarrierError::Initialised.into());
        }
        let (barrier, own) = Self::draw(seals, cluster)?;
        let contents = barrier.seal_batch(contents(&barrier)?);
        let commit = || -> Result<bool, BarrierError> {
            let mut begun = store.begin()?;
            let applied = begun.apply(&own)?.is_ok() && begun.apply(&contents)?.is_ok();
            if applied {
                begun.commit()?;
            }
            Ok(applied)
        };
        if !commit()? {
            return Err(BarrierError::Initialised.into());
        }
        Ok(barrier)
    }

    /// Draws root key and keyring; returns the open barrier and what is to be stored of it.
    fn draw(
        seals: &[&dyn Seal],
        cluster: ClusterId,
    ) -> Result<(Arc<Unsealed>, Batch), BarrierError> {
        let root = random();
        let keyring = StoredKeyring::draw(wall());
        let header = Header {
            format: Self::FORMAT,
            cluster,
        };
        let header = serde_json::to_vec(&header).expect("a header is plain JSON");
        let mut ops = vec![
            Op::Put(Key::new(Self::TABLE, "header"), header),
            sealed_keyring(root.expose(), cluster, &keyring),
        ];
        for seal in seals {
            ops.extend(wrapped(*seal, cluster, root.expose())?);
        }
        let batch = Batch {
            compares: Vec::new(),
            ops,
        };
        let unsealed = Unsealed::new(cluster, root.expose(), &keyring, 0);
        Ok((Arc::new(unsealed), batch))
    }

    /// Adds an epoch, under whose keys values are sealed from now on; what was sealed before stays
    /// readable. Durable before the first value is sealed under it. Returns its number.
    pub fn rotate(store: &dyn Store, barrier: &Unsealed) -> Result<u32, BarrierError> {
        let _turn = barrier
            .turning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut keyring, _) = Self::keyring(&*store.snapshot()?, barrier.cluster, &barrier.root)?;
        let now = wall();
        let epoch = keyring.turn(now).ok_or(BarrierError::Full)?;
        let ops = vec![
            sealed_keyring(&barrier.root, barrier.cluster, &keyring),
            Op::Delete(count_at()),
        ];
        commit(store, ops)?;
        barrier.ring.install(epoch, keyring.key(epoch), now);
        barrier.ring.turn_to(epoch);
        barrier.bound.store(0, Ordering::Relaxed);
        Ok(epoch)
    }

    /// Notes how many values were sealed, ahead of time, so that a crash never makes it fewer. To be
    /// called about once a second: it writes once in half a million values.
    pub fn note_sealed(store: &dyn Store, barrier: &Unsealed) -> Result<(), BarrierError> {
        let is_due = || {
            let sealed = barrier.ring.sealed();
            let began = barrier.began.load(Ordering::Relaxed);
            let bound = barrier.bound.load(Ordering::Relaxed);
            began < sealed && bound < sealed.saturating_add(NOTE_AHEAD / 2)
        };
        if !is_due() {
            return Ok(());
        }
        let _turn = barrier
            .turning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !is_due() {
            return Ok(());
        }
        let bound = barrier.ring.sealed().saturating_add(NOTE_AHEAD);
        let noted = Noted {
            epoch: barrier.ring.active(),
            sealed: bound,
        };
        let plain = serde_json::to_vec(&noted).expect("a count is plain JSON");
        let sealed = aead::seal(&barrier.root, &context(b"count", barrier.cluster), &plain);
        commit(store, vec![Op::Put(count_at(), sealed)])?;
        barrier.bound.store(bound, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that a seal opens this store.
    pub fn check(
        store: &dyn Store,
        barrier: &Unsealed,
        seal: &dyn Seal,
    ) -> Result<(), BarrierError> {
        let at = Key::new(Self::TABLE, format!("seal/{}", seal.name()));
        let wrapped = store.snapshot()?.get(&at)?;
        let wrapped = wrapped.ok_or(BarrierError::OtherSeal { seal: seal.name() })?;
        let root = seal.unwrap(&context(b"root", barrier.cluster), &wrapped)?;
        verify_slices_are_equal(root.expose(), &barrier.root[..]).map_err(|_| BarrierError::Foreign)
    }

    /// Seals the root key by `new` too, in one commit; a seal of the same name opens nothing any more.
    pub fn reseal(
        store: &dyn Store,
        barrier: &Unsealed,
        new: &dyn Seal,
    ) -> Result<(), BarrierError> {
        commit(store, wrapped(new, barrier.cluster, &barrier.root)?)
    }

    /// Takes a seal away, unless nothing else opens the store.
    pub fn drop_seal(store: &dyn Store, name: &str) -> Result<(), BarrierError> {
        let seals = KeyRange::prefix(Self::TABLE, "seal/");
        let found = store.snapshot()?.range(&seals, SEALS_MAX)?;
        let at = Key::new(Self::TABLE, format!("seal/{name}"));
        if !found.iter().any(|(key, _)| *key != at) {
            return Err(BarrierError::OnlySeal(name.to_owned()));
        }
        let mut ops = vec![Op::Delete(at)];
        if name == "shamir" {
            ops.push(Op::Delete(sharing_at()));
        }
        commit(store, ops)
    }

    /// Returns what the store's root key is sealed by; `None` if the store has no barrier yet.
    pub fn sealed_by(store: &dyn Store) -> Result<Option<SealedBy>, BarrierError> {
        let snapshot = store.snapshot()?;
        if Self::header(&*snapshot)?.is_none() {
            return Ok(None);
        }
        let sharing = snapshot
            .get(&sharing_at())?
            .map(|text| serde_json::from_slice(&text).map_err(|_| damaged(&sharing_at())));
        let seals = KeyRange::prefix(Self::TABLE, "seal/");
        let found = snapshot.range(&seals, SEALS_MAX)?;
        let others = found.iter().filter_map(|(key, _)| {
            let name = String::from_utf8(key.rest().strip_prefix(b"seal/")?.to_vec()).ok()?;
            (name != "shamir").then_some(name)
        });
        Ok(Some(SealedBy {
            others: others.collect(),
            sharing: sharing.transpose()?,
        }))
    }

    /// Opens the barrier with its seal.
    pub fn unseal(store: &dyn Store, seal: &dyn Seal) -> Result<Arc<Unsealed>, BarrierError> {
        let snapshot = store.snapshot()?;
        let header = Self::header(&*snapshot)?.ok_or(BarrierError::NotInitialised)?;
        let wrapped = snapshot
            .get(&Key::new(Self::TABLE, format!("seal/{}", seal.name())))?
            .ok_or(BarrierError::OtherSeal { seal: seal.name() })?;
        let root = seal.unwrap(&context(b"root", header.cluster), &wrapped)?;
        let (keyring, sealed) = Self::keyring(&*snapshot, header.cluster, root.expose())?;
        Ok(Arc::new(Unsealed::new(
            header.cluster,
            root.expose(),
            &keyring,
            sealed,
        )))
    }

    /// Reads the keyring, and how many values its active epoch has sealed at most.
    fn keyring(
        snapshot: &dyn Snapshot,
        cluster: ClusterId,
        root: &[u8; 32],
    ) -> Result<(StoredKeyring, u64), BarrierError> {
        let at = Key::new(Self::TABLE, "keyring");
        let sealed = snapshot.get(&at)?.ok_or(damaged(&at))?;
        let plain = aead::open(root, &context(b"keyring", cluster), &sealed);
        let plain = Zeroizing::new(plain.ok_or(damaged(&at))?);
        let keyring = StoredKeyring::parse(&plain).ok_or(damaged(&at))?;
        let noted = match snapshot.get(&count_at())? {
            None => None,
            Some(sealed) => {
                let plain = aead::open(root, &context(b"count", cluster), &sealed);
                let plain = plain.ok_or(damaged(&count_at()))?;
                let noted: Noted =
                    serde_json::from_slice(&plain).map_err(|_| damaged(&count_at()))?;
                Some(noted).filter(|noted| noted.epoch == keyring.active)
            }
        };
        Ok((keyring, noted.map_or(0, |noted| noted.sealed)))
    }

    fn header(snapshot: &dyn Snapshot) -> Result<Option<Header>, BarrierError> {
        let at = Key::new(Self::TABLE, "header");
        let Some(text) = snapshot.get(&at)? else {
            return Ok(None);
        };
        // What else stands in the header of another format is not for us to judge.
        let format: Format = serde_json::from_slice(&text).map_err(|_| damaged(&at))?;
        if format.format != Self::FORMAT {
            return Err(BarrierError::Format(format.format));
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| damaged(&at))
    }
}

fn random() -> Secret<[u8; 32]> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system's random source answers once it is seeded");
    let secret = Secret::new(bytes);
    bytes.zeroize();
    secret
}

/// Seals the root key, and says in clear how many shares open it if that is how.
fn wrapped(seal: &dyn Seal, cluster: ClusterId, root: &[u8; 32]) -> Result<Vec<Op>, BarrierError> {
    let at = Key::new(Barrier::TABLE, format!("seal/{}", seal.name()));
    let mut ops = vec![Op::Put(at, seal.wrap(&context(b"root", cluster), root)?)];
    if let Some(sharing) = seal.sharing() {
        let text = serde_json::to_vec(&sharing).expect("a sharing is plain JSON");
        ops.push(Op::Put(sharing_at(), text));
    }
    Ok(ops)
}

fn sealed_keyring(root: &[u8; 32], cluster: ClusterId, keyring: &StoredKeyring) -> Op {
    let plain = serde_json::to_vec(keyring).expect("a keyring is plain JSON");
    let plain = Zeroizing::new(plain);
    let sealed = aead::seal(root, &context(b"keyring", cluster), &plain);
    Op::Put(Key::new(Barrier::TABLE, "keyring"), sealed)
}

fn commit(store: &dyn Store, ops: Vec<Op>) -> Result<(), BarrierError> {
    let batch = Batch {
        compares: Vec::new(),
        ops,
    };
    let mut begun = store.begin()?;
    let applied = begun.apply(&batch)?;
    assert!(
        applied.is_ok(),
        "a batch without compares is never overtaken"
    );
    begun.commit()?;
    Ok(())
}

/// Where it is noted how many values were sealed.
fn count_at() -> Key {
    Key::new(Barrier::TABLE, "count")
}

/// Where it stands, in clear, how many shares open the store.
fn sharing_at() -> Key {
    Key::new(Barrier::TABLE, "sharing")
}

fn context(what: &[u8], cluster: ClusterId) -> Vec<u8> {
    [b"bastide ", what, b" 1 ".as_slice(), cluster.as_bytes()].concat()
}

fn damaged(key: &Key) -> BarrierError {
    BarrierError::Damaged {
        table: key.table().0,
        key_bytes: key.rest().len(),
    }
}

#[cfg(test)]
mod tests;
