//! The folder of a running lab: `<root>/<name>/` with the lab's file, its control socket, and a lock
//! that lives exactly as long as the supervisor.
//!
//! The lock belongs to an open file, which the supervisor inherits: so a lab whose lock can be
//! taken is dead, however it died, and process ids, which are reused, are never asked.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bastide_linux::cgroup::Hierarchies;
use bastide_linux::file::create_private_dir;
use rustix::fs::{FlockOperation, flock};

use super::GROUP_PREFIX;
use crate::core::plan::LabName;

/// How long dying processes may keep a control group busy.
const GROUP_WAIT: Duration = Duration::from_secs(10);

/// Why a lab's folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another lab of the name is up.
    #[error("lab `{name}` is already up")]
    AlreadyUp {
        /// The lab.
        name: LabName,
    },
    /// Something could not be done to a file.
    #[error("could not {operation} `{path}`")]
    File {
        /// What.
        operation: &'static str,
        /// To which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::File {
        operation,
        path,
        source,
    }
}

/// Something that a dead lab had left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The lab.
    pub lab: String,
    /// What it was.
    pub what: Leftover,
}

/// A kind of thing that a dead lab leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A control group.
    Group(PathBuf),
    /// The state folder.
    Folder(PathBuf),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.what {
            Leftover::Group(path) => write!(f, "control group {}", path.display()),
            Leftover::Folder(path) => write!(f, "folder {}", path.display()),
        }
    }
}

/// The folder of a lab, locked.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    lock: File,
}

impl State {
    /// Takes the folder of lab `name`; removes what a dead lab of that name left there.
    pub(crate) fn take(root: &Path, name: &LabName) -> Result<(Self, Vec<Removed>), StateError> {
        // One that is there already keeps its permissions; each lab's own folder is private.
        if !root.is_dir() {
            create_private_dir(root).map_err(failed("create", root))?;
        }
        let folder = root.join(name.as_str());
        loop {
            create_private_dir(&folder).map_err(failed("create", &folder))?;
            let Some(state) = Self::lock(&folder)? else {
                return Err(StateError::AlreadyUp { name: name.clone() });
            };
            let mut removed = state.clean()?;
            // Somebody else may have removed the folder between its making and its locking.
            if state.is_current() {
                removed.retain(|one| matches!(one.what, Leftover::Group(_)));
                return Ok((state, removed));
            }
        }
    }

    /// Locks an existing folder; `None` if its lab is up.
    pub(crate) fn lock(folder: &Path) -> Result<Option<Self>, StateError> {
        let path = folder.join("lock");
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let lock = match lock {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(failed("open", &path))?,
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self {
                folder: folder.to_owned(),
                lock,
            })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }

    fn is_current(&self) -> bool {
        let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let ours = self.lock.metadata().map(number);
        let there = fs::metadata(self.folder.join("lock")).map(number);
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    /// Writes down which control group the lab will use, before it is made.
    pub(crate) fn record(&mut self, group: &str, file: &str) -> Result<(), StateError> {
        let path = self.folder.join("lab.yaml");
        fs::write(&path, file).map_err(failed("write", &path))?;
        let write = failed("write", &self.folder.join("lock"));
        let mut lock = &self.lock;
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(group.as_bytes()))
            .map_err(write)
    }

    /// Listens on the control socket.
    pub(crate) fn listen(&self) -> Result<UnixListener, StateError> {
        let path = self.folder.join("control");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(failed("listen on", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(failed("restrict", &path))?;
        Ok(listener)
    }

    /// Returns a second handle of the lock, for the supervisor.
    pub(crate) fn lock_file(&self) -> Result<File, StateError> {
        self.lock
            .try_clone()
            .map_err(failed("share", &self.folder.join("lock")))
    }

    /// Returns the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the control groups that the folder's lab recorded.
    fn clean(&self) -> Result<Vec<Removed>, StateError> {
        let path = self.folder.join("lock");
        let mut group = String::new();
        let mut lock = &self.lock;
        lock.rewind()
            .and_then(|()| lock.read_to_string(&mut group))
            .map_err(failed("read", &path))?;
        // Only ever what a lab named so, whatever stands in the file.
        if !group.starts_with(GROUP_PREFIX) || group.contains(['/', '\0']) {
            return Ok(Vec::new());
        }
        let lab = self
            .folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let other = |error: bastide_linux::cgroup::GroupError| {
            failed("remove the control groups of", &self.folder)(io::Error::other(error))
        };
        let hierarchies = Hierarchies::find().map_err(other)?;
        let folders = hierarchies
            .group(&group)
            .remove(GROUP_WAIT)
            .map_err(other)?;
        let removed = folders
            .into_iter()
            .map(|path| Removed {
                lab: lab.clone(),
                what: Leftover::Group(path),
            })
            .collect();
        Ok(removed)
    }

    /// Removes the lab's control groups and the folder itself, and tells what was there.
    pub(crate) fn remove(self) -> Result<Vec<Removed>, StateError> {
        let mut removed = self.clean()?;
        if self.is_current() {
            match fs::remove_dir_all(&self.folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &self.folder)(error));
                }
                _ => {}
            }
            let lab = self
                .folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            removed.push(Removed {
                lab,
                what: Leftover::Folder(self.folder.clone()),
            });
        }
        Ok(removed)
    }
}
