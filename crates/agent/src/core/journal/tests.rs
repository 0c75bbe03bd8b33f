use super::*;

fn forward(before: &str) -> Change {
    Change::Sysctl {
        name: "net/ipv4/ip_forward".to_owned(),
        before: before.to_owned(),
    }
}

fn swarm() -> Change {
    Change::Swarm {
        engine: Some("/run/docker.sock".into()),
        address: Some(Ipv4Addr::new(100, 72, 0, 2)),
    }
}

fn some_changes() -> Vec<Change> {
    vec![
        Change::Interface {
            name: "bst0".to_owned(),
        },
        Change::Unreachable {
            to: "100.72.0.0/16".parse().unwrap(),
        },
        forward("0"),
        swarm(),
        Change::DockerUserRule,
    ]
}

#[test]
fn the_first_original_is_the_one_that_is_put_back() {
    let mut journal = Journal::new();
    assert!(journal.record(forward("0")).is_some());
    assert_eq!(journal.record(forward("1")), None);
    assert_eq!(journal.undo_order().collect::<Vec<_>>(), [&forward("0")]);
}

#[test]
fn undoing_goes_backwards() {
    let mut journal = Journal::new();
    journal.record(forward("0"));
    journal.record(swarm());
    journal.record(Change::DockerUserRule);
    let order: Vec<_> = journal.undo_order().cloned().collect();
    assert_eq!(order, [Change::DockerUserRule, swarm(), forward("0")]);
    for change in &order {
        journal.forget(change);
    }
    assert!(journal.is_empty());
}

#[test]
fn the_stored_form_of_format_1_stays_readable() {
    let golden = r#"{"format":1,"changes":[
        {"kind":"sysctl","name":"net/ipv4/ip_forward","before":"0"},
        {"kind":"nft-table","family":"inet","name":"bastide"},
        {"kind":"docker-user-rule"},
        {"kind":"interface","name":"bst0"},
        {"kind":"swarm"}]}"#;
    let journal = Journal::read_object(golden.as_bytes()).unwrap().unwrap();
    assert_eq!(journal.undo_order().count(), 5);
    let found = Journal::read(&journal.bytes()).unwrap();
    assert_eq!((found.journal, found.damaged), (journal, vec![]));
    assert_eq!(Journal::read_object(b"{\"format\":1,\"cha"), Ok(None));
}

#[test]
fn the_stored_form_of_format_2_stays_readable() {
    let golden = r#"{"format":2}
{"made":{"kind":"interface","name":"bst0"}}
{"made":{"kind":"unreachable","to":"100.72.0.0/16"}}
{"made":{"kind":"sysctl","name":"net/ipv4/ip_forward","before":"0"}}
{"made":{"kind":"swarm","engine":"/run/docker.sock","address":"100.72.0.2"}}
{"made":{"kind":"docker-user-rule"}}
{"undone":{"kind":"docker-user-rule"}}
"#;
    let found = Journal::read(golden.as_bytes()).unwrap();
    assert_eq!(found.whole, golden.len());
    assert_eq!(found.damaged, [0; 0]);
    let order: Vec<_> = found.journal.undo_order().cloned().collect();
    let mut made = some_changes();
    made.pop();
    made.reverse();
    assert_eq!(order, made);
}

#[test]
fn a_later_format_is_refused() {
    assert_eq!(Journal::read(b"{\"format\":3}\n"), Err(LaterFormat));
    let object = br#"{"format":2,"changes":[]}"#;
    assert_eq!(Journal::read_object(object), Err(LaterFormat));
}

