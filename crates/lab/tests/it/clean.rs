//! What remains of a lab: nothing, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bastide_lab::run::sweep::Leftover;
use bastide_lab::{Lab, sweep};
use bastide_linux::namespace::Kind;

use crate::support::{Root, THREE_SITES, can_run, run, sh, until};

/// The processes that hold a lab, or are in it: told by its control group in their arguments or
/// in their groups.
fn processes(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file| fs::read(entry.path().join(file)).unwrap_or_default();
        let text = [read("cmdline"), read("cgroup")].concat();
        if String::from_utf8_lossy(&text).contains(group) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// The network namespaces that any process is in or holds open.
fn networks() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let mut links = vec![entry.path().join("ns/net")];
        let descriptors = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        links.extend(descriptors.map(|descriptor| descriptor.path()));
        let targets = links.iter().filter_map(|link| fs::read_link(link).ok());
        let names = targets.map(|target| target.display().to_string());
        found.extend(names.filter(|name| name.starts_with("net:[")));
    }
    found
}

fn network_of(lab: &Lab, node: &str) -> String {
    let read = || {
        fs::read_link("/proc/thread-self/ns/net")
            .unwrap()
            .display()
            .to_string()
    };
    lab.within(node, read).unwrap()
}

fn groups(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let path = hierarchy.join(group);
        if path.exists() {
            found.push(path.display().to_string());
        }
    }
    found
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn a_lab_that_is_taken_down_leaves_nothing() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let mounts_before = mounts();
    let lab = root.up(THREE_SITES);
    let group = lab.control_group().to_owned();
    let inside: Vec<_> = lab
        .plan()
        .nodes()
        .keys()
        .map(|node| network_of(&lab, node.as_str()))
        .collect();
    assert!(!groups(&group).is_empty() && !processes(&group).is_empty());
    assert!(inside.iter().all(|network| networks().contains(network)));
    let sleeper = lab
        .spawn("boreas", sh("setsid sleep 1000 & sleep 1000"))
        .unwrap();
    sleeper.leave();
    lab.down().unwrap();
    assert_eq!(processes(&group), [""; 0]);
    assert_eq!(groups(&group), [""; 0]);
    assert!(inside.iter().all(|network| !networks().contains(network)));
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
    assert_eq!(mounts(), mounts_before);
}

#[test]
fn a_killed_supervisor_takes_everything_along_and_the_rest_is_swept() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let group = lab.control_group().to_owned();
    let inside = network_of(&lab, "boreas");
    run(&lab, "boreas", "setsid sleep 1000 >/dev/null 2>&1 & true");
    assert_eq!(sweep(&root.0).unwrap(), [], "a lab that is up is not swept");
    let supervisor = i32::try_from(lab.supervisor_pid().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    // As if our own process had died with it: nobody is left to clean up.
    std::mem::forget(lab);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    until("all processes to end", || {
        // We are its parent; another parent would be the machine's first process.
        let _ = rustix::process::waitpid(Some(supervisor), rustix::process::WaitOptions::NOHANG);
        processes(&group).is_empty()
    });
    assert!(!networks().contains(&inside));
    assert!(
        !groups(&group).is_empty(),
        "the kernel keeps groups: there is something to sweep"
    );
    let removed = sweep(&root.0).unwrap();
    let folder = root.0.join("three-sites");
    assert!(
        removed
            .iter()
            .any(|one| one.what == Leftover::Folder(folder.clone()))
    );
    assert!(
        removed
            .iter()
            .any(|one| matches!(&one.what, Leftover::Group(path) if path.ends_with("boreas")))
    );
    assert_eq!(groups(&group), [""; 0]);
    assert!(!folder.exists());
    assert_eq!(sweep(&root.0).unwrap(), []);
}

#[test]
fn the_name_of_a_dead_lab_can_be_used_at_once() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let group = lab.control_group().to_owned();
    let supervisor = i32::try_from(lab.supervisor_pid().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    std::mem::forget(lab);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(supervisor), rustix::process::WaitOptions::empty()).unwrap();
    let lab = root.up(THREE_SITES);
    assert!(!lab.removed_before().is_empty());
    assert_eq!(groups(&group), [""; 0]);
    assert_ne!(lab.control_group(), group);
}

#[test]
fn a_lab_ends_when_whoever_brought_it_up_is_killed() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let file = root.0.join("lab.yaml");
    fs::write(&file, THREE_SITES).unwrap();
    let state = root.0.join("state");
    let mut holder = Command::new(env!("CARGO_BIN_EXE_bastide-lab-supervisor"))
        .arg("hold")
        .args([&state, &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let group = line.trim().to_owned();
    assert!(!processes(&group).is_empty(), "{line}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("all processes to end", || processes(&group).is_empty());
    assert_eq!(
        groups(&group),
        [""; 0],
        "the supervisor removed them on its way out"
    );
    sweep(&state).unwrap();
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}

#[test]
fn a_lab_that_is_kept_lives_on_until_it_is_told_to_end() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let group = lab.control_group().to_owned();
    lab.keep().unwrap();
    let lab = Lab::attach("three-sites", &root.0).unwrap();
    run(&lab, "atlas", "true");
    drop(lab);
    let lab = Lab::attach("three-sites", &root.0).unwrap();
    assert_eq!(lab.network("atlas").unwrap().kind(), Kind::Network);
    lab.down().unwrap();
    assert!(!Path::new(&root.0).join("three-sites").exists());
    assert_eq!(groups(&group), [""; 0]);
}
