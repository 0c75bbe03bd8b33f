use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ledger-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn state(&self) -> StateDir {
        StateDir::open(&self.0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn interface(number: usize) -> Change {
    Change::Interface {
        name: format!("bst{number}"),
    }
}

#[test]
fn what_is_recorded_is_read_again_and_what_is_undone_is_not() {
    let folder = Folder::new("again");
    let ledger = Ledger::open(&folder.state()).unwrap();
    ledger.record(interface(0)).unwrap();
    ledger.record(interface(1)).unwrap();
    ledger.record(interface(0)).unwrap();
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(1), interface(0)]);
    ledger.forget(&interface(1)).unwrap();
    assert!(!ledger.close().unwrap(), "one is left");
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(0)]);
    ledger.forget(&interface(0)).unwrap();
    assert!(ledger.close().unwrap());
    assert!(!folder.state().journal().exists());
}

#[test]
fn a_torn_last_line_is_dropped_before_the_next_is_written() {
    let folder = Folder::new("torn");
    let ledger = Ledger::open(&folder.state()).unwrap();
    ledger.record(interface(0)).unwrap();
    drop(ledger);
    let path = folder.state().journal();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"{\"made\":{\"kind\":\"inter"].concat()).unwrap();
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(0)]);
    ledger.record(interface(1)).unwrap();
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(1), interface(0)]);
    assert_eq!(ledger.damaged(), [0; 0]);
}

#[test]
fn a_journal_that_was_one_object_is_taken_over() {
    let folder = Folder::new("object");
    let old = folder.state().old_journal();
    let object = r#"{"format":1,"changes":[{"kind":"interface","name":"bst0"}]}"#;
    fs::write(&old, object).unwrap();
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(0)]);
    assert!(!old.exists());
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.to_undo(), [interface(0)]);
}

#[test]
fn a_journal_of_a_later_version_is_left_alone() {
    let folder = Folder::new("later");
    let path = folder.state().journal();
    fs::write(&path, "{\"format\":3}\n").unwrap();
    let refused = Ledger::open(&folder.state()).err().unwrap();
    assert!(matches!(refused, StateError::LaterFormat { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"{\"format\":3}\n");
}

#[test]
fn a_damaged_journal_is_put_aside_once_the_rest_is_undone() {
    let folder = Folder::new("damaged");
    let path = folder.state().journal();
    fs::write(&path, "{\"format\":2}\nrust\n").unwrap();
    let ledger = Ledger::open(&folder.state()).unwrap();
    assert_eq!(ledger.damaged(), [2]);
    assert!(ledger.close().unwrap());
    assert!(!path.exists() && path.with_extension("damaged").exists());
}

/// A file system of 64 KiB, filled to the last byte.
#[test]
fn on_a_full_disk_nothing_is_recorded_so_nothing_is_changed_and_undoing_still_ends() {
    let folder = Folder::new("full");
    let place = folder.0.join("disk");
    fs::create_dir(&place).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&place)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: root is missing");
        return;
    }
    let result = std::panic::catch_unwind(|| full_disk(&place));
    let unmounted = std::process::Command::new("umount").arg(&place).status();
    assert!(unmounted.unwrap().success());
    result.unwrap();
}

fn full_disk(place: &Path) {
    let state = StateDir::open(place).unwrap();
    let ledger = Ledger::open(&state).unwrap();
    ledger.record(interface(0)).unwrap();
    let mut filler = File::create(place.join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let mut recorded = 1;
    // The journal's own last page has room for some lines.
    let refused = loop {
        match ledger.record(interface(recorded)) {
            Ok(()) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 10_000, "the disk is full");
    };
    let HostError::Journal(StateError::Write { source, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(ledger.to_undo().len(), recorded);
    let again = Ledger::open(&state).unwrap();
    assert_eq!(
        again.to_undo(),
        ledger.to_undo(),
        "no part of a line is left"
    );
    for change in again.to_undo() {
        // That it is not written down does no harm.
        let _ = again.forget(&change);
    }
    assert!(again.close().unwrap());
    assert!(!state.journal().exists());
    // There is room again, and it goes on.
    drop(filler);
    fs::remove_file(place.join("filler")).unwrap();
    again.record(interface(recorded)).unwrap();
    let last = Ledger::open(&state).unwrap();
    assert_eq!(last.to_undo(), [interface(recorded)]);
}
