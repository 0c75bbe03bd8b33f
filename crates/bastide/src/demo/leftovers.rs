//! What a machine holds that a demo could leave behind: compared before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Everything of the machine that the demo could add to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    interfaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
    network_namespaces: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    own_processes: BTreeSet<String>,
    tables: BTreeSet<String>,
}

impl Machine {
    /// Looks at the machine as it is now.
    pub fn look() -> Self {
        let mut network_namespaces = BTreeSet::new();
        let mut own_processes = BTreeSet::new();
        let own_program = fs::read_link("/proc/self/exe").ok();
        for pid in names_in(Path::new("/proc")).filter(|name| name.parse::<u32>().is_ok()) {
            let process = Path::new("/proc").join(&pid);
            if let Ok(namespace) = fs::read_link(process.join("ns/net")) {
                network_namespaces.insert(namespace.display().to_string());
            }
            let program = fs::read_link(process.join("exe")).ok();
            if program.is_some() && program == own_program {
                own_processes.insert(pid);
            }
        }
        let mut cgroups = BTreeSet::new();
        collect_cgroups(Path::new("/sys/fs/cgroup"), 0, &mut cgroups);
        Self {
            interfaces: names_in(Path::new("/sys/class/net")).collect(),
            mounts: mount_points(),
            network_namespaces,
            cgroups,
            own_processes,
            tables: fs::read_to_string("/proc/net/ip_tables_names")
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Returns what is here that was not there `before`, a line each.
    pub fn added_since(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("interface", &self.interfaces, &before.interfaces),
            ("mount", &self.mounts, &before.mounts),
            (
                "network namespace",
                &self.network_namespaces,
                &before.network_namespaces,
            ),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("process", &self.own_processes, &before.own_processes),
            ("iptables table", &self.tables, &before.tables),
        ];
        let mut added = Vec::new();
        for (kind, now, then) in kinds {
            added.extend(now.difference(then).map(|name| format!("{kind} {name}")));
        }
        added
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn mount_points() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(str::to_owned)
        .collect()
}

/// Collects groups down to the depth at which a lab makes them: `<hierarchy>/<lab>/<host>/<group>`.
fn collect_cgroups(folder: &Path, depth: u8, into: &mut BTreeSet<String>) {
    const DEPTH_MAX: u8 = 4;
    for name in names_in(folder) {
        let path = folder.join(name);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if is_folder {
            into.insert(path.display().to_string());
            if depth < DEPTH_MAX {
                collect_cgroups(&path, depth + 1, into);
            }
        }
    }
}
