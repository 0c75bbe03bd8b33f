//! The agent's folder: keys, membership, the last signed view, the journal.

use std::io;
use std::path::{Path, PathBuf};

use bastide_api::v1::JoinAnswer;
use bastide_api::{InstanceId, NodeId, Secret, ViewEntries};
use bastide_client::KnownLog;
use bastide_linux::clock::{Clock, Mark};
use bastide_linux::file;
use bastide_linux::lock::{self, Lock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::handover::NodeSettings;

/// Most bytes of a file that the agent reads back.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

const IDENTITY: &str = "identity.key";
const WIREGUARD: &str = "wireguard.key";
const DISCOVERY: &str = "discovery.key";
const MEMBERSHIP: &str = "membership.json";
const RUNS: &str = "runs.json";
const VIEW: &str = "view.json";
const VIEW_BEFORE: &str = "view.before.json";
const JOURNAL: &str = "journal";
const OLD_JOURNAL: &str = "journal.json";
/// Held by the agent that uses the folder.
pub const LOCK: &str = "lock";
const CLOCK: &str = "clock.json";
/// The last checkpoint of the control plane's audit log.
pub const LOG: &str = "audit-log.json";

/// What went wrong with the agent's folder.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file could not be read.
    #[error("could not read `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("could not write `{path}`")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{path}` is damaged or of another version")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is of a later program.
    #[error("`{path}` was written by a later version of this program")]
    LaterFormat {
        /// Which file.
        path: PathBuf,
    },
    /// A key file does not hold a key.
    #[error("`{path}` does not hold a key")]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
}

/// That this host is a node, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// What the controller answered, with the certificate renewed since.
    pub answer: JoinAnswer,
    /// How this host wanted to be a node.
    pub settings: NodeSettings,
    /// Whether what an earlier membership left in the container engine is still to be looked for.
    #[serde(default)]
    pub is_fresh: bool,
}

impl Membership {
    /// This node.
    pub fn node(&self) -> NodeId {
        self.answer.node.id
    }
}

/// The runs of a host's agent that a controller may know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Which they are, the last one first.
    pub ids: Vec<InstanceId>,
    /// Where the last one ran: the boot of the machine, and the network.
    pub place: String,
}

/// The last view, with what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedView {
    /// The entries.
    pub entries: ViewEntries,
    /// Ed25519 signature over their signed bytes, in base64.
    pub signature: String,
}

