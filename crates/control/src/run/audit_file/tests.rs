use super::*;

fn line(number: u64) -> (u64, Vec<u8>) {
    (number, format!("{{\"seq\":{number}}}").into_bytes())
}

#[test]
fn lines_are_appended_once_and_only_their_owner_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = AuditFile::open(&path).unwrap();
    file.append(&[line(0), line(1)]).unwrap();
    file.append(&[line(1), line(2)]).unwrap();
    file.sync().unwrap();
    let mut again = AuditFile::open(&path).unwrap();
    again.append(&[line(2), line(3)]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"seq\":0}\n{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3}\n");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_line_that_a_crash_cut_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, "{\"seq\":4}\n{\"seq\":5,\"ha").unwrap();
    let mut file = AuditFile::open(&path).unwrap();
    file.append(&[line(4), line(5)]).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "{\"seq\":4}\n{\"seq\":5}\n"
    );
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = AuditFile::open(&path).unwrap();
    file.append(&[line(0)]).unwrap();
    std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    file.sync().unwrap();
    file.append(&[line(0), line(1)]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"seq\":1}\n");
}

#[test]
fn a_link_or_a_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("audit.log"), folder.path().join("other"));
    std::fs::write(&other, "not ours\n").unwrap();
    assert!(AuditFile::open(&other).is_err());
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "not ours\n");
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(AuditFile::open(&path).is_err());
}
