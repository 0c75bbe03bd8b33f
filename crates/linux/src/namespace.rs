//! Namespaces held by file descriptor, and work done inside them on threads of their own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The kinds of namespace used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Control groups: which one is seen as the root.
    Cgroup,
    /// Hostname.
    Uts,
    /// System V and POSIX message queues.
    Ipc,
    /// Interfaces, addresses, routes, firewall.
    Network,
    /// Process ids.
    Pid,
    /// Mounts. Entered last: it takes the paths of the old world away.
    Mount,
}

impl Kind {
    /// All kinds, in the order in which they may be entered together.
    pub const ALL: [Self; 6] = [
        Self::Cgroup,
        Self::Uts,
        Self::Ipc,
        Self::Network,
        Self::Pid,
        Self::Mount,
    ];

    /// Returns the name of the kind's file in `/proc/<pid>/ns`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::Mount => "mnt",
        }
    }

    /// Returns the `CLONE_NEW…` flag as `clone3` takes it.
    pub(crate) fn clone_flag(self) -> u64 {
        u64::from(self.setns_flag().cast_unsigned())
    }

    /// Returns the `CLONE_NEW…` flag as `setns` takes it.
    pub(crate) fn setns_flag(self) -> libc::c_int {
        match self {
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Network => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Mount => libc::CLONE_NEWNS,
        }
    }

    fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Network => LinkNameSpaceType::Network,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::Mount => LinkNameSpaceType::Mount,
        }
    }
}

/// Why a namespace could not be made or entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// It could not be made.
    #[error("could not make a namespace of kind `{}`", .kind.file_name())]
    Create {
        /// Of which kind.
        kind: Kind,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file that stands for it could not be opened.
    #[error("could not open namespace `{path}`")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be entered.
    #[error("could not enter a namespace of kind `{}`", .kind.file_name())]
    Enter {
        /// Of which kind.
        kind: Kind,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread could be started.
    #[error("could not start a thread")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A namespace, alive for as long as this is held.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    file: OwnedFd,
}

impl Namespace {
    /// Makes a network namespace: a loopback device that is down, and nothing else. `prepare` runs
    /// inside before anybody else can, to write sysctls that links take over when they are made.
    pub fn new_network<T: Send>(
        prepare: impl FnOnce() -> T + Send,
    ) -> Result<(Self, T), NamespaceError> {
        on_own_thread(|| {
            let failed = |source| NamespaceError::Create {
                kind: Kind::Network,
                source,
            };
            // WHY: the safe `unshare` of rustix is deprecated because unsharing files is unsound.
            // SAFETY: a new network namespace changes no memory and no descriptor.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| failed(e.into()))?;
            let prepared = prepare();
            Self::current(Kind::Network).map(|namespace| (namespace, prepared))
        })?
    }

    /// Opens the calling thread's own namespace.
    pub fn current(kind: Kind) -> Result<Self, NamespaceError> {
        Self::open(
            kind,
            format!("/proc/thread-self/ns/{}", kind.file_name()).as_ref(),
        )
    }

    /// Opens a namespace of the process `pid`.
    pub fn of_process(kind: Kind, pid: u32) -> Result<Self, NamespaceError> {
        Self::open(
            kind,
            format!("/proc/{pid}/ns/{}", kind.file_name()).as_ref(),
        )
    }

    /// Opens the file that stands for a namespace.
    pub fn open(kind: Kind, path: &Path) -> Result<Self, NamespaceError> {
        match File::open(path) {
            Ok(file) => Ok(Self {
                kind,
                file: file.into(),
            }),
            Err(source) => Err(NamespaceError::Open {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    /// Takes a descriptor that another process sent. Entering fails if it is of another kind.
    pub fn from_fd(kind: Kind, file: OwnedFd) -> Self {
        Self { kind, file }
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes a second handle of the same namespace.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            kind: self.kind,
            file: self.file.try_clone()?,
        })
    }

    /// Moves the calling thread into the namespace.
    fn enter(&self) -> Result<(), NamespaceError> {
        move_into_link_name_space(self.file.as_fd(), Some(self.kind.link_type())).map_err(|error| {
            NamespaceError::Enter {
                kind: self.kind,
                source: error.into(),
            }
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Does `work` on a thread of its own inside `namespaces`. Sockets and files that `work` opens and
/// returns stay bound to them; the calling thread stays where it is.
///
/// A PID namespace has no effect here: it concerns only processes that are started.
pub fn within<T: Send>(
    namespaces: &[&Namespace],
    work: impl FnOnce() -> T + Send,
) -> Result<T, NamespaceError> {
    on_own_thread(|| {
        enter_all(namespaces)?;
        Ok(work())
    })?
}

/// Moves the calling thread into `namespaces`, for ever. For threads that serve one purpose.
pub(crate) fn enter_all(namespaces: &[&Namespace]) -> Result<(), NamespaceError> {
    if namespaces
        .iter()
        .any(|namespace| namespace.kind == Kind::Mount)
    {
        let failed = |source| NamespaceError::Enter {
            kind: Kind::Mount,
            source,
        };
        // The kernel moves only a thread that shares its root and working folder with no other.
        // WHY: as in `new_network`.
        // SAFETY: `FS` gives this thread its own root, working folder and umask; no memory and
        // no descriptor table changes.
        unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(|error| failed(error.into()))?;
    }
    for kind in Kind::ALL {
        for namespace in namespaces.iter().filter(|namespace| namespace.kind == kind) {
            namespace.enter()?;
        }
    }
    Ok(())
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work);
        let worker = worker.map_err(|source| NamespaceError::Thread { source })?;
        match worker.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests;
