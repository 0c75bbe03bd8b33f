//! Processes that are killed, each at the worst time, and what is left of a lab then: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::containers::{Container, idle};
use crate::site::{
    BASTIDE, Folder, Site, can_run, kill, kill_all_of, processes, three_sites_and, until,
};

/// Where the program keeps the state of labs, its demo's too.
const LABS: &str = "/run/bastide-lab";

/// What a lab is made of, remembered while it is up.
struct Lab {
    /// The name of its control groups, which is in its processes' arguments or groups.
    group: String,
    /// Its folder.
    folder: PathBuf,
    /// Namespaces of its processes that are not ours.
    namespaces: BTreeSet<PathBuf>,
    /// This machine's interfaces before it.
    interfaces: BTreeSet<String>,
    /// Where something was mounted on this machine before it.
    mounts: BTreeSet<String>,
}

/// This machine before a lab.
struct Machine {
    interfaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

impl Machine {
    fn look() -> Self {
        let links = fs::read_dir("/sys/class/net").unwrap().flatten();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        Self {
            interfaces: links
                .map(|link| link.file_name().to_string_lossy().into_owned())
                .collect(),
            mounts: mounts.map(str::to_owned).collect(),
        }
    }
}

/// The namespaces of a process, and those that it holds open.
fn namespaces(pid: u32) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for folder in ["ns", "fd"] {
        let links = fs::read_dir(format!("/proc/{pid}/{folder}")).into_iter();
        let targets = links.flatten().flatten();
        let targets = targets.filter_map(|link| fs::read_link(link.path()).ok());
        found.extend(targets.filter(|target| {
            let kinds = ["net:[", "mnt:[", "pid:[", "uts:[", "ipc:[", "cgroup:["];
            let target = target.to_string_lossy();
            kinds.iter().any(|kind| target.starts_with(kind))
        }));
    }
    found
}

impl Lab {
    /// Remembers the lab that is up with its state in `folder`.
    fn remember(folder: &Path, before: Machine) -> Self {
        let group = fs::read_to_string(folder.join("lock")).unwrap();
        assert!(group.starts_with("bastide-lab-"), "{group}");
        let mut lab = Self {
            group,
            folder: folder.to_owned(),
            namespaces: BTreeSet::new(),
            interfaces: before.interfaces,
            mounts: before.mounts,
        };
        let ours = namespaces(std::process::id());
        for pid in lab.processes() {
            let theirs = namespaces(pid);
            lab.namespaces.extend(theirs.difference(&ours).cloned());
        }
        lab
    }

    fn processes(&self) -> Vec<u32> {
        let is_of_lab = |pid: &u32| {
            ["cmdline", "cgroup"].iter().any(|file| {
                let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(&self.group)
            })
        };
        processes().into_iter().filter(is_of_lab).collect()
    }

    /// Its processes with a program of this name.
    fn running(&self, name: &str) -> Vec<u32> {
        let is_named = |pid: &u32| {
            let name_of = fs::read_to_string(format!("/proc/{pid}/comm"));
            name_of.is_ok_and(|found| found.trim() == name)
        };
        self.processes().into_iter().filter(is_named).collect()
    }

    fn supervisor(&self) -> u32 {
        let is_supervisor = |pid: &u32| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = text.split(|byte| *byte == 0).collect();
            words.contains(&&b"supervisor"[..])
        };
        self.processes().into_iter().find(is_supervisor).unwrap()
    }

    /// What of it is still there, a line each.
    fn remains(&self) -> Vec<String> {
        let now = Machine::look();
        let mut remains = Vec::new();
        let added = now.interfaces.difference(&self.interfaces);
        remains.extend(added.map(|name| format!("interface {name}")));
        let added = now.mounts.difference(&self.mounts);
        remains.extend(added.map(|place| format!("mount {place}")));
        remains.extend(self.processes().iter().map(|pid| format!("process {pid}")));
        for pid in processes() {
            let held = namespaces(pid);
            let held = held.intersection(&self.namespaces);
            remains.extend(held.map(|one| format!("{} by process {pid}", one.display())));
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(&self.group);
            let at_root = Path::new("/sys/fs/cgroup").join(&self.group);
            for path in [group, at_root] {
                if path.exists() {
                    remains.push(format!("control group {}", path.display()));
                }
            }
        }
        if self.folder.exists() {
            remains.push(format!("folder {}", self.folder.display()));
        }
        remains
    }

    /// Waits until none of its processes is left.
    fn until_dead(&self) {
        until("the lab's processes to end", || self.processes().is_empty());
    }
}

