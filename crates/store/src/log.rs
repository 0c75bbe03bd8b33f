//! The recent commits, in memory: what compares are judged by and what watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bastide_api::Revision;

use crate::map::{Change, Key, KeyRange};

/// Most keys that the log remembers, at some 200 bytes each: a second of a secrets server that does
/// nothing but write, many minutes of a cluster's controller.
const KEYS_MAX: usize = 16_384;

/// The commits after a revision are no longer known: read a snapshot instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the commits since that revision are no longer known")]
pub struct Compacted;

/// Recent changes, by commit and by key.
#[derive(Debug)]
pub(crate) struct CommitLog {
    /// Changes after this revision are known.
    floor: Revision,
    ring: VecDeque<Change>,
    recent: BTreeMap<Vec<u8>, Revision>,
    keys: usize,
    keys_max: usize,
}

impl CommitLog {
    pub(crate) fn new(floor: Revision) -> Self {
        Self::with_limit(floor, KEYS_MAX)
    }

    fn with_limit(floor: Revision, keys_max: usize) -> Self {
        Self {
            floor,
            ring: VecDeque::new(),
            recent: BTreeMap::new(),
            keys: 0,
            keys_max,
        }
    }

    /// Notes a commit. A commit of no keys is noted too: its revision was given out.
    pub(crate) fn push(&mut self, revision: Revision, keys: Vec<Key>) {
        for key in &keys {
            self.recent.insert(key.as_bytes().to_vec(), revision);
        }
        self.keys += keys.len() + 1;
        self.ring.push_back(Change {
            revision,
            keys: keys.into(),
        });
        while self.keys_max < self.keys && 1 < self.ring.len() {
            let Some(oldest) = self.ring.pop_front() else {
                break;
            };
            self.floor = oldest.revision;
            self.keys -= oldest.keys.len() + 1;
            for key in &*oldest.keys {
                if self.recent.get(key.as_bytes()) == Some(&oldest.revision) {
                    self.recent.remove(key.as_bytes());
                }
            }
        }
    }

    /// Forgets commits after `revision`, which were never made. Their keys count as changed until
    /// the revisions are given out again, which only makes compares fail that might have held.
    pub(crate) fn truncate(&mut self, revision: Revision) {
        while self
            .ring
            .back()
            .is_some_and(|change| revision < change.revision)
        {
            if let Some(change) = self.ring.pop_back() {
                self.keys -= change.keys.len() + 1;
            }
        }
    }

    /// Returns whether nothing in `range` changed after `since`; `false` if that is not known.
    pub(crate) fn unchanged(&self, range: &KeyRange, since: Revision) -> bool {
        if since < self.floor {
            return false;
        }
        self.recent
            .range::<Vec<u8>, _>(&range.start..)
            .take_while(|(key, _)| range.end.as_ref().is_none_or(|end| *key < end))
            .all(|(_, &changed)| changed <= since)
    }

    /// Returns the commits in (`from`, `to`].
    pub(crate) fn changes(
        &self,
        from: Revision,
        to: Revision,
        limit: usize,
    ) -> Result<Vec<Change>, Compacted> {
        if from < self.floor {
            return Err(Compacted);
        }
        let start = self.ring.partition_point(|change| change.revision <= from);
        Ok(self
            .ring
            .iter()
            .skip(start)
            .take_while(|change| change.revision <= to)
            .take(limit)
            .map(|change| Change {
                revision: change.revision,
                keys: Arc::clone(&change.keys),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests;
