//! What the agent changed on its host, so that `bastide down` can put it back.
//!
//! A change is written down before it is made, with the value that it replaces, and made only once:
//! a second agent start finds it recorded and keeps the first original. Undoing goes backwards.

use serde::{Deserialize, Serialize};

/// The format of the stored journal.
pub const FORMAT: u32 = 1;

/// One change to the host, with all that undoing it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A kernel setting under `/proc/sys`.
    Sysctl {
        /// Its name, with dots.
        name: String,
        /// Its value before.
        before: String,
    },
    /// A table of nftables that is ours alone.
    NftTable {
        /// Its family: `inet` or `bridge`.
        family: String,
        /// Its name.
        name: String,
    },
    /// Our jump in Docker's chain `DOCKER-USER`.
    DockerUserRule,
    /// The mesh device.
    Interface {
        /// Its name.
        name: String,
    },
    /// The engine became a member of our Swarm, and holds networks of ours.
    Swarm,
}

impl Change {
    /// Returns whether `other` is a change of the same thing, whatever its value was.
    fn same_thing(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sysctl { name: one, .. }, Self::Sysctl { name: other, .. }) => one == other,
            _ => self == other,
        }
    }
}

/// The changes in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    format: u32,
    changes: Vec<Change>,
}

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        Self {
            format: FORMAT,
            changes: Vec::new(),
        }
    }

    /// Records `change`; false if that thing was already changed, and its original is kept.
    pub fn record(&mut self, change: Change) -> bool {
        if self.changes.iter().any(|known| known.same_thing(&change)) {
            return false;
        }
        self.changes.push(change);
        true
    }

    /// Returns what to undo, last change first.
    pub fn undo_order(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().rev()
    }

    /// Forgets a change that was undone.
    pub fn forget(&mut self, change: &Change) {
        self.changes.retain(|known| known != change);
    }

    /// Returns whether this program can read the journal's format.
    pub fn is_known_format(&self) -> bool {
        self.format == FORMAT
    }
}

#[cfg(test)]
mod tests;
