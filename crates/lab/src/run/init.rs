//! The first process of a host: it makes the host's world out of the machine's, then reaps.
//!
//! What a real container engine needs of that world, found by trying it (Docker 20.10, runc 1.1.5,
//! Linux 6.18, control groups of both versions side by side):
//! - its own control-group namespace whose root is the host's group, and each hierarchy mounted
//!   anew inside it, writable, under a tmpfs at `/sys/fs/cgroup`. The engine's own `/docker` is then
//!   `<lab>/<host>/docker` of the machine, without a `--cgroup-parent`;
//! - a `cpuset` group that was given processors and memory nodes before anybody joins it;
//! - `/var/lib/docker` and `/var/lib/containerd` on a tmpfs: the root is an overlay, and overlay2
//!   refuses an upper folder on an overlay;
//! - a new sysfs, for the interfaces of its own network namespace, and `/proc` of its own PID
//!   namespace, both writable;
//! - nothing of the machine's `/run` (an engine finds a socket there and believes it is running),
//!   and nothing of `/etc/docker`.
//!
//! With that, an engine is up in half a second, and several on one machine form a Swarm. The host's
//! files are an overlay over the machine's, with its upper part in a tmpfs that only this mount
//! namespace has, so that nothing remains of it when the last process has ended.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bastide_linux::cgroup::{GroupError, Hierarchies};
use bastide_linux::host;
use bastide_linux::mount::{self, MountError};
use bastide_linux::signals::Signals;
use bastide_linux::spawn::{self, Signal};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::one_line;

/// Where the host's world is put together; any folder that every machine has.
const SCRATCH: &str = "/mnt";
/// Descriptor on which the first process tells that it is ready, or why not.
pub(crate) const READY_FD: i32 = 3;

/// Devices of a host: name, major and minor number (the kernel's `Documentation/admin-guide/
/// devices.txt`).
const DEVICES: [(&str, u32, u32); 9] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("kmsg", 1, 11),
    ("tty", 5, 0),
    ("net/tun", 10, 200),
    ("fuse", 10, 229),
];
/// Folders that are a tmpfs of the host's own.
const FRESH: [&str; 3] = ["run", "var/lib/docker", "var/lib/containerd"];
/// What of this machine a new host must not have: its Bastide, its engine's settings.
const ABSENT: [&str; 3] = ["etc/bastide", "var/lib/bastide", "etc/docker"];

