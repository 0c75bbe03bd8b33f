//! Mounts of the calling thread's mount namespace.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount as mount_raw, mount_bind, mount_change,
    unmount,
};
use rustix::process::pivot_root;

/// Why a mount operation failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} `{path}`")]
pub struct MountError {
    operation: String,
    path: String,
    #[source]
    source: io::Error,
}

fn failed(operation: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    let (operation, path) = (operation.into(), path.display().to_string());
    move |source| MountError {
        operation,
        path,
        source,
    }
}

/// Stops mounts of this namespace from spreading to others and theirs from spreading here.
pub fn make_private() -> Result<(), MountError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags)
        .map_err(|error| failed("make mounts private below", "/".as_ref())(error.into()))
}

/// Mounts a file system of kind `kind` at `target`, which is made if missing. `options` are the
/// file system's own, separated by commas.
pub fn mount(kind: &str, target: &Path, options: &str) -> Result<(), MountError> {
    let operation = format!("mount `{kind}` at");
    fs::create_dir_all(target).map_err(failed(operation.clone(), target))?;
    let data = CString::new(options)
        .map_err(|_| failed(operation.clone(), target)(io::ErrorKind::InvalidInput.into()))?;
    let flags = match kind {
        "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue" => {
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
        }
        _ => MountFlags::empty(),
    };
    mount_raw(kind, target, kind, flags, data.as_c_str())
        .map_err(|error| failed(operation, target)(error.into()))
}

/// Makes `source` appear at `target` too. A missing target is made: a folder for a folder, an empty
/// file for anything else.
pub fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    let operation = format!("bind `{}` to", source.display());
    let is_folder = fs::metadata(source)
        .map_err(failed(operation.clone(), target))?
        .is_dir();
    let made = if is_folder {
        fs::create_dir_all(target)
    } else {
        match File::options().write(true).create_new(true).open(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    made.map_err(failed(operation.clone(), target))?;
    mount_bind(source, target).map_err(|error| failed(operation, target)(error.into()))
}

/// Makes `root`, which must be a mount, the root of the namespace, and drops the old root with all
/// that is mounted on it.
pub fn become_root(root: &Path) -> Result<(), MountError> {
    let refused =
        |error: rustix::io::Errno| failed("make the root of the namespace", root)(error.into());
    rustix::process::chdir(root).map_err(refused)?;
    // The old root lands on top of the new one, from where it is taken off (pivot_root(2), NOTES).
    pivot_root(".", ".").map_err(refused)?;
    unmount(".", UnmountFlags::DETACH).map_err(refused)?;
    rustix::process::chdir("/").map_err(refused)
}
