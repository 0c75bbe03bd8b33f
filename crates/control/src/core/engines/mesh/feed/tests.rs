use bastide_api::v1::NodeFacts;
use bastide_api::{Secret, UnixTime};

use super::*;
use crate::core::facts::Observation;

fn feed() -> Feed {
    let view = ViewEntries {
        revision: Revision(10),
        entries: [("cluster".to_owned(), "{}".to_owned())].into(),
    };
    let signer = ViewSigner::from_seed(&Secret::new([1; 32]));
    Feed::new(cluster(), signer, view)
}

fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

fn put(key: &str, value: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_owned()))
}

/// Folds events over a map as an agent does; returns it if the signature at the end is good.
fn folded(
    mut entries: BTreeMap<String, String>,
    events: &[WatchEvent],
) -> Option<BTreeMap<String, String>> {
    let key = ViewSigner::from_seed(&Secret::new([1; 32])).public_key();
    let mut last = Revision(0);
    for event in events {
        match event {
            WatchEvent::Snapshot { rev, value } => {
                entries.clone_from(value);
                last = *rev;
            }
            WatchEvent::Put { rev, key, value } => {
                assert!(last <= *rev, "changes come in the order of revisions");
                last = *rev;
                entries.insert(key.clone(), value.clone());
            }
            WatchEvent::Delete { rev, key } => {
                assert!(last <= *rev, "changes come in the order of revisions");
                last = *rev;
                entries.remove(key);
            }
            WatchEvent::Sign { rev, value } => {
                let view = ViewEntries {
                    revision: *rev,
                    entries: entries.clone(),
                };
                bastide_pki::verify_view(view, cluster(), &key, value).ok()?;
            }
            WatchEvent::Fact { .. } | WatchEvent::Log { .. } | WatchEvent::Ping => {}
        }
    }
    Some(entries)
}

#[test]
fn a_new_watcher_gets_the_whole_map_signed_and_then_nothing() {
    let feed = feed();
    let mut cursor = Cursor::after(None);
    let events = feed.read(&mut cursor);
    assert_eq!(
        folded(BTreeMap::new(), &events),
        Some(feed.view.entries.clone())
    );
    assert!(feed.read(&mut cursor).is_empty());
}

#[test]
fn a_watcher_that_resumes_gets_only_what_changed() {
    let mut feed = feed();
    let before = feed.view.entries.clone();
    feed.commit(Revision(12), vec![put("nodes/a", "1"), put("nodes/b", "1")]);
    feed.commit(Revision(15), vec![("nodes/a".into(), None)]);
    let events = feed.read(&mut Cursor::after(Some(Revision(10))));
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, WatchEvent::Snapshot { .. }))
    );
    assert_eq!(folded(before, &events), Some(feed.view.entries.clone()));
    assert_eq!(
        events.len(),
        3,
        "one change per entry and a signature: {events:?}"
    );
}

#[test]
fn a_watcher_after_a_gap_gets_a_snapshot() {
    let mut feed = feed();
    for revision in 0..=CHANGES_MAX as u64 {
        feed.commit(
            Revision(11 + revision),
            vec![put("nodes/a", &revision.to_string())],
        );
    }
    let events = feed.read(&mut Cursor::after(Some(Revision(10))));
    assert!(matches!(events[0], WatchEvent::Snapshot { .. }));
    assert_eq!(events.len(), 2);
    let events = feed.read(&mut Cursor::after(Some(Revision(11))));
    assert!(
        matches!(events[0], WatchEvent::Put { .. }),
        "what is remembered needs none"
    );
}

#[test]
fn changes_that_are_remembered_have_a_bound_in_bytes() {
    let mut feed = feed();
    let large = "x".repeat(1_000_000);
    for revision in 0..100 {
        feed.commit(Revision(11 + revision), vec![put("stacks/a", &large)]);
    }
    assert!(feed.changes_bytes <= CHANGES_BYTES_MAX);
    assert!(feed.changes.len() < 10);
}

#[test]
fn a_watcher_with_the_newest_view_is_told_once_that_it_has_it() {
    let feed = feed();
    let mut cursor = Cursor::after(Some(Revision(10)));
    let events = feed.read(&mut cursor);
    assert!(
        matches!(
            events[..],
            [WatchEvent::Sign {
                rev: Revision(10),
                ..
            }]
        ),
        "{events:?}"
    );
    assert!(folded(feed.view.entries.clone(), &events).is_some());
    assert!(feed.read(&mut cursor).is_empty());
}

#[test]
fn a_watcher_from_another_future_gets_a_snapshot() {
    let events = feed().read(&mut Cursor::after(Some(Revision(99))));
    assert!(matches!(
        events[0],
        WatchEvent::Snapshot {
            rev: Revision(10),
            ..
        }
    ));
}

#[test]
fn a_commit_that_is_not_newer_changes_nothing() {
    let mut feed = feed();
    feed.commit(Revision(10), vec![put("cluster", "other")]);
    feed.commit(Revision(11), Vec::new());
    assert_eq!(feed.revision(), Revision(10));
    assert_eq!(feed.view.entries["cluster"], "{}");
}

fn observed(facts: &mut Facts, node: u8, trouble: &str) -> NodeId {
    let id = NodeId::from_bytes([node; 16]);
    let report = NodeFacts {
        troubles: vec![trouble.to_owned()],
        ..NodeFacts::default()
    };
    facts.apply(UnixTime::EPOCH, Observation::Node(id, report));
    id
}

#[test]
fn reports_are_told_once_and_again_only_when_they_say_something_else() {
    let (mut feed, mut facts) = (feed(), Facts::default());
    let mut cursor = Cursor::after(Some(Revision(10)));
    let node = observed(&mut facts, 1, "a");
    feed.observe(&facts);
    let first = feed.read(&mut cursor);
    assert!(
        matches!(
            first[..],
            [WatchEvent::Sign { .. }, WatchEvent::Fact { .. }]
        ),
        "{first:?}"
    );
    observed(&mut facts, 1, "a");
    feed.observe(&facts);
    assert!(feed.read(&mut cursor).is_empty());
    observed(&mut facts, 1, "b");
    feed.observe(&facts);
    assert_eq!(feed.read(&mut cursor).len(), 1);
    facts.apply(UnixTime::EPOCH, Observation::NodeGone(node));
    feed.observe(&facts);
    let gone = WatchEvent::Fact {
        key: node,
        value: None,
    };
    assert_eq!(feed.read(&mut cursor), [gone]);
    let late = feed.read(&mut Cursor::after(Some(Revision(10))));
    assert!(
        matches!(late[..], [WatchEvent::Sign { .. }]),
        "who came later never knew it: {late:?}"
    );
}