/// Why a host's world could not be made.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("could not {operation} `{path}`")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not {operation}")]
    System {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The program of a host's first process. `arguments` are those that the supervisor gave: the
/// hostname. Runs until it is told to end; the kernel then ends all other processes of the host.
pub fn init_main(arguments: &[String]) -> ExitCode {
    let Ok(ready) = spawn::inherited(READY_FD) else {
        return ExitCode::from(2);
    };
    let mut ready = File::from(ready);
    let signals = Signals::block(&[Signal::CHILD, Signal::TERM, Signal::INT]);
    let made = match (arguments, signals) {
        ([hostname], Ok(signals)) => make_world(hostname)
            .map(|()| signals)
            .map_err(|error| one_line(&error)),
        (_, Err(error)) => Err(error.to_string()),
        (_, Ok(_)) => Err("expected one argument: the hostname".to_owned()),
    };
    let signals = match made {
        Ok(signals) => signals,
        Err(why) => {
            let _ = ready.write_all(why.as_bytes());
            return ExitCode::FAILURE;
        }
    };
    if ready.write_all(b"ok").is_err() {
        return ExitCode::FAILURE;
    }
    drop(ready);
    loop {
        match signals.wait() {
            Ok(Signal::CHILD) => drop(spawn::reap()),
            Ok(_) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn make_world(hostname: &str) -> Result<(), InitError> {
    let system = |operation| move |source| InitError::System { operation, source };
    rustix::process::umask(Mode::empty());
    host::set_hostname(hostname).map_err(system("set the hostname"))?;
    let hierarchies = Hierarchies::find()?;
    mount::make_private()?;
    let mounted = fs::read_to_string("/proc/self/mountinfo").map_err(system("list mounts"))?;

    let scratch = Path::new(SCRATCH);
    mount::mount("tmpfs", scratch, "mode=0700")?;
    let root = scratch.join("root");
    for (number, place) in (0..).zip(file_systems(&mounted)) {
        overlay(scratch, number, &place, &root)?;
    }
    mount::mount("proc", &root.join("proc"), "")?;
    mount::mount("sysfs", &root.join("sys"), "")?;
    devices(&root.join("dev"))?;
    groups(&hierarchies, &root.join("sys/fs/cgroup"))?;
    for folder in FRESH {
        mount::mount("tmpfs", &root.join(folder), "mode=0755")?;
    }
    for folder in ABSENT {
        match fs::remove_dir_all(root.join(folder)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let path = Path::new("/").join(folder);
                return Err(InitError::File {
                    operation: "hide",
                    path,
                    source,
                });
            }
            _ => {}
        }
    }
    identity(&root.join("etc"), hostname)?;
    mount::become_root(&root)?;
    if hierarchies.is_unified_only() {
        leave_root_group();
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Returns where this machine has files: the root, and what else is mounted with files of people or
/// programs. Parents come before children.
fn file_systems(mountinfo: &str) -> BTreeSet<PathBuf> {
    const KINDS: [&str; 13] = [
        "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "tmpfs", "overlay",
        "squashfs", "erofs", "virtiofs",
    ];
    let elsewhere = [
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/mnt",
        "/var/lib/docker",
        "/var/lib/containerd",
    ];
    let mut places = BTreeSet::from([PathBuf::from("/")]);
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(place) = place.split(' ').nth(4) else {
            continue;
        };
        let kind = kind.split(' ').next().unwrap_or_default();
        let is_elsewhere = elsewhere
            .iter()
            .any(|prefix| Path::new(place).starts_with(prefix));
        // A space or other odd byte in a path is written as an escape; such mounts are left out.
        if KINDS.contains(&kind)
            && !is_elsewhere
            && !place.contains('\\')
            && Path::new(place).is_dir()
        {
            places.insert(place.into());
        }
    }
    places
}

/// Mounts an overlay over the files at `place`. All but the root are left out if that fails.
fn overlay(scratch: &Path, number: u32, place: &Path, root: &Path) -> Result<(), InitError> {
    let upper = scratch.join(format!("upper{number}"));
    let work = scratch.join(format!("work{number}"));
    for folder in [&upper, &work] {
        make_folder(folder, 0o755)?;
    }
    let target = root.join(place.strip_prefix("/").expect("mounts have absolute paths"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        place.display(),
        upper.display(),
        work.display()
    );
    match mount::mount("overlay", &target, &options) {
        Err(error) if place == Path::new("/") => Err(error.into()),
        _ => Ok(()),
    }
}

fn devices(dev: &Path) -> Result<(), InitError> {
    mount::mount("tmpfs", dev, "mode=0755")?;
    for folder in ["net", "pts", "shm", "mqueue"] {
        make_folder(&dev.join(folder), 0o755)?;
    }
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .map_err(|error| file("make device", &path)(error.into()))?;
    }
    mount::mount(
        "devpts",
        &dev.join("pts"),
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    mount::mount("tmpfs", &dev.join("shm"), "mode=1777")?;
    // Not every kernel has message queues, and nothing here needs them.
    let _ = mount::mount("mqueue", &dev.join("mqueue"), "");
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (to, name) in links {
        let path = dev.join(name);
        symlink(to, &path).map_err(file("link", &path))?;
    }
    Ok(())
}

/// Mounts the hierarchies of control groups as the host's namespace shows them.
fn groups(hierarchies: &Hierarchies, target: &Path) -> Result<(), InitError> {
    if hierarchies.is_unified_only() {
        return Ok(mount::mount("cgroup2", target, "")?);
    }
    mount::mount("tmpfs", target, "mode=0755")?;
    for hierarchy in hierarchies.iter() {
        let name = hierarchy
            .mount
            .strip_prefix("/sys/fs/cgroup")
            .unwrap_or(&hierarchy.mount);
        let kind = if hierarchy.is_unified {
            "cgroup2"
        } else {
            "cgroup"
        };
        mount::mount(kind, &target.join(name), &hierarchy.options)?;
        // `cpu,cpuacct` is found by either name.
        for controller in hierarchy
            .options
            .split(',')
            .filter(|_| hierarchy.options.contains(','))
        {
            let _ = symlink(name, target.join(controller));
        }
    }
    Ok(())
}

/// In a unified hierarchy a group that shares its controllers with its children may hold no
/// process: so the host's processes live in a leaf, and its root is free for an engine's groups.
fn leave_root_group() {
    let _ = fs::create_dir("/sys/fs/cgroup/init");
    let _ = fs::write("/sys/fs/cgroup/init/cgroup.procs", "0");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(
            "/sys/fs/cgroup/cgroup.subtree_control",
            format!("+{controller}"),
        );
    }
}

/// Gives the host its names. It has no resolver but what is started in it.
fn identity(etc: &Path, hostname: &str) -> Result<(), InitError> {
    let hosts = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost\n");
    let files = [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts),
        (
            "resolv.conf",
            "# A host of a lab has no resolver of its own.\n".to_owned(),
        ),
    ];
    for (name, text) in files {
        let path = etc.join(name);
        // It may be a link into a folder that the host does not have.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(file("write", &path))?;
    }
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> Result<(), InitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(file("create", path))
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |source| InitError::File {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