/// The agent's folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the folder, making it if needed.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        file::create_private_dir(path).map_err(|source| StateError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where the mesh keeps what it learned.
    pub fn mesh(&self) -> PathBuf {
        self.path.join("mesh")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where images are kept.
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// The node's identity key (PEM), if it has one.
    pub fn identity(&self) -> Result<Option<Secret<String>>, StateError> {
        let Some(bytes) = self.read(IDENTITY)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes);
        text.map(|text| Some(Secret::new(text)))
            .map_err(|_| StateError::NoKey {
                path: self.path.join(IDENTITY),
            })
    }

    /// Stores the node's identity key (PEM).
    pub fn save_identity(&self, pem: &Secret<String>) -> Result<(), StateError> {
        self.write(IDENTITY, pem.expose().as_bytes())
    }

    /// The mesh's private key: read, or made by `fresh` and stored.
    pub fn wireguard(
        &self,
        fresh: impl FnOnce() -> Secret<[u8; 32]>,
    ) -> Result<Secret<[u8; 32]>, StateError> {
        self.key(WIREGUARD, fresh)
    }

    /// The discovery's private key: read, or made by `fresh` and stored.
    pub fn discovery(
        &self,
        fresh: impl FnOnce() -> Secret<[u8; 32]>,
    ) -> Result<Secret<[u8; 32]>, StateError> {
        self.key(DISCOVERY, fresh)
    }

    /// The membership, once joined.
    pub fn membership(&self) -> Result<Option<Membership>, StateError> {
        self.read_json(MEMBERSHIP)
    }

    /// Stores the membership.
    pub fn save_membership(&self, membership: &Membership) -> Result<(), StateError> {
        self.write_json(MEMBERSHIP, membership)
    }

    /// The runs of this host's agent that a controller may know.
    pub fn runs(&self) -> Result<Runs, StateError> {
        match self.read_json(RUNS) {
            // Without them this run waits for a moment, as one on another machine would.
            Err(StateError::Damaged { .. }) => Ok(Runs::default()),
            read => Ok(read?.unwrap_or_default()),
        }
    }

    /// Stores the runs of this host's agent.
    pub fn save_runs(&self, runs: &Runs) -> Result<(), StateError> {
        self.write_json(RUNS, runs)
    }

    /// The last views that were stored, the newest first. Each may be damaged, or none may be there.
    pub fn views(&self) -> impl Iterator<Item = (PathBuf, Result<SignedView, StateError>)> {
        [VIEW, VIEW_BEFORE].into_iter().filter_map(|name| {
            let read = self.read_json(name).transpose()?;
            Some((self.path.join(name), read))
        })
    }

    /// Stores the last view, and keeps the one before it for the case that it cannot be read back.
    pub fn save_view(&self, view: &SignedView) -> Result<(), StateError> {
        let (path, before) = (self.path.join(VIEW), self.path.join(VIEW_BEFORE));
        match std::fs::rename(path, &before) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::Write {
                    path: before,
                    source,
                });
            }
            _ => {}
        }
        self.write_json(VIEW, view)
    }

    /// The last checkpoint of the control plane's audit log.
    pub fn log(&self) -> Result<Option<KnownLog>, StateError> {
        self.read_json(LOG)
    }

    /// Stores the last checkpoint of the control plane's audit log.
    pub fn save_log(&self, known: &KnownLog) -> Result<(), StateError> {
        self.write_json(LOG, known)
    }

    /// Where the journal of changes to this host is.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The node's clock, which begins with what it knew when it was kept last. A damaged file is no
    /// more than a guess less.
    pub fn clock(&self) -> Clock {
        let mark: Option<Mark> = self.read_json(CLOCK).unwrap_or_else(|error| {
            tracing::warn!(%error, "the time that was known is forgotten");
            None
        });
        Clock::following(mark.as_ref())
    }

    /// Stores what the clock knows.
    pub fn save_clock(&self, clock: &Clock) -> Result<(), StateError> {
        self.write_json(CLOCK, &clock.mark())
    }

    /// Where it was when it was one object.
    pub fn old_journal(&self) -> PathBuf {
        self.path.join(OLD_JOURNAL)
    }

    /// Takes the folder for this process alone; `None` if another one holds it.
    pub fn take(&self) -> Result<Option<Lock>, StateError> {
        let path = self.path.join(LOCK);
        lock::take(&path).map_err(|source| StateError::Write { path, source })
    }

    fn key(
        &self,
        name: &str,
        fresh: impl FnOnce() -> Secret<[u8; 32]>,
    ) -> Result<Secret<[u8; 32]>, StateError> {
        if let Some(bytes) = self.read(name)? {
            let bytes = Secret::new(bytes);
            let key = <[u8; 32]>::try_from(bytes.expose().as_slice());
            return key.map(Secret::new).map_err(|_| StateError::NoKey {
                path: self.path.join(name),
            });
        }
        let key = fresh();
        self.write(name, key.expose())?;
        Ok(key)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path.join(name);
        file::read_bounded(&path, FILE_BYTES_MAX)
            .map_err(|source| StateError::Read { path, source })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        file::write_private(&path, bytes).map_err(|source| StateError::Write { path, source })
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StateError::Damaged {
                path: self.path.join(name),
                source,
            })
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StateError::Damaged {
            path: self.path.join(name),
            source,
        })?;
        self.write(name, &bytes)
    }
}
