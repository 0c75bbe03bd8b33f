//! A state of the store, read through the open barrier.

use std::sync::Arc;

use bastide_api::{Revision, Secret};

use super::{BarrierError, Unsealed};
use crate::map::{Key, KeyRange, Snapshot};

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
