use super::*;
use crate::map::Table;

fn key(text: &str) -> Key {
    Key::new(Table(1), text)
}

#[test]
fn a_range_is_unchanged_until_a_key_in_it_changes() {
    let mut log = CommitLog::new(Revision(10));
    log.push(Revision(11), vec![key("b")]);
    let all = KeyRange::prefix(Table(1), "");
    assert!(!log.unchanged(&all, Revision(10)));
    assert!(log.unchanged(&all, Revision(11)));
    assert!(log.unchanged(&KeyRange::one(&key("a")), Revision(10)));
    assert!(!log.unchanged(&KeyRange::one(&key("b")), Revision(10)));
    assert!(log.unchanged(&KeyRange::prefix(Table(2), ""), Revision(10)));
}

#[test]
fn what_is_not_known_counts_as_changed() {
    let mut log = CommitLog::with_limit(Revision(0), 3);
    for at in 1..=5 {
        log.push(Revision(at), vec![key(&at.to_string())]);
    }
    let one = KeyRange::one(&key("5"));
    assert!(!log.unchanged(&one, Revision(1)));
    assert!(log.unchanged(&one, Revision(5)));
    assert_eq!(log.changes(Revision(0), Revision(5), 9), Err(Compacted));
    let known = log.changes(Revision(4), Revision(5), 9).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(&*known[0].keys, &[key("5")]);
}
