use super::*;

#[test]
fn renewal_is_due_from_half_of_the_life_on() {
    let hours = |count: u64| UnixTime::EPOCH.plus(Duration::from_secs(count * 3600));
    let life = Life {
        begins: hours(0),
        ends: hours(24),
    };
    assert!(!life.is_renewal_due(hours(11)));
    assert!(life.is_renewal_due(hours(12)));
    assert!(life.is_renewal_due(hours(30)));
}

#[test]
fn waits_grow_to_a_bound_and_jitter_only_shortens_them() {
    assert_eq!(retry_after(0, 0), Duration::from_millis(100));
    assert_eq!(retry_after(3, 0), Duration::from_millis(800));
    assert_eq!(retry_after(40, 0), RETRY_MAX);
    for attempt in 0..20 {
        assert!(retry_after(attempt, 255) <= retry_after(attempt, 0));
        assert!(retry_after(attempt, 0) * 3 / 4 <= retry_after(attempt, 255));
    }
}

#[test]
fn the_time_is_written_down_at_once_and_then_every_ten_minutes() {
    let at = |secs: u64| UnixTime::EPOCH.plus(Duration::from_secs(secs));
    assert!(is_time_due(None, at(0)));
    assert!(!is_time_due(Some(at(1000)), at(1599)));
    assert!(is_time_due(Some(at(1000)), at(1600)));
    assert!(!is_time_due(Some(at(1000)), at(10)));
}
