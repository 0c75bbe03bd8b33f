//! Control groups: version 1 hierarchies, the unified one, or both side by side.
//!
//! A [`Group`] is one path in every hierarchy. The kernel removes a group only when told to, and
//! only when it is empty: what a crash leaves behind is found again by [`Hierarchies::leftovers`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why an operation on control groups failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} control group `{path}`")]
pub struct GroupError {
    operation: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GroupError {
    let path = path.display().to_string();
    move |source| GroupError {
        operation,
        path,
        source,
    }
}

/// One hierarchy of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its options when mounting it again: controllers, or a name. Empty for the unified hierarchy.
    pub options: String,
    /// Whether it is the unified hierarchy (version 2).
    pub is_unified: bool,
}

/// All hierarchies that are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Finds the hierarchies mounted below `/sys/fs/cgroup`.
    pub fn find() -> Result<Self, GroupError> {
        let path = Path::new("/proc/self/mountinfo");
        fs::read_to_string(path)
            .map(|text| Self::parse(&text))
            .map_err(failed("find", path))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = place.split(' ').nth(4) else {
                continue;
            };
            let mut kind = kind.split(' ');
            let (Some(kind), Some(options)) = (kind.next(), kind.nth(1)) else {
                continue;
            };
            // By components: `/sys/fs/cgroup-mine` is somebody else's.
            if !Path::new(mount).starts_with("/sys/fs/cgroup")
                || found.iter().any(|h| h.mount == Path::new(mount))
            {
                continue;
            }
            let is_unified = match kind {
                "cgroup" => false,
                "cgroup2" => true,
                _ => continue,
            };
            let kept = options.split(',').filter(|option| {
                !is_unified
                    && !matches!(*option, "rw" | "ro" | "xattr" | "clone_children" | "")
                    && !option.starts_with("release_agent=")
            });
            let mut options: Vec<&str> = kept.collect();
            if options.iter().any(|option| option.starts_with("name=")) {
                options.insert(0, "none");
            }
            found.push(Hierarchy {
                mount: mount.into(),
                options: options.join(","),
                is_unified,
            });
        }
        Self(found)
    }

    /// Lists them.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// Tells whether the unified hierarchy is the only one.
    pub fn is_unified_only(&self) -> bool {
        self.0.iter().all(|hierarchy| hierarchy.is_unified) && !self.0.is_empty()
    }

    /// Makes the group `path` (such as `lab-7/atlas`) and its parents in each hierarchy, ready for
    /// processes to join.
    pub fn create(&self, path: &str) -> Result<Group, GroupError> {
        let group = Group {
            path: path.to_owned(),
            hierarchies: self.clone(),
        };
        for hierarchy in &self.0 {
            let mut folder = hierarchy.mount.clone();
            for part in path.split('/') {
                if hierarchy.is_unified && self.is_unified_only() {
                    delegate(&folder);
                }
                let parent = folder.clone();
                folder.push(part);
                match fs::create_dir(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed("create", &folder)(error));
                    }
                    _ => inherit_cpus(&parent, &folder),
                }
            }
        }
        Ok(group)
    }

    /// Takes up the group `path`, whether it is there or not.
    pub fn group(&self, path: &str) -> Group {
        Group {
            path: path.to_owned(),
            hierarchies: self.clone(),
        }
    }

    /// Lists the groups directly below the root whose name starts with `prefix`, in any hierarchy.
    pub fn leftovers(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for hierarchy in &self.0 {
            for entry in fs::read_dir(&hierarchy.mount)
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(prefix) && entry.path().is_dir() && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.sort();
        names
    }
}

/// Lets the children of a unified group use all its controllers. One that is busy or that holds
/// processes itself refuses; its children then go without.
fn delegate(folder: &Path) {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(
            folder.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// Gives a new group of version 1 its parent's processors and memory nodes: without any, no process
/// can join it.
fn inherit_cpus(parent: &Path, folder: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(parent.join(file))
            && fs::read_to_string(folder.join(file)).is_ok_and(|own| own.trim().is_empty())
        {
            let _ = fs::write(folder.join(file), value.trim());
        }
    }
}

/// One path in every hierarchy.
#[derive(Debug, Clone)]
pub struct Group {
    path: String,
    hierarchies: Hierarchies,
}

impl Group {
    /// Returns its path below each hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens the files through which a process joins, one per hierarchy, for
    /// [`crate::spawn::Command::join_group`].
    pub fn open_procs(&self) -> Result<Vec<File>, GroupError> {
        self.folders()
            .map(|folder| {
                let file = folder.join("cgroup.procs");
                File::options()
                    .write(true)
                    .open(&file)
                    .map_err(failed("join", &folder))
            })
            .collect()
    }

    /// Returns the processes in it and in all groups below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for folder in self.folders() {
            for group in below(&folder) {
                let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes it and all groups below it, and returns the folders that were removed. Waits up to
    /// `limit` for processes that are just ending.
    pub fn remove(&self, limit: Duration) -> Result<Vec<PathBuf>, GroupError> {
        let deadline = Instant::now() + limit;
        let mut removed = Vec::new();
        for folder in self.folders() {
            for group in below(&folder) {
                loop {
                    match fs::remove_dir(&group) {
                        Ok(()) => {
                            removed.push(group);
                            break;
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                            if deadline <= Instant::now() {
                                return Err(failed("remove", &group)(error));
                            }
                            // The kernel tells nobody when a group of version 1 becomes empty.
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        Err(error) => return Err(failed("remove", &group)(error)),
                    }
                }
            }
        }
        Ok(removed)
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies
            .0
            .iter()
            .map(|hierarchy| hierarchy.mount.join(&self.path))
    }
}

/// Lists `folder` and all folders below it, deepest first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    if folder.is_dir() {
        found.push(folder.to_owned());
    }
    found
}

/// Reads a list of mounts: a container may mount what it likes, under names that it likes.
#[cfg(any(test, bastide_fuzz))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let found = Hierarchies::parse(&String::from_utf8_lossy(bytes));
    for hierarchy in found.iter() {
        assert!(hierarchy.mount.starts_with("/sys/fs/cgroup"));
        assert!(!hierarchy.is_unified || hierarchy.options.is_empty());
    }
    let _ = found.is_unified_only();
}

#[cfg(test)]
mod tests;
