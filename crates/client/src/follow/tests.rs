use bastide_api::Secret;
use bastide_pki::ViewSigner;

use super::*;

fn cluster() -> ClusterId {
    ClusterId::from_bytes([1; 16])
}

fn signer() -> ViewSigner {
    ViewSigner::from_seed(&Secret::new([2; 32]))
}

fn follower() -> ViewFollower {
    ViewFollower::new(cluster(), signer().public_key())
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    entries.iter().map(owned).collect()
}

fn snapshot(rev: u64, entries: &[(&str, &str)]) -> WatchEvent {
    WatchEvent::Snapshot {
        rev: Revision(rev),
        value: map(entries),
    }
}

fn put(rev: u64, key: &str, value: &str) -> WatchEvent {
    WatchEvent::Put {
        rev: Revision(rev),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn delete(rev: u64, key: &str) -> WatchEvent {
    WatchEvent::Delete {
        rev: Revision(rev),
        key: key.to_owned(),
    }
}

fn entries(rev: u64, entries: &[(&str, &str)]) -> ViewEntries {
    ViewEntries {
        revision: Revision(rev),
        entries: map(entries),
    }
}

/// Signs the map as it should be.
fn sign(rev: u64, should_be: &[(&str, &str)]) -> WatchEvent {
    WatchEvent::Sign {
        rev: Revision(rev),
        value: signer().sign(&entries(rev, should_be), cluster()),
    }
}

fn view(followed: Result<Followed, FollowError>) -> ViewEntries {
    match followed {
        Ok(Followed::View { view, .. }) => ViewEntries::clone(&view),
        other => panic!("a view should be closed, not {other:?}"),
    }
}

#[test]
fn a_snapshot_is_a_view_once_it_is_signed_and_not_before() {
    let mut follower = follower();
    assert_eq!(
        follower.handle(snapshot(5, &[("a", "1")])),
        Ok(Followed::Nothing)
    );
    assert!(follower.view().is_none());
    assert_eq!(
        view(follower.handle(sign(5, &[("a", "1")]))),
        entries(5, &[("a", "1")])
    );
    assert_eq!(follower.resume_from(), Revision(5));
}

#[test]
fn changes_make_the_next_view_of_the_last() {
    let mut follower = follower();
    follower
        .handle(snapshot(5, &[("a", "1"), ("b", "1")]))
        .unwrap();
    follower.handle(sign(5, &[("a", "1"), ("b", "1")])).unwrap();
    follower.handle(put(6, "a", "2")).unwrap();
    follower.handle(put(7, "c", "1")).unwrap();
    follower.handle(delete(7, "b")).unwrap();
    assert_eq!(
        follower.view().unwrap().revision,
        Revision(5),
        "not yet signed"
    );
    let expected = [("a", "2"), ("c", "1")];
    assert_eq!(
        view(follower.handle(sign(7, &expected))),
        entries(7, &expected)
    );
}

#[test]
fn a_change_that_is_dropped_changed_or_made_up_is_noticed_and_the_last_view_stands() {
    let truth = [("a", "1"), ("b", "1")];
    let forged = [
        vec![snapshot(5, &[("a", "1")]), sign(5, &truth)],
        vec![snapshot(5, &[("a", "1"), ("b", "2")]), sign(5, &truth)],
        vec![snapshot(5, &truth), put(5, "c", "1"), sign(5, &truth)],
        vec![snapshot(5, &truth), sign(6, &[])],
        vec![sign(5, &truth)],
    ];
    for events in forged {
        let mut follower = follower();
        follower.handle(snapshot(4, &[("a", "0")])).unwrap();
        follower.handle(sign(4, &[("a", "0")])).unwrap();
        let (last, before) = events.split_last().unwrap();
        for event in before {
            assert_eq!(follower.handle(event.clone()), Ok(Followed::Nothing));
        }
        let refused = follower.handle(last.clone());
        assert!(
            matches!(refused, Err(FollowError::Signature { .. })),
            "{refused:?}"
        );
        assert_eq!(follower.view().unwrap().revision, Revision(4));
        assert_eq!(
            follower.resume_from(),
            Revision(0),
            "only a snapshot helps now"
        );
        follower.handle(snapshot(5, &truth)).unwrap();
        view(follower.handle(sign(5, &truth)));
        assert_eq!(follower.resume_from(), Revision(5));
    }
}

#[test]
fn an_older_view_is_refused_though_it_was_signed_once() {
    let mut follower = follower();
    let old = [snapshot(5, &[("a", "1")]), sign(5, &[("a", "1")])];
    for event in &old {
        follower.handle(event.clone()).unwrap();
    }
    follower.handle(snapshot(9, &[])).unwrap();
    follower.handle(sign(9, &[])).unwrap();
    for event in old.into_iter().chain([put(8, "a", "1"), delete(8, "a")]) {
        let refused = follower.handle(event);
        assert!(
            matches!(refused, Err(FollowError::Older { known: 9, .. })),
            "{refused:?}"
        );
    }
    assert_eq!(follower.view().unwrap().revision, Revision(9));
}

#[test]
fn a_view_from_disk_is_resumed_from_if_its_signature_is_good() {
    let kept = entries(5, &[("a", "1")]);
    let key = signer().public_key();
    let signature = signer().sign(&kept, cluster());
    let mut follower = ViewFollower::with_view(cluster(), key, kept.clone(), &signature).unwrap();
    assert_eq!(follower.resume_from(), Revision(5));
    follower.handle(put(6, "b", "1")).unwrap();
    view(follower.handle(sign(6, &[("a", "1"), ("b", "1")])));
    let other = ClusterId::from_bytes([9; 16]);
    assert!(ViewFollower::with_view(other, key, kept, &signature).is_err());
}

#[test]
fn what_an_ended_watch_left_unfinished_is_forgotten() {
    let mut follower = follower();
    follower.handle(snapshot(5, &[("a", "1")])).unwrap();
    follower.handle(sign(5, &[("a", "1")])).unwrap();
    follower.handle(put(6, "b", "1")).unwrap();
    follower.restart();
    follower.handle(put(7, "c", "1")).unwrap();
    view(follower.handle(sign(7, &[("a", "1"), ("c", "1")])));
}

#[test]
fn reports_and_pings_are_no_part_of_the_view() {
    let mut follower = follower();
    let node = NodeId::from_bytes([3; 16]);
    let told = WatchEvent::Fact {
        key: node,
        value: None,
    };
    assert_eq!(
        follower.handle(told),
        Ok(Followed::Fact { node, facts: None })
    );
    assert_eq!(follower.handle(WatchEvent::Ping), Ok(Followed::Nothing));
    assert!(follower.view().is_none());
}

#[test]
fn a_view_without_end_is_given_up() {
    let mut follower = follower();
    let refused = (0..=ENTRIES_MAX)
        .map(|number| follower.handle(put(1, &number.to_string(), "")))
        .find(Result::is_err);
    assert_eq!(refused, Some(Err(FollowError::TooLarge)));
    let mut follower = self::follower();
    let large = "x".repeat(ENTRIES_BYTES_MAX / 2);
    assert!(follower.handle(put(1, "a", &large)).is_ok());
    assert!(
        follower.handle(put(1, "a", &large)).is_ok(),
        "a value replaced counts once"
    );
    assert_eq!(
        follower.handle(put(1, "b", &large)),
        Err(FollowError::TooLarge)
    );
}

fn history(generation: u32, runs: &[(&str, u64)]) -> String {
    let mut history = History {
        generation,
        runs: Vec::new(),
    };
    for (id, from) in runs {
        history.begin((*id).to_owned(), Revision(*from));
    }
    serde_json::to_string(&history).unwrap()
}

#[test]
fn a_store_that_was_put_back_is_not_followed_before_it_is_accepted() {
    let mut follower = follower();
    let told = |follower: &mut ViewFollower, rev, history: &str| {
        follower.restart();
        let entries = [(history::HISTORY, history)];
        follower.handle(snapshot(rev, &entries))?;
        follower.handle(sign(rev, &entries))
    };
    let later = history(0, &[("a", 0), ("b", 20)]);
    view(told(&mut follower, 30, &later));
    assert_eq!(follower.run().as_deref(), Some("b"));
    let back = history(0, &[("a", 0), ("c", 15)]);
    let (offered, known) = (16, 30);
    assert_eq!(
        told(&mut follower, offered, &back),
        Err(FollowError::Older { offered, known })
    );
    let offered = 99;
    let refused = told(&mut follower, offered, &back).unwrap_err();
    assert_eq!(refused, FollowError::Apart { offered, known });
    assert!(refused.is_departure());
    assert_eq!(follower.view().unwrap().revision, Revision(30));
    assert_eq!(
        follower.resume_from(),
        Revision(0),
        "a snapshot is asked for"
    );
    view(told(&mut follower, 17, &history(1, &[("d", 16)])));
    assert_eq!(follower.resume_from(), Revision(17));
}
