//! The barrier: every value is sealed before it reaches a store.
//!
//! ```text
//! epoch 4 | suite 1 | nonce 12 | ciphertext | tag 16       suite 1 = AES-256-GCM
//! associated data: "bastide value 1" | cluster 16 | epoch 4 | suite 1 | table and key
//! key: HKDF-SHA256(epoch key, info = "bastide table" | table): the 2^32 limit counts per table
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::{hkdf, hmac, rand};
use bastide_api::{ClusterId, Revision, Secret};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::map::{Batch, Key, KeyRange, Op, Snapshot, Store, StoreError, Table};
use crate::seal::{Seal, SealError, Sharing};

pub(crate) mod aead;

const SUITE: u8 = 1;
const HEADER_BYTES: usize = 5;

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

/// What stands in clear: which cluster, which format.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    cluster: ClusterId,
}

/// The keys, as they are sealed under the root key.
#[derive(Serialize, Deserialize)]
struct StoredKeyring {
    epochs: BTreeMap<u32, [u8; 32]>,
    active: u32,
    index: [u8; 32],
}

impl Drop for StoredKeyring {
    fn drop(&mut self) {
        self.epochs.values_mut().for_each(Zeroize::zeroize);
        self.index.zeroize();
    }
}

/// What a store's root key is sealed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealKind {
    /// Shares that people hold.
    Shares(Sharing),
    /// Another seal, by its name.
    Other(String),
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
        Self::initialise_with(store, seal, cluster, |_| Ok(Batch::default()))
    }

    /// Makes the barrier of an empty store and, in the same commit, what a store begins with:
    /// `contents` decides it in plain. A crash leaves all of it or nothing.
    pub fn initialise_with<E: From<BarrierError>>(
        store: &dyn Store,
        seal: &dyn Seal,
        cluster: ClusterId,
        contents: impl FnOnce(&Arc<Unsealed>) -> Result<Batch, E>,
    ) -> Result<Arc<Unsealed>, E> {
        if Self::is_initialised(store)? {
            return Err(BarrierError::Initialised.into());
        }
        let (barrier, own) = Self::draw(seal, cluster)?;
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
    fn draw(seal: &dyn Seal, cluster: ClusterId) -> Result<(Arc<Unsealed>, Batch), BarrierError> {
        let root = random();
        let keyring = StoredKeyring {
            epochs: BTreeMap::from([(1, *random().expose())]),
            active: 1,
            index: *random().expose(),
        };
        let mut plain = serde_json::to_vec(&keyring).expect("a keyring is plain JSON");
        let header = Header {
            format: Self::FORMAT,
            cluster,
        };
        let header = serde_json::to_vec(&header).expect("a header is plain JSON");
        let wrapped = seal.wrap(&context(b"root", cluster), &root)?;
        let mut batch = Batch {
            compares: Vec::new(),
            ops: vec![
                Op::Put(Key::new(Self::TABLE, "header"), header),
                Op::Put(
                    Key::new(Self::TABLE, "keyring"),
                    aead::seal(&root, &context(b"keyring", cluster), &plain),
                ),
                Op::Put(
                    Key::new(Self::TABLE, format!("seal/{}", seal.name())),
                    wrapped,
                ),
            ],
        };
        plain.zeroize();
        if let Some(sharing) = seal.sharing() {
            let text = serde_json::to_vec(&sharing).expect("a sharing is plain JSON");
            batch.ops.push(Op::Put(sharing_at(), text));
        }
        Ok((Arc::new(Unsealed::new(cluster, &keyring)), batch))
    }

    /// Seals the root key anew, in one commit: `old` opens it, and from now on `new` alone does.
    pub fn reseal(store: &dyn Store, old: &dyn Seal, new: &dyn Seal) -> Result<(), BarrierError> {
        let snapshot = store.snapshot()?;
        let header = Self::header(&*snapshot)?.ok_or(BarrierError::NotInitialised)?;
        let at = |seal: &dyn Seal| Key::new(Self::TABLE, format!("seal/{}", seal.name()));
        let wrapped = snapshot
            .get(&at(old))?
            .ok_or(BarrierError::OtherSeal { seal: old.name() })?;
        let context = context(b"root", header.cluster);
        let root = old.unwrap(&context, &wrapped)?;
        let mut batch = Batch::default();
        batch.ops.push(Op::Delete(at(old)));
        batch.ops.push(Op::Put(at(new), new.wrap(&context, &root)?));
        batch.ops.push(match new.sharing() {
            None => Op::Delete(sharing_at()),
            Some(sharing) => {
                let text = serde_json::to_vec(&sharing).expect("a sharing is plain JSON");
                Op::Put(sharing_at(), text)
            }
        });
        let mut begun = store.begin()?;
        if begun.apply(&batch)?.is_err() {
            return Err(BarrierError::NotInitialised);
        }
        begun.commit()?;
        Ok(())
    }

    /// Returns what the store's root key is sealed by; `None` if the store has no barrier yet.
    pub fn sealed_by(store: &dyn Store) -> Result<Option<SealKind>, BarrierError> {
        let snapshot = store.snapshot()?;
        let Some(header) = Self::header(&*snapshot)? else {
            return Ok(None);
        };
        if header.format != Self::FORMAT {
            return Err(BarrierError::Format(header.format));
        }
        if let Some(text) = snapshot.get(&sharing_at())? {
            let sharing = serde_json::from_slice(&text).map_err(|_| damaged(&sharing_at()))?;
            return Ok(Some(SealKind::Shares(sharing)));
        }
        let seals = KeyRange::prefix(Self::TABLE, "seal/");
        let found = snapshot.range(&seals, 1)?;
        let name = found.first().and_then(|(key, _)| {
            let name = key.rest().strip_prefix(b"seal/")?;
            String::from_utf8(name.to_vec()).ok()
        });
        Ok(Some(SealKind::Other(name.unwrap_or_default())))
    }

    /// Opens the barrier with its seal.
    pub fn unseal(store: &dyn Store, seal: &dyn Seal) -> Result<Arc<Unsealed>, BarrierError> {
        let snapshot = store.snapshot()?;
        let header = Self::header(&*snapshot)?.ok_or(BarrierError::NotInitialised)?;
        let wrapped = snapshot
            .get(&Key::new(Self::TABLE, format!("seal/{}", seal.name())))?
            .ok_or(BarrierError::OtherSeal { seal: seal.name() })?;
        let root = seal.unwrap(&context(b"root", header.cluster), &wrapped)?;
        let at = Key::new(Self::TABLE, "keyring");
        let sealed = snapshot.get(&at)?.ok_or(damaged(&at))?;
        let mut plain =
            aead::open(&root, &context(b"keyring", header.cluster), &sealed).ok_or(damaged(&at))?;
        let keyring = serde_json::from_slice::<StoredKeyring>(&plain);
        plain.zeroize();
        let keyring = keyring.map_err(|_| damaged(&at))?;
        if !keyring.epochs.contains_key(&keyring.active) {
            return Err(damaged(&at));
        }
        Ok(Arc::new(Unsealed::new(header.cluster, &keyring)))
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

/// The open barrier: who holds it can read and write values. Only [`Barrier`] makes one.
pub struct Unsealed {
    cluster: ClusterId,
    active: u32,
    /// Keys by epoch and table.
    keys: BTreeMap<u32, Vec<LessSafeKey>>,
    index: Secret<[u8; 32]>,
}

impl Unsealed {
    fn new(cluster: ClusterId, keyring: &StoredKeyring) -> Self {
        let keys = keyring
            .epochs
            .iter()
            .map(|(&epoch, key)| {
                let of_table = |table| {
                    // In place: a key that is moved leaves a copy where it was.
                    let mut bytes = Zeroizing::new([0; 32]);
                    derive_to(key, &[b"bastide table", &[table]], &mut bytes);
                    aead::key(&bytes)
                };
                (epoch, (0..=u8::MAX).map(of_table).collect())
            })
            .collect();
        Self {
            cluster,
            active: keyring.active,
            keys,
            index: Secret::new(keyring.index),
        }
    }

    /// Returns which cluster the store belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the epoch that values are sealed under now.
    pub fn epoch(&self) -> u32 {
        self.active
    }

    /// Returns HMAC-SHA256 of `text` under a key of this store and of `purpose`; the same for the
    /// store's whole life. Under it stand tokens and whatever else must be found but not read.
    pub fn digest(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        let key = self.secret_for(purpose);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let tag = hmac::sign(&key, text);
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Returns the key of this store for `purpose`.
    pub fn secret_for(&self, purpose: &str) -> Secret<[u8; 32]> {
        derive(
            self.index.expose(),
            &[b"bastide index ", purpose.as_bytes()],
        )
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
        sealed.extend_from_slice(&self.active.to_be_bytes());
        sealed.push(SUITE);
        let with = &self.keys[&self.active][usize::from(key.table().0)];
        aead::seal_into(with, &self.associated(self.active, key), plain, &mut sealed);
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
            .keys
            .get(&epoch)
            .filter(|_| suite == SUITE)
            .ok_or_else(|| damaged(key))?;
        let with = &with[usize::from(key.table().0)];
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

fn derive(key: &[u8; 32], info: &[&[u8]]) -> Secret<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    derive_to(key, info, &mut bytes);
    Secret::new(*bytes)
}

fn derive_to(key: &[u8; 32], info: &[&[u8]], to: &mut [u8; 32]) {
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key);
    derived
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(to))
        .expect("HKDF-SHA256 gives 32 bytes");
}

/// A key and its plain value.
pub type PlainEntry = (Key, Secret<Vec<u8>>);

/// A snapshot seen through the open barrier.
pub struct OpenSnapshot {
    snapshot: Box<dyn Snapshot>,
    barrier: Arc<Unsealed>,
}

impl OpenSnapshot {
    /// Looks at `snapshot` through `barrier`.
    pub fn new(snapshot: Box<dyn Snapshot>, barrier: Arc<Unsealed>) -> Self {
        Self { snapshot, barrier }
    }

    /// Returns the barrier.
    pub fn barrier(&self) -> &Arc<Unsealed> {
        &self.barrier
    }

    /// Returns the revision that this is the state after.
    pub fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// Returns a key's plain value.
    pub fn get(&self, key: &Key) -> Result<Option<Secret<Vec<u8>>>, BarrierError> {
        let sealed = self.snapshot.get(key)?;
        sealed
            .map(|sealed| self.barrier.open(key, &sealed))
            .transpose()
    }

    /// Returns the first `limit` keys of a range and their plain values, in order.
    pub fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<PlainEntry>, BarrierError> {
        self.snapshot
            .range(range, limit)?
            .into_iter()
            .map(|(key, sealed)| {
                let plain = self.barrier.open(&key, &sealed)?;
                Ok((key, plain))
            })
            .collect()
    }

    /// Returns the first `limit` keys of a range, in order, without opening their values.
    pub fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, BarrierError> {
        let found = self.snapshot.range(range, limit)?;
        Ok(found.into_iter().map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests;