fn lab_verb(words: &[&str], file: &Path) -> Output {
    let (verb, rest) = words.split_first().unwrap();
    let mut command = Command::new(BASTIDE);
    command.args(["lab", verb]).arg(file).args(rest);
    command.stdin(Stdio::null()).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A lab's file of a name that no other test uses, and the folder in which its state will be.
fn lab_file(folder: &Folder) -> (PathBuf, PathBuf) {
    let name = format!("killed-{}", std::process::id());
    let file = folder.0.join("lab.yaml");
    fs::write(&file, three_sites_and(&name, "")).unwrap();
    (file, Path::new(LABS).join(name))
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_after_the_next_command() {
    if !can_run(&["dockerd", "docker", "iptables"]) {
        return;
    }
    let before = Machine::look();
    let folder = Folder::new();
    let (file, _) = lab_file(&folder);
    let mut demo = Command::new(BASTIDE)
        // It is killed long before it looks into the image.
        .args(["demo", "--json", "--hello", BASTIDE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let is_under_way = |line: &str| line.contains("\"bastide up on atlas\"");
    assert!(
        lines.any(|line| is_under_way(&line.unwrap())),
        "the demo begins a cluster"
    );
    let lab = Lab::remember(&Path::new(LABS).join("three-sites"), before);
    assert_eq!(lab.running("dockerd").len(), 3);
    assert!(20 < lab.namespaces.len(), "{:?}", lab.namespaces);
    demo.kill().unwrap();
    demo.wait().unwrap();
    lab.until_dead();
    let next = lab_verb(&["status"], &file);
    assert!(
        told(&next).contains("removed what an earlier lab left"),
        "{}",
        told(&next)
    );
    until("the last of it", || lab.remains().is_empty());
}

#[test]
fn a_lab_whose_supervisor_is_killed_leaves_nothing_after_the_next_command() {
    if !can_run(&["dockerd", "docker", "iptables"]) {
        return;
    }
    let before = Machine::look();
    let folder = Folder::new();
    let (file, state) = lab_file(&folder);
    let up = lab_verb(&["up"], &file);
    assert!(up.status.success(), "{}", told(&up));
    let engine = "setsid dockerd --oom-score-adjust 0 --storage-driver overlay2 \
                  > /run/engine.log 2>&1 < /dev/null & true";
    assert!(
        lab_verb(&["exec", "boreas", "sh", "-c", engine], &file)
            .status
            .success()
    );
    until("the engine", || {
        let asked = lab_verb(&["exec", "boreas", "docker", "version"], &file);
        asked.status.success()
    });
    let lab = Lab::remember(&state, before);
    assert_eq!(lab.running("dockerd").len(), 1);
    kill(lab.supervisor());
    lab.until_dead();
    assert!(
        lab.remains()
            .iter()
            .any(|line| line.starts_with("control group")),
        "the kernel keeps groups: there is something to remove"
    );
    let next = lab_verb(&["status"], &file);
    assert_eq!(next.status.code(), Some(5), "it is not up");
    assert!(
        told(&next).contains("removed what an earlier lab left"),
        "{}",
        told(&next)
    );
    until("the last of it", || lab.remains().is_empty());
}

#[test]
fn a_lab_is_taken_down_whole_whatever_was_killed_in_its_hosts() {
    if !can_run(&["dockerd", "docker", "iptables", "ping"]) || idle().is_none() {
        return;
    }
    let before = Machine::look();
    let mut site = Site::three_and("survivors", "");
    let engines = site.start_engines(&["atlas", "boreas"]);
    let (_ticket, up) = site.up();
    let join = site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    let lab = Lab::remember(site.state(), before);

    // An engine that is killed is missed, and taken back when it returns.
    kill(engines[1].pid);
    site.wait_for_end(&engines[1]);
    until("the engine to be missed", || {
        let status = site.status("boreas").unwrap();
        status
            .troubles
            .iter()
            .any(|line| line.contains("does not answer"))
    });
    site.start_engines(&["boreas"]);
    site.until_swarm(&["atlas", "boreas"]);
    until("no trouble", || {
        site.status("boreas").unwrap().troubles.is_empty()
    });

    let container = Container::run(&site, "boreas");

    // Then everything dies: both agents, the server, the engines, and what they ran stays behind.
    kill_all_of(up.pid);
    kill_all_of(join.pid);
    for engine in lab.running("dockerd") {
        kill(engine);
    }
    assert!(!lab.running("idle").is_empty(), "the container lives on");
    drop(container);
    site.down();
    until("the last of it", || lab.remains().is_empty());
}
