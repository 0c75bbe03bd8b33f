//! A state of the store, read through the open barrier.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bastide_api::{Revision, Secret};

use super::{BarrierError, Unsealed};
use crate::map::{Key, KeyRange, Snapshot};

/// A key and its plain value.
pub type PlainEntry = (Key, Secret<Vec<u8>>);

/// Most values of which a snapshot keeps what was parsed of them.
const PARSED_MAX: usize = 1024;
/// Longest plain value of which it does, in bytes.
const PARSED_BYTES_MAX: usize = 4096;

/// A snapshot seen through the open barrier.
pub struct OpenSnapshot {
    snapshot: Box<dyn Snapshot>,
    barrier: Arc<Unsealed>,
    /// What was made of values, by their keys. Nothing changes in a snapshot, so it holds as long.
    parsed: Mutex<BTreeMap<Key, Arc<dyn Any + Send + Sync>>>,
}

impl OpenSnapshot {
    /// Looks at `snapshot` through `barrier`.
    pub fn new(snapshot: Box<dyn Snapshot>, barrier: Arc<Unsealed>) -> Self {
        Self {
            snapshot,
            barrier,
            parsed: Mutex::default(),
        }
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

    /// Returns what `parse` makes of a key's plain value, and keeps it for whoever asks next: for what
    /// every request reads and what is no secret by itself.
    pub fn parsed<T: Any + Send + Sync, E: From<BarrierError>>(
        &self,
        key: &Key,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, E> {
        let known = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(key).cloned();
        if let Some(found) = found.and_then(|found| found.downcast().ok()) {
            return Ok(Some(found));
        }
        let Some(plain) = self.get(key)? else {
            return Ok(None);
        };
        let parsed = Arc::new(parse(plain.expose())?);
        if plain.expose().len() <= PARSED_BYTES_MAX {
            let mut known = known();
            if PARSED_MAX <= known.len() {
                known.clear();
            }
            known.insert(key.clone(), Arc::clone(&parsed) as _);
        }
        Ok(Some(parsed))
    }

    /// Returns of how many values it keeps what was parsed.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.parsed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
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
