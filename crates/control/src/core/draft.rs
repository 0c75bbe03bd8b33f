//! A batch in the making: a snapshot, what was read of it, and what will be written over it.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Batch, Compare, Key, KeyRange, Op, OpenSnapshot, PlainEntry, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

use crate::core::config::Ttls;
use crate::core::entropy::Entropy;
use crate::core::facts::Observation;
use crate::core::mounts::MountTable;
use crate::core::refusal::{Refusal, Work};
use crate::core::tables;

/// Largest stored value, in bytes, before it is sealed.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most keys that one decision reads of a range.
pub const RANGE_KEYS_MAX: usize = 100_000;

/// A batch in the making. Reads see the writes made before them; every read becomes a compare, so
/// that what is decided here holds when it is committed.
pub struct Draft<'s> {
    source: &'s OpenSnapshot,
    now: UnixTime,
    entropy: Entropy,
    reads: BTreeSet<KeyRange>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// What each write replaced, in the order of the writes.
    replaced: Vec<(Key, Before)>,
    observations: Vec<Observation>,
    results: &'s [WorkResult],
    next_result: usize,
    mounts: Option<Arc<MountTable>>,
    ttls: Ttls,
}

/// What became of one piece of slow work.
pub struct WorkResult(pub Secret<Vec<u8>>);

/// What stood in the draft before a write.
enum Before {
    /// The key was not written yet.
    Unwritten,
    /// This: a value, or that the key is deleted.
    Written(Option<Vec<u8>>),
}

/// A state of the draft to which it can return.
pub struct Mark {
    /// How many writes were made.
    writes: usize,
    observations: usize,
}

impl<'s> Draft<'s> {
    /// Begins a draft on a snapshot. `results` are those of the work that earlier attempts at the
    /// same decision asked for, in the order in which they asked.
    pub fn new(
        source: &'s OpenSnapshot,
        now: UnixTime,
        entropy: Entropy,
        results: &'s [WorkResult],
    ) -> Self {
        Self {
            source,
            now,
            entropy,
            reads: BTreeSet::new(),
            writes: BTreeMap::new(),
            replaced: Vec::new(),
            observations: Vec::new(),
            results,
            next_result: 0,
            mounts: None,
            ttls: Ttls::default(),
        }
    }

    /// Returns the time that the decision is made at.
    pub fn now(&self) -> UnixTime {
        self.now
    }

    /// Returns the randomness of this decision.
    pub fn entropy(&mut self) -> &mut Entropy {
        &mut self.entropy
    }

