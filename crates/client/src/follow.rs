//! Following a watch: events in, verified views and facts out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bastide_api::history::{self, Departure, History};
use bastide_api::v1::{NodeFacts, WatchEvent};
use bastide_api::{ClusterId, NodeId, Revision, SigningKey, ViewEntries};
use bastide_pki::{Verified, ViewSignatureError, verify_view};

/// Most entries of a view: nodes, stacks and the cluster itself.
const ENTRIES_MAX: usize = 16_384;
/// Most bytes of a view's keys and values together.
const ENTRIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why an event was not followed. The last verified view stands; watch anew from
/// [`ViewFollower::resume_from`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The view is older than one that was verified before.
    #[error("the controller's view is of revision {offered}, older than {known}, which is known")]
    Older {
        /// What it offers.
        offered: u64,
        /// What is known.
        known: u64,
    },
    /// The view is of a store that was never in the state that is known, though its revision is later.
    #[error(
        "the controller's view of revision {offered} does not come after revision {known}, which is \
         known"
    )]
    Apart {
        /// What it offers.
        offered: u64,
        /// What is known.
        known: u64,
    },
    /// The signature is wrong: a change was lost on the way, or somebody made one up.
    #[error("the view of revision {revision} is not believed")]
    Signature {
        /// Of which revision.
        revision: u64,
        /// Why.
        #[source]
        source: ViewSignatureError,
    },
    /// The view is larger than this program takes.
    #[error("the view has more than {ENTRIES_MAX} entries or {ENTRIES_BYTES_MAX} bytes")]
    TooLarge,
}

impl FollowError {
    /// Returns whether the control plane's store is not the one, or not as late as the one, that the
    /// known view is of.
    pub fn is_departure(&self) -> bool {
        matches!(self, Self::Older { .. } | Self::Apart { .. })
    }
}

/// What an event brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// Nothing yet.
    Nothing,
    /// A verified view, newer than the last or the same, and its signature in base64 to keep with it.
    View {
        /// The view's entries.
        view: Arc<Verified<ViewEntries>>,
        /// The signature.
        signature: String,
    },
    /// A checkpoint of the audit log, for a [`crate::LogFollower`].
    Log {
        /// The signed note.
        note: String,
        /// What proves that it follows from what is known.
        proof: Vec<String>,
    },
    /// A node's report; `None` when it is gone.
    Fact {
        /// Which node.
        node: NodeId,
        /// Its report.
        facts: Option<NodeFacts>,
    },
}

/// Folds the events of a watch into views that were verified. Pure: it waits for nothing.
#[derive(Debug, Clone)]
pub struct ViewFollower {
    cluster: ClusterId,
    key: SigningKey,
    known: Option<Arc<Verified<ViewEntries>>>,
    /// The map in the making, since the last verified one.
    building: Option<BTreeMap<String, String>>,
    /// Whether that map was sent whole.
    is_anew: bool,
    bytes: usize,
    /// After a failure deltas are no longer believed: only a snapshot helps.
    is_broken: bool,
}

impl ViewFollower {
    /// Begins without a view.
    pub fn new(cluster: ClusterId, key: SigningKey) -> Self {
        Self {
            cluster,
            key,
            known: None,
            building: None,
            is_anew: false,
            bytes: 0,
            is_broken: false,
        }
    }

    /// Begins with a view that was verified before, such as the one kept on disk.
    pub fn with_view(
        cluster: ClusterId,
        key: SigningKey,
        entries: ViewEntries,
        signature: &str,
    ) -> Result<Self, ViewSignatureError> {
        let known = verify_view(entries, cluster, &key, signature)?;
        let mut follower = Self::new(cluster, key);
        follower.bytes = bytes_of(&known.entries);
        follower.known = Some(Arc::new(known));
        Ok(follower)
    }

    /// Returns the last verified view.
    pub fn view(&self) -> Option<&Arc<Verified<ViewEntries>>> {
        self.known.as_ref()
    }

    /// Returns from which revision to watch: 0, for a snapshot, if deltas would not help.
    pub fn resume_from(&self) -> Revision {
        match &self.known {
            Some(known) if !self.is_broken => known.revision,
            _ => Revision(0),
        }
    }

