use std::path::Path;

use bastide_api::ClusterId;
use bastide_store::{Barrier, DevSeal, OpenSnapshot, RedbStore, Store};

use super::*;
use crate::core::audit::Lines;
use crate::run::audit_file::line_hash;
use crate::run::outbox::AuditTo;

fn desk(path: &Path) -> Desk {
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([7; 16]);
    let barrier = Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier);
    let to = AuditTo {
        path: path.to_owned(),
        ahead_bytes: 0,
    };
    Desk::new(Outboxes::open(Some(to), &[], &open).unwrap())
}

fn records(filling: &str) -> Records {
    let line = |kind: &str| format!("{{\"type\":\"{kind}\",\"filling\":\"{filling}\"");
    let (request, response) = (line("request"), line("response"));
    Records::own(Lines::of(request.as_bytes(), response.as_bytes()))
}

fn sync(desk: &Desk) {
    for (device, mark) in desk.with(|audit| audit.marks()).unwrap() {
        let synced = mark.sync();
        desk.with(|audit| audit.settle(device, &mark, synced));
    }
}

#[test]
fn nothing_is_recorded_past_the_writer_while_it_has_the_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let desk = desk(&path);
    let audit = desk.take();
    let note = || desk.note(&records(""), Need::Glance, true);
    assert_eq!(note(), Noted::Later);
    assert!(desk.with(|_| ()).is_none());
    desk.give_back(audit);
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    assert_eq!(note(), Noted::Recorded { wants_sync: false });
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_burst_that_outruns_the_syncs_waits_and_is_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(&folder.path().join("audit.log"));
    let filling = "x".repeat(700);
    for _ in 0..2 {
        let mut asked = 0;
        let burst =
            (0..).find_map(
                |number| match desk.note(&records(&filling), Need::Glance, true) {
                    Noted::Recorded { wants_sync } => {
                        asked += usize::from(wants_sync);
                        None
                    }
                    other => Some((number, other)),
                },
            );
        let (taken, ended) = burst.unwrap();
        assert_eq!(ended, Noted::Later, "after {taken}");
        assert!(500 < taken);
        assert_eq!(asked, 1, "a sync is asked for once");
        sync(&desk);
    }
}

#[test]
fn whoever_records_at_once_makes_one_unbroken_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let desk = desk(&path);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let desk = &desk;
            threads.spawn(move || {
                for number in 0..200 {
                    let noted =
                        desk.note(&records(&format!("{thread}-{number}")), Need::Glance, true);
                    assert!(matches!(noted, Noted::Recorded { .. }));
                }
            });
        }
        for _ in 0..20 {
            sync(&desk);
        }
    });
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut previous, mut count) = (String::new(), 0);
    for (at, line) in text.lines().enumerate() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["seq"], at);
        assert_eq!(record["prev"], previous);
        previous = data_encoding::HEXLOWER.encode(&line_hash(line.as_bytes()));
        count += 1;
    }
    assert_eq!(count, 4 * 200 * 2);
}
