use super::*;

const BUILT: u64 = 1_793_491_200_000;
const T0: u64 = 1_795_000_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

fn at(wall: u64, boot_ms: u64) -> Reading {
    Reading {
        wall: UnixTime::from_millis(wall),
        since_boot: Duration::from_millis(boot_ms),
    }
}

fn ms(millis: u64) -> UnixTime {
    UnixTime::from_millis(millis)
}

fn mark(boot: &str, since_boot_ms: u64, now: u64, wall: u64) -> Mark {
    Mark {
        format: 1,
        boot: boot.to_owned(),
        since_boot_ms,
        at: ms(now),
        wall: ms(wall),
        taught: true,
    }
}

/// A node that knows nothing but its host's clocks.
fn fresh(reading: Reading) -> Following {
    Following::start(None, Some("one"), ms(BUILT), reading)
}

#[test]
fn a_fresh_node_believes_its_host_unless_it_shows_a_time_before_the_build() {
    let clock = fresh(at(T0, 0));
    assert_eq!(clock.now(at(T0 + 5, 5)), ms(T0 + 5));
    let clock = fresh(at(20_000, 20_000));
    assert_eq!(clock.now(at(21_000, 21_000)), ms(BUILT + 1000));
}

#[test]
fn a_taught_node_keeps_the_controllers_time_whatever_its_host_shows() {
    for wall in [0, T0 - HOUR, T0 + HOUR, T0 + YEAR] {
        let mut clock = fresh(at(wall, 0));
        clock.learn(ms(T0), at(wall, 1000));
        assert!(clock.is_taught());
        assert_eq!(clock.now(at(wall, 3000)), ms(T0 + 2000));
        assert_eq!(clock.now(at(wall + YEAR, 4000)), ms(T0 + 3000));
        assert_eq!(clock.now(at(0, 5000)), ms(T0 + 4000));
    }
}

#[test]
fn an_answer_that_was_late_does_not_set_a_taught_node_back() {
    let mut clock = fresh(at(T0, 0));
    clock.learn(ms(T0), at(T0, 0));
    clock.learn(ms(T0 + 1), at(T0, 60_000));
    assert_eq!(clock.now(at(T0, 60_000)), ms(T0 + 60_000));
}

#[test]
fn a_process_that_starts_again_in_the_same_boot_knows_the_time() {
    let left = mark("one", 5000, T0, T0 - HOUR);
    let clock = Following::start(Some(&left), Some("one"), ms(BUILT), at(T0 + YEAR, 9000));
    assert!(clock.is_taught());
    assert_eq!(clock.now(at(0, 9000)), ms(T0 + 4000));
}

#[test]
fn after_another_boot_a_clock_that_stays_ahead_is_corrected() {
    for ahead in [HOUR, YEAR] {
        let left = mark("one", 5000, T0, T0 + ahead);
        let reading = at(T0 + 2 * HOUR + ahead, 100);
        let clock = Following::start(Some(&left), Some("two"), ms(BUILT), reading);
        assert_eq!(clock.now(reading), ms(T0 + 2 * HOUR), "ahead by {ahead}");
    }
}

#[test]
fn after_another_boot_a_clock_that_stays_behind_is_between_what_was_known_and_what_is() {
    for behind in [HOUR, 5 * HOUR, T0] {
        let left = mark("one", 5000, T0, T0 - behind);
        let reading = at(T0 + 2 * HOUR - behind, 100);
        let clock = Following::start(Some(&left), Some("two"), ms(BUILT), reading);
        let now = clock.now(reading);
        assert!(ms(T0) <= now && now <= ms(T0 + 2 * HOUR), "{now}");
    }
}

#[test]
fn after_another_boot_a_clock_that_was_set_right_is_believed() {
    for wrong in [0, T0 - 30 * DAY, T0 - HOUR] {
        let left = mark("one", 5000, T0, wrong);
        let reading = at(T0 + DAY, 100);
        let clock = Following::start(Some(&left), Some("two"), ms(BUILT), reading);
        assert_eq!(clock.now(reading), ms(T0 + DAY), "was {wrong}");
    }
}

#[test]
fn after_another_boot_a_clock_that_was_set_back_does_not_take_time_back() {
    let left = mark("one", 5000, T0, T0);
    let clock = Following::start(Some(&left), Some("two"), ms(BUILT), at(T0 - YEAR, 100));
    assert_eq!(clock.now(at(T0 - YEAR, 1100)), ms(T0 + 1000));
    // Nor is a mark of a boot of the same name believed, that is of later than now.
    let clock = Following::start(Some(&left), Some("one"), ms(BUILT), at(T0 - YEAR, 100));
    assert_eq!(clock.now(at(T0 - YEAR, 1100)), ms(T0 + 1000));
}

#[test]
fn what_the_cluster_signed_proves_that_it_is_no_earlier() {
    let mut clock = fresh(at(0, 0));
    clock.at_least(ms(T0), at(1000, 1000));
    assert_eq!(clock.now(at(2000, 2000)), ms(T0 + 1000));
    clock.at_least(ms(T0 - DAY), at(2000, 2000));
    assert_eq!(clock.now(at(2000, 2000)), ms(T0 + 1000));
    assert!(!clock.is_taught());
}

#[test]
fn a_guess_that_was_too_high_comes_down_when_the_host_is_set_right() {
    let clock = fresh(at(T0 + YEAR, 0));
    assert_eq!(clock.now(at(T0 + YEAR, 0)), ms(T0 + YEAR));
    assert_eq!(clock.now(at(T0, 1000)), ms(T0));
}
