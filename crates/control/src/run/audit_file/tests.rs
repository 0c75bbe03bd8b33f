use super::*;

fn lines(numbers: &[u64]) -> Vec<(u64, &'static [u8], LineHash)> {
    const LINES: [&[u8]; 6] = [
        b"{\"seq\":0}",
        b"{\"seq\":1}",
        b"{\"seq\":2}",
        b"{\"seq\":3}",
        b"{\"seq\":4}",
        b"{\"seq\":5}",
    ];
    let line = |&number: &u64| {
        let text = LINES[usize::try_from(number).unwrap()];
        (number, text, line_hash(text))
    };
    numbers.iter().map(line).collect()
}

fn open(path: &Path) -> AuditFile {
    AuditFile::open(path, 4096).unwrap()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn lines_are_appended_once_and_only_their_owner_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = open(&path);
    file.append(lines(&[0, 1])).unwrap();
    assert_eq!(file.append(lines(&[1, 2])).unwrap(), 2);
    assert_eq!(file.sync().unwrap(), Synced::Kept);
    let mut again = open(&path);
    again.append(lines(&[2, 3])).unwrap();
    assert_eq!(
        text(&path),
        "{\"seq\":0}\n{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3}\n"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_line_that_a_crash_cut_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, "{\"seq\":4}\n{\"seq\":5,\"ha").unwrap();
    let mut file = open(&path);
    file.append(lines(&[4, 5])).unwrap();
    assert_eq!(text(&path), "{\"seq\":4}\n{\"seq\":5}\n");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = folder.path().join("audit.log.1");
    let mut file = open(&path);
    file.append(lines(&[0])).unwrap();
    std::fs::rename(&path, &rotated).unwrap();
    // What comes before it is noticed goes to the old file, and is not lost with it.
    file.append(lines(&[1])).unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Moved);
    file.append(lines(&[0, 1, 2])).unwrap();
    assert_eq!(text(&rotated), "{\"seq\":0}\n{\"seq\":1}\n");
    assert_eq!(text(&path), "{\"seq\":2}\n");
    let blocks = std::fs::metadata(&rotated).unwrap().blocks();
    assert!(blocks <= 8, "what was allocated ahead went back: {blocks}");
}

#[test]
fn what_was_not_durable_in_a_deleted_file_is_to_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = open(&path);
    file.append(lines(&[0, 1])).unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Kept);
    file.append(lines(&[2])).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.append(lines(&[3])).unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Lost);
    file.append(lines(&[1, 2, 3])).unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Kept);
    assert_eq!(text(&path), "{\"seq\":2}\n{\"seq\":3}\n");
}

#[test]
fn what_was_not_durable_in_a_file_that_was_cut_is_to_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = open(&path);
    file.append(lines(&[0])).unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Kept);
    file.append(lines(&[1])).unwrap();
    // As `copytruncate` does it.
    std::fs::write(&path, "").unwrap();
    assert_eq!(file.sync().unwrap(), Synced::Lost);
    file.append(lines(&[1, 2])).unwrap();
    assert_eq!(text(&path), "{\"seq\":1}\n{\"seq\":2}\n");
}

#[test]
fn a_link_or_a_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("audit.log"), folder.path().join("other"));
    std::fs::write(&other, "not ours\n").unwrap();
    assert!(AuditFile::open(&other, 0).is_err());
    assert_eq!(text(&other), "not ours\n");
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(AuditFile::open(&path, 0).is_err());
}

#[test]
fn what_is_written_during_a_sync_is_not_taken_for_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = open(&path);
    file.append(lines(&[0, 1])).unwrap();
    let mark = file.mark();
    file.append(lines(&[2])).unwrap();
    mark.sync().unwrap();
    assert_eq!(file.settle(&mark).unwrap(), Synced::Kept);
    assert_eq!((file.last_durable(), file.length_durable()), (Some(1), 20));
    // Moved away meanwhile, it is left with all of its lines durable.
    let mark = file.mark();
    file.append(lines(&[3])).unwrap();
    std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    mark.sync().unwrap();
    assert_eq!(file.settle(&mark).unwrap(), Synced::Moved);
    assert_eq!(file.last_durable(), Some(3));
    assert!(!file.is_of(&mark), "a mark is of one file");
}