    /// Returns the snapshot that the draft stands on.
    pub fn source(&self) -> &'s OpenSnapshot {
        self.source
    }

    /// Returns a key's value.
    pub fn get(&mut self, key: &Key) -> Result<Option<Secret<Vec<u8>>>, Refusal> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone().map(Secret::new));
        }
        self.reads.insert(KeyRange::one(key));
        Ok(self.source.get(key)?)
    }

    /// Returns whether a key has a value.
    pub fn has(&mut self, key: &Key) -> Result<bool, Refusal> {
        Ok(self.get(key)?.is_some())
    }

    /// Returns a key's value, parsed.
    pub fn load<T: DeserializeOwned>(&mut self, key: &Key) -> Result<Option<T>, Refusal> {
        let Some(text) = self.get(key)? else {
            return Ok(None);
        };
        parsed(text.expose()).map(Some)
    }

    /// Returns a key's value, parsed, as whoever asked before had it: for what is no secret by itself
    /// and is read at every request.
    pub fn load_shared<T>(&mut self, key: &Key) -> Result<Option<Arc<T>>, Refusal>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        if self.writes.contains_key(key) {
            return Ok(self.load(key)?.map(Arc::new));
        }
        self.reads.insert(KeyRange::one(key));
        self.source.parsed(key, parsed)
    }

    /// Writes a value.
    pub fn put(&mut self, key: Key, value: Vec<u8>) -> Result<(), Refusal> {
        if VALUE_BYTES_MAX < value.len() {
            return Err(Refusal::invalid(format!(
                "value is larger than {VALUE_BYTES_MAX} bytes"
            )));
        }
        self.write(key, Some(value));
        Ok(())
    }

    /// Writes a value as JSON.
    pub fn save<T: Serialize>(&mut self, key: Key, value: &T) -> Result<(), Refusal> {
        let text = serde_json::to_vec(value).expect("stored types are plain JSON");
        self.put(key, text)
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Key) {
        self.write(key, None);
    }

    fn write(&mut self, key: Key, value: Option<Vec<u8>>) {
        if key.table() == tables::MOUNTS {
            self.mounts = None;
        }
        let before = match self.writes.insert(key.clone(), value) {
            Some(before) => Before::Written(before),
            None => Before::Unwritten,
        };
        self.replaced.push((key, before));
    }

    /// Takes over the mounts as they are at the draft's snapshot, read by an earlier draft.
    pub fn know_mounts(&mut self, known: &Arc<MountTable>) {
        self.reads.insert(MountTable::range());
        self.mounts = Some(Arc::clone(known));
    }

    /// Notes that the decision rests on a range that an earlier draft read at the same state.
    pub fn rests_on(&mut self, range: KeyRange) {
        self.reads.insert(range);
    }

    /// Returns whether a table has writes of this draft's own.
    pub fn is_written_in(&self, table: Table) -> bool {
        let range = KeyRange::prefix(table, "");
        self.writes.keys().any(|key| range.contains(key))
    }

    /// Sets how long things live where neither mount nor request says; before mounts are read.
    pub fn know_ttls(&mut self, ttls: Ttls) {
        self.ttls = ttls;
    }

    /// Returns how long things live where neither mount nor request says.
    pub fn ttls(&self) -> Ttls {
        self.ttls
    }

    /// Returns the mounts.
    pub fn mounts(&mut self) -> Result<Arc<MountTable>, Refusal> {
        if let Some(known) = &self.mounts {
            return Ok(Arc::clone(known));
        }
        let loaded = Arc::new(MountTable::load(self)?);
        self.mounts = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Returns the first `limit` keys of a range, in order, without their values.
    pub fn keys(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, Refusal> {
        self.reads.insert(range.clone());
        let written = self.written_in(range);
        let gone = written.values().filter(|value| value.is_none()).count();
        let stored = self.source.keys(range, limit.saturating_add(gone))?;
        let mut keys: BTreeSet<Key> = stored.into_iter().collect();
        for (key, value) in written {
            if value.is_some() {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().take(limit).collect())
    }

    /// Returns the first `limit` keys of a range and their values, in order.
    pub fn range(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<PlainEntry>, Refusal> {
        let keys = self.keys(range, limit)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let value = match self.writes.get(&key) {
                Some(Some(written)) => Secret::new(written.clone()),
                _ => self
                    .source
                    .get(&key)?
                    .ok_or_else(|| Refusal::corrupt("key", "listed but absent"))?,
            };
            found.push((key, value));
        }
        Ok(found)
    }

    fn written_in(&self, range: &KeyRange) -> BTreeMap<&Key, &Option<Vec<u8>>> {
        self.writes
            .iter()
            .filter(|(key, _)| range.contains(key))
            .collect()
    }

    /// Notes what was observed; it is taken in after the commit.
    pub fn observe(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    /// Returns the result of slow work; the first time it asks for it, and the decision ends there.
    pub fn work(&mut self, work: Work) -> Result<&'s Secret<Vec<u8>>, Refusal> {
        let at = self.next_result;
        self.next_result += 1;
        match self.results.get(at) {
            Some(result) => Ok(&result.0),
            None => Err(Refusal::Needs(work)),
        }
    }

    /// Returns a mark for [`Self::return_to`].
    pub fn mark(&self) -> Mark {
        Mark {
            writes: self.replaced.len(),
            observations: self.observations.len(),
        }
    }

    /// Takes back the writes since `mark`, and the observations that hold only of what was granted.
    /// What was read stays compared.
    pub fn return_to(&mut self, mark: Mark) {
        for (key, before) in self.replaced.split_off(mark.writes).into_iter().rev() {
            match before {
                Before::Written(before) => self.writes.insert(key, before),
                Before::Unwritten => self.writes.remove(&key),
            };
        }
        self.mounts = None;
        let since = self.observations.split_off(mark.observations);
        let stays = since.into_iter().filter(Observation::outlives_refusal);
        self.observations.extend(stays);
    }

    /// Returns whether anything was written.
    pub fn is_written(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Ends the draft: a batch of its writes, compared with all that it read, and what it observed.
    /// Without writes nothing is compared: what was read was true at one moment.
    pub fn finish(mut self) -> (Batch, Vec<Observation>) {
        let writes = std::mem::take(&mut self.writes);
        let observations = std::mem::take(&mut self.observations);
        let mut batch = Batch::default();
        if !writes.is_empty() {
            let since = self.source.revision();
            batch.compares = std::mem::take(&mut self.reads)
                .into_iter()
                .map(|range| Compare::Unchanged { range, since })
                .collect();
        }
        batch.ops = writes
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => Op::Put(key, value),
                None => Op::Delete(key),
            })
            .collect();
        (batch, observations)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        for value in self.writes.values_mut().flatten() {
            value.zeroize();
        }
        for (_, before) in &mut self.replaced {
            if let Before::Written(Some(before)) = before {
                before.zeroize();
            }
        }
    }
}

fn parsed<T: DeserializeOwned>(text: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(text).map_err(|error| Refusal::corrupt("value", error))
}

/// A key of a table made of parts that follow each other.
pub fn key(table: Table, parts: &[&[u8]]) -> Key {
    Key::new(table, parts.concat())
}

#[cfg(test)]
mod tests;