    /// Returns the run of the control plane that the known view is of, if it tells.
    pub fn run(&self) -> Option<String> {
        let history = History::of(self.known.as_ref()?)?;
        history.run().map(|run| run.id.clone())
    }

    /// Forgets what an ended watch left unfinished. Call it before a new watch.
    pub fn restart(&mut self) {
        self.building = None;
        self.is_anew = false;
        self.bytes = self
            .known
            .as_ref()
            .map_or(0, |known| bytes_of(&known.entries));
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: WatchEvent) -> Result<Followed, FollowError> {
        let followed = self.take_in(event);
        if followed.is_err() {
            self.is_broken = true;
            self.restart();
        }
        followed
    }

    fn take_in(&mut self, event: WatchEvent) -> Result<Followed, FollowError> {
        match event {
            WatchEvent::Snapshot { rev, value } => {
                // What claims to be of a later generation may be earlier; its signed end tells.
                let generation = |entries| History::among(entries).map_or(0, |it| it.generation);
                let known = self.known.as_ref().map(|known| generation(&known.entries));
                if known.is_none_or(|known| generation(&value) <= known) {
                    self.is_anew = false;
                    self.check_revision(rev)?;
                }
                self.bytes = bytes_of(&value);
                self.building = Some(value);
                self.is_anew = true;
                self.check_size()?;
            }
            WatchEvent::Put { rev, key, value } => {
                self.check_revision(rev)?;
                let added = key.len() + value.len();
                let key_bytes = key.len();
                let before = self.building().insert(key, value);
                self.bytes = self.bytes + added - before.map_or(0, |old| key_bytes + old.len());
                self.check_size()?;
            }
            WatchEvent::Delete { rev, key } => {
                self.check_revision(rev)?;
                if let Some(old) = self.building().remove(&key) {
                    self.bytes -= key.len() + old.len();
                }
            }
            WatchEvent::Sign { rev, value } => return self.close(rev, value),
            WatchEvent::Fact { key, value } => {
                return Ok(Followed::Fact {
                    node: key,
                    facts: value,
                });
            }
            WatchEvent::Log { note, proof } => return Ok(Followed::Log { note, proof }),
            WatchEvent::Ping => {}
        }
        Ok(Followed::Nothing)
    }

    /// Checks the map in the making, which is the view from here on.
    fn close(&mut self, rev: Revision, signature: String) -> Result<Followed, FollowError> {
        self.check_revision(rev)?;
        let entries = ViewEntries {
            revision: rev,
            entries: std::mem::take(self.building()),
        };
        self.building = None;
        let view = verify_view(entries, self.cluster, &self.key, &signature).map_err(|source| {
            FollowError::Signature {
                revision: rev.0,
                source,
            }
        })?;
        let view = Arc::new(view);
        if let Some(known) = &self.known {
            let (offered, known_at) = (rev.0, known.revision.0);
            history::follows(known, &view).map_err(|departure| match departure {
                Departure::Older => FollowError::Older {
                    offered,
                    known: known_at,
                },
                Departure::Apart => FollowError::Apart {
                    offered,
                    known: known_at,
                },
            })?;
        }
        self.known = Some(Arc::clone(&view));
        self.is_anew = false;
        self.is_broken = false;
        Ok(Followed::View { view, signature })
    }

    fn building(&mut self) -> &mut BTreeMap<String, String> {
        let known = self.known.as_ref();
        self.building
            .get_or_insert_with(|| known.map(|known| known.entries.clone()).unwrap_or_default())
    }

    fn check_revision(&self, offered: Revision) -> Result<(), FollowError> {
        match &self.known {
            // Of what was sent whole the signed end tells whether it may be earlier.
            Some(known) if !self.is_anew && offered < known.revision => Err(FollowError::Older {
                offered: offered.0,
                known: known.revision.0,
            }),
            _ => Ok(()),
        }
    }

    fn check_size(&self) -> Result<(), FollowError> {
        let entries = self.building.as_ref().map_or(0, BTreeMap::len);
        if ENTRIES_MAX < entries || ENTRIES_BYTES_MAX < self.bytes {
            return Err(FollowError::TooLarge);
        }
        Ok(())
    }
}

fn bytes_of(entries: &BTreeMap<String, String>) -> usize {
    entries
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

#[cfg(test)]
mod tests;
