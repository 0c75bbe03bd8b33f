//! What the agent changed on its host, so that `bastide down` can put it back.
//!
//! A change is written down before it is made, with the value that it replaces, and made only once:
//! a second agent start finds it recorded and keeps the first original. Undoing goes backwards.
//!
//! Stored, it is a line of JSON per event, first its format. A line that was cut off is that of a
//! change which was not made yet, or was undone and will be once more: either way it counts for
//! nothing.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The format of the stored journal.
pub const FORMAT: u32 = 2;
/// The format of the one JSON object that a journal was before.
const FORMAT_OF_OBJECTS: u32 = 1;

/// One change to the host, with all that undoing it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A kernel setting under `/proc/sys`.
    Sysctl {
        /// Its name, with slashes.
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
    /// A route that says that nothing is there, for when the mesh device has no better one.
    Unreachable {
        /// The range.
        to: Ipv4Net,
    },
    /// The engine became a member of our Swarm, and holds networks of ours.
    Swarm {
        /// The engine's socket.
        #[serde(default)]
        engine: Option<PathBuf>,
        /// The address at which it is a member. One with another address is a member elsewhere.
        #[serde(default)]
        address: Option<Ipv4Addr>,
    },
}

impl Change {
    /// Returns whether `other` is a change of the same thing, whatever its value was.
    fn is_same_thing(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sysctl { name: one, .. }, Self::Sysctl { name: other, .. }) => one == other,
            (Self::Swarm { .. }, Self::Swarm { .. }) => true,
            _ => self == other,
        }
    }
}

/// An event, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Format(u32),
    Made(Change),
    Undone(Change),
}

impl Line {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a change has no map with odd keys");
        bytes.push(b'\n');
        bytes
    }
}

/// The changes in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    changes: Vec<Change>,
}

/// A journal as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What could be read of it.
    pub journal: Journal,
    /// How many bytes are whole lines; what follows was cut off and is to be dropped before anything
    /// is appended.
    pub whole: usize,
    /// The numbers of the lines that mean nothing, from 1.
    pub damaged: Vec<usize>,
}

/// The journal was written by a later version of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaterFormat;

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what is stored.
    pub fn read(bytes: &[u8]) -> Result<Found, LaterFormat> {
        let mut found = Found::default();
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            if !line.ends_with(b"\n") {
                break;
            }
            found.whole += line.len();
            match serde_json::from_slice(line) {
                Ok(Line::Format(format)) if FORMAT < format => return Err(LaterFormat),
                Ok(Line::Format(_)) => {}
                Ok(Line::Made(change)) => {
                    found.journal.record(change);
                }
                Ok(Line::Undone(change)) => {
                    found.journal.forget(&change);
                }
                Err(_) => found.damaged.push(number),
            }
        }
        Ok(found)
    }

    /// Reads a journal of format 1, which was one object; `None` if it is none.
    pub fn read_object(bytes: &[u8]) -> Result<Option<Self>, LaterFormat> {
        #[derive(Deserialize)]
        struct Object {
            format: u32,
            changes: Vec<Change>,
        }
        match serde_json::from_slice::<Object>(bytes) {
            Ok(object) if object.format == FORMAT_OF_OBJECTS => Ok(Some(Self {
                changes: object.changes,
            })),
            Ok(_) => Err(LaterFormat),
            Err(_) => Ok(None),
        }
    }

    /// Returns the whole journal as it is stored.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Line::Format(FORMAT).bytes();
        for change in &self.changes {
            bytes.extend(Line::Made(change.clone()).bytes());
        }
        bytes
    }

    /// Records `change`, and returns what to append before it is made; `None` if that thing was
    /// already changed, and its original is kept.
    pub fn record(&mut self, change: Change) -> Option<Vec<u8>> {
        if self
            .changes
            .iter()
            .any(|known| known.is_same_thing(&change))
        {
            return None;
        }
        self.changes.push(change.clone());
        Some(Line::Made(change).bytes())
    }

    /// Returns what to undo, last change first.
    pub fn undo_order(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().rev()
    }

    /// Forgets a change that was undone, and returns what to append then.
    pub fn forget(&mut self, change: &Change) -> Vec<u8> {
        self.changes.retain(|known| known != change);
        Line::Undone(change.clone()).bytes()
    }

    /// Returns whether nothing is to be undone.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests;
