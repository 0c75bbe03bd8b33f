use std::time::Duration;

use super::*;

const RULE: Rule = Rule {
    threshold: 5,
    duration: Duration::from_secs(900),
    reset: Duration::from_secs(600),
};

fn who(name: &str) -> Who {
    Who {
        accessor: "auth_userpass_1".to_owned(),
        name: name.to_owned(),
    }
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_millis(secs * 1000)
}

#[test]
fn the_fifth_wrong_password_locks_and_only_time_or_an_operator_unlocks() {
    let mut lockouts = Lockouts::default();
    for _ in 0..4 {
        lockouts.wrong(at(100), who("ada"), RULE);
        assert!(!lockouts.is_locked(at(100), &who("ada")));
    }
    lockouts.wrong(at(100), who("ada"), RULE);
    assert!(lockouts.is_locked(at(100), &who("ada")));
    assert!(!lockouts.is_locked(at(100), &who("bob")));
    let other = Who {
        accessor: "auth_userpass_2".to_owned(),
        ..who("ada")
    };
    assert!(!lockouts.is_locked(at(100), &other), "another method");
    // What was in flight does not prolong it.
    lockouts.wrong(at(900), who("ada"), RULE);
    assert!(lockouts.is_locked(at(999), &who("ada")));
    assert!(!lockouts.is_locked(at(1000), &who("ada")));
    // After the lock the count begins anew.
    lockouts.wrong(at(1000), who("ada"), RULE);
    assert!(!lockouts.is_locked(at(1000), &who("ada")));
    for _ in 0..4 {
        lockouts.wrong(at(1000), who("ada"), RULE);
    }
    assert_eq!(lockouts.locked(at(1000)).count(), 1);
    lockouts.forget(&who("ada"));
    assert!(!lockouts.is_locked(at(1000), &who("ada")));
}

#[test]
fn wrong_passwords_far_apart_do_not_add_up() {
    let mut lockouts = Lockouts::default();
    for n in 0..50 {
        lockouts.wrong(at(600 * n), who("ada"), RULE);
    }
    assert!(!lockouts.is_locked(at(600 * 49), &who("ada")));
    for n in 0..4 {
        lockouts.wrong(at(600 * 49 + 599 * (n + 1)), who("ada"), RULE);
    }
    assert!(lockouts.is_locked(at(600 * 49 + 599 * 4), &who("ada")));
}

#[test]
fn a_flood_of_names_takes_bounded_room_and_frees_nobody() {
    let mut lockouts = Lockouts::default();
    for _ in 0..5 {
        lockouts.wrong(at(100), who("locked"), RULE);
    }
    for _ in 0..4 {
        lockouts.wrong(at(100), who("counted"), RULE);
    }
    for n in 0..3 * NAMES_MAX {
        lockouts.wrong(at(101), who(&format!("name {n}")), RULE);
        assert!(lockouts.names.len() <= NAMES_MAX);
    }
    assert!(NAMES_MAX - FORGOTTEN_AT_ONCE <= lockouts.names.len());
    assert!(lockouts.is_locked(at(102), &who("locked")));
    lockouts.wrong(at(102), who("counted"), RULE);
    assert!(
        lockouts.is_locked(at(102), &who("counted")),
        "its count was kept"
    );
}

#[test]
fn locks_alone_can_fill_the_room_and_the_eldest_then_goes() {
    let mut lockouts = Lockouts::default();
    let once = Rule {
        threshold: 1,
        ..RULE
    };
    for n in 0..=NAMES_MAX {
        let secs = u64::try_from(n).unwrap() / 1000;
        lockouts.wrong(at(secs), who(&format!("name {n}")), once);
    }
    assert!(lockouts.names.len() <= NAMES_MAX);
    let newest = who(&format!("name {NAMES_MAX}"));
    assert!(lockouts.is_locked(at(17), &newest));
    assert!(!lockouts.is_locked(at(17), &who("name 0")));
}