/// Cut off after any byte, a journal holds what was wholly written, and goes on from there.
#[test]
fn a_journal_that_was_cut_off_anywhere_is_what_was_written_before() {
    let mut journal = Journal::new();
    let mut bytes = journal.bytes();
    let mut stages = vec![(bytes.len(), journal.clone())];
    for change in some_changes() {
        bytes.extend(journal.record(change).unwrap());
        stages.push((bytes.len(), journal.clone()));
    }
    for change in some_changes().iter().rev() {
        bytes.extend(journal.forget(change));
        stages.push((bytes.len(), journal.clone()));
    }
    assert_eq!(stages.len(), 11);
    for cut in 0..=bytes.len() {
        let found = Journal::read(&bytes[..cut]).unwrap();
        let last = stages.iter().rfind(|(len, _)| *len <= cut);
        let (whole, expected) = last.cloned().unwrap_or_default();
        assert_eq!((found.whole, found.journal), (whole, expected), "at {cut}");
        assert_eq!(found.damaged, [0; 0], "at {cut}");
    }
}

#[test]
fn a_line_that_means_nothing_is_told_and_the_others_stand() {
    let mut journal = Journal::new();
    let mut bytes = journal.bytes();
    bytes.extend(journal.record(forward("0")).unwrap());
    bytes.extend(b"\0\0\0\0\n{\"made\":{\"kind\":\"of a later day\"}}\n");
    bytes.extend(journal.record(Change::DockerUserRule).unwrap());
    let found = Journal::read(&bytes).unwrap();
    assert_eq!((found.journal, found.damaged), (journal, vec![3, 4]));
}

/// A host of which only what the journal can change is known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Host(std::collections::BTreeMap<String, String>);

impl Host {
    fn make(&mut self, change: &Change) {
        let (key, value) = match change {
            Change::Sysctl { name, .. } => (name.clone(), "ours".to_owned()),
            other => (format!("{other:?}"), String::new()),
        };
        self.0.insert(key, value);
    }

    fn undo(&mut self, change: &Change) {
        match change {
            Change::Sysctl { name, before } => {
                self.0.insert(name.clone(), before.clone());
            }
            other => {
                self.0.remove(&format!("{other:?}"));
            }
        }
    }
}

/// Every run is killed after some number of steps (a line written, a thing changed), for every such
/// number, and the next one goes on with what is on disk and in the kernel.
#[test]
fn killed_after_any_step_and_run_again_the_host_is_as_before() {
    let before = Host([("net/ipv4/ip_forward".to_owned(), "0".to_owned())].into());
    let up = |host: &mut Host, disk: &mut Vec<u8>, mut steps: usize| {
        let found = Journal::read(disk).unwrap();
        disk.truncate(found.whole);
        let mut journal = found.journal;
        for change in some_changes() {
            if let Some(line) = journal.record(change.clone()) {
                // The step in which it is killed leaves half a line.
                let part = if steps == 0 {
                    line.len() / 2
                } else {
                    line.len()
                };
                disk.extend(&line[..part]);
                if steps == 0 {
                    return;
                }
                steps -= 1;
            }
            if steps == 0 {
                return;
            }
            steps -= 1;
            host.make(&change);
        }
    };
    let down = |host: &mut Host, disk: &mut Vec<u8>, mut steps: usize| {
        let found = Journal::read(disk).unwrap();
        disk.truncate(found.whole);
        let mut journal = found.journal;
        let order: Vec<_> = journal.undo_order().cloned().collect();
        for change in order {
            if steps == 0 {
                return;
            }
            steps -= 1;
            host.undo(&change);
            let line = journal.forget(&change);
            let part = if steps == 0 {
                line.len() / 2
            } else {
                line.len()
            };
            disk.extend(&line[..part]);
            if steps == 0 {
                return;
            }
            steps -= 1;
        }
    };
    for up_steps in 0..12 {
        for down_steps in 0..12 {
            let (mut host, mut disk) = (before.clone(), Journal::new().bytes());
            up(&mut host, &mut disk, up_steps);
            down(&mut host, &mut disk, down_steps);
            down(&mut host, &mut disk, usize::MAX);
            assert_eq!(host, before, "killed after {up_steps} and {down_steps}");
            assert!(Journal::read(&disk).unwrap().journal.is_empty());
        }
    }
}
