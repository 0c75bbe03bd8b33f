use std::sync::Arc;

use super::*;

fn key(text: &str) -> Key {
    Key::new(Table(1), text)
}

fn put(at: &str, value: &str) -> Op {
    Op::Put(key(at), value.as_bytes().to_vec())
}

fn commit(store: &RedbStore, compares: Vec<Compare>, ops: Vec<Op>) -> Result<Revision, Conflict> {
    let mut begun = store.begin().unwrap();
    let applied = begun.apply(&Batch { compares, ops }).unwrap();
    begun.commit().unwrap();
    applied
}

#[test]
fn a_batch_is_seen_whole_and_in_order() {
    let store = RedbStore::in_memory().unwrap();
    let before = store.snapshot().unwrap();
    commit(
        &store,
        vec![],
        vec![put("b", "2"), put("a", "1"), put("c", "3")],
    )
    .unwrap();
    commit(&store, vec![], vec![Op::Delete(key("b"))]).unwrap();
    assert_eq!(
        before.get(&key("a")).unwrap(),
        None,
        "a snapshot stays what it was"
    );
    let after = store.snapshot().unwrap();
    assert_eq!(after.revision(), Revision(2));
    let all = KeyRange::prefix(Table(1), "");
    let found = after.range(&all, 9).unwrap();
    assert_eq!(
        found,
        [(key("a"), b"1".to_vec()), (key("c"), b"3".to_vec())]
    );
    assert_eq!(after.range(&all, 1).unwrap().len(), 1);
    assert_eq!(after.last(&all).unwrap().unwrap().0, key("c"));
    assert_eq!(after.range(&all.after(&key("a")), 9).unwrap().len(), 1);
}

#[test]
fn a_batch_decided_on_something_old_is_refused_whole() {
    let store = RedbStore::in_memory().unwrap();
    commit(&store, vec![], vec![put("a", "1")]).unwrap();
    let range = KeyRange::prefix(Table(1), "");
    let old = Compare::Unchanged {
        range,
        since: Revision(0),
    };
    assert_eq!(
        commit(&store, vec![old], vec![put("b", "2")]),
        Err(Conflict)
    );
    assert_eq!(store.snapshot().unwrap().get(&key("b")).unwrap(), None);
}

#[test]
fn batches_of_one_transaction_see_each_other() {
    let store = RedbStore::in_memory().unwrap();
    let compare = Compare::Unchanged {
        range: KeyRange::one(&key("a")),
        since: Revision(0),
    };
    let batch = Batch {
        compares: vec![compare],
        ops: vec![put("a", "1")],
    };
    let mut begun = store.begin().unwrap();
    assert_eq!(begun.apply(&batch).unwrap(), Ok(Revision(1)));
    assert_eq!(begun.apply(&batch).unwrap(), Err(Conflict));
    assert_eq!(
        store.revision(),
        Revision(0),
        "nothing is told before it is durable"
    );
    assert_eq!(store.changes(Revision(0), 9).unwrap(), []);
    begun.commit().unwrap();
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(store.changes(Revision(0), 9).unwrap().len(), 1);
}

#[test]
fn a_dropped_transaction_leaves_no_trace() {
    let store = RedbStore::in_memory().unwrap();
    let mut begun = store.begin().unwrap();
    begun
        .apply(&Batch {
            compares: vec![],
            ops: vec![put("a", "1")],
        })
        .unwrap()
        .unwrap();
    drop(begun);
    assert_eq!(store.snapshot().unwrap().get(&key("a")).unwrap(), None);
    assert_eq!(commit(&store, vec![], vec![put("b", "2")]), Ok(Revision(1)));
    let changes = store.changes(Revision(0), 9).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(&*changes[0].keys, &[key("b")]);
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    commit(&store, vec![], vec![put("a", "1")]).unwrap();
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(
        store.snapshot().unwrap().get(&key("a")).unwrap(),
        Some(b"1".to_vec())
    );
    assert_eq!(store.changes(Revision(0), 9), Err(Compacted));
    assert_eq!(store.changes(Revision(1), 9), Ok(vec![]));
}

#[test]
fn a_reader_does_not_wait_for_the_writer() {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let begun = store.begin().unwrap();
    let read = Arc::clone(&store);
    let reader = std::thread::spawn(move || read.snapshot().unwrap().revision());
    assert_eq!(reader.join().unwrap(), Revision(0));
    drop(begun);
}

#[test]
fn writers_on_several_threads_never_share_a_revision() {
    const EACH: usize = 2_000;
    let store = RedbStore::in_memory().unwrap();
    let write = |name: &str| -> Vec<Revision> {
        (0..EACH)
            .map(|at| commit(&store, vec![], vec![put(name, &at.to_string())]).unwrap())
            .collect()
    };
    let (mut given, others) = std::thread::scope(|threads| {
        let other = threads.spawn(|| write("b"));
        (write("a"), other.join().unwrap())
    });
    given.extend(others);
    given.sort_unstable();
    let all: Vec<_> = (1..=2 * EACH as u64).map(Revision).collect();
    assert_eq!(given, all);
    assert_eq!(store.snapshot().unwrap().revision(), store.revision());
    let changes = store.changes(Revision(0), usize::MAX).unwrap();
    assert_eq!(changes.len(), all.len());
}
