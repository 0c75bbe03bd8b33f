use super::*;

const T0: u64 = 1_795_000_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn at(wall: u64, boot_ms: u64) -> Reading {
    Reading {
        wall: UnixTime::from_millis(wall),
        since_boot: Duration::from_millis(boot_ms),
    }
}

fn ms(millis: u64) -> UnixTime {
    UnixTime::from_millis(millis)
}

#[test]
fn time_goes_on_when_the_wall_clock_is_set_back() {
    let mut clock = Leading::start(ms(T0), at(T0 + 10, 0));
    assert_eq!(clock.now(at(T0 + 5000, 4990)), ms(T0 + 5000));
    assert_eq!(clock.now(at(T0 - DAY, 5990)), ms(T0 + 6000));
    assert_eq!(clock.now(at(0, 6990)), ms(T0 + 7000));
    assert_eq!(clock.refused(), None);
}

#[test]
fn a_wall_clock_in_1970_does_not_take_time_below_what_was_persisted() {
    let mut clock = Leading::start(ms(T0), at(30_000, 30_000));
    assert_eq!(clock.now(at(31_000, 31_000)), ms(T0 + 1000));
    // It finds the network's time, five days later than the last that was persisted.
    let right = T0 + 5 * DAY;
    assert_eq!(clock.now(at(right, 32_000)), ms(right));
    // From then on it is a clock like any other.
    assert_eq!(clock.now(at(right + DAY, 33_000)), ms(right + 1000));
}

#[test]
fn a_jump_forward_by_a_year_and_back_changes_nothing() {
    let mut clock = Leading::start(ms(T0), at(T0, 0));
    let year = 365 * DAY;
    assert_eq!(clock.now(at(T0 + year + 1000, 1000)), ms(T0 + 1000));
    assert_eq!(clock.refused(), Some(Duration::from_millis(year)));
    assert_eq!(clock.now(at(T0 + 2000, 2000)), ms(T0 + 2000));
    assert_eq!(clock.refused(), None);
}

#[test]
fn a_step_of_up_to_an_hour_is_followed_and_not_taken_back() {
    let mut clock = Leading::start(ms(T0), at(T0, 0));
    assert_eq!(clock.now(at(T0 + HOUR, 0)), ms(T0 + HOUR));
    assert_eq!(clock.now(at(T0 + 1000, 1000)), ms(T0 + HOUR + 1000));
    let mut clock = Leading::start(ms(T0), at(T0, 0));
    assert_eq!(clock.now(at(T0 + HOUR + 1, 0)), ms(T0));
}

#[test]
fn suspended_time_has_passed() {
    let mut clock = Leading::start(ms(T0), at(T0, 0));
    assert_eq!(clock.now(at(T0 + 10 * HOUR, 10 * HOUR)), ms(T0 + 10 * HOUR));
}

#[test]
fn only_more_than_thirty_days_are_for_a_human_to_judge() {
    assert!(!is_far_ahead(ms(T0 + 30 * DAY), ms(T0)));
    assert!(is_far_ahead(ms(T0 + 30 * DAY + 1), ms(T0)));
    assert!(!is_far_ahead(ms(0), ms(T0)));
}
