use std::time::Duration;

use super::*;

#[test]
fn timestamps_only_grow() {
    let now = Instant::now();
    let mut clock =
        TimestampClock::new(now, UnixTime::from_millis(1_790_000_000_000), Tai64N::ZERO);
    let mut last = Tai64N::ZERO;
    for step in 0..1000u32 {
        let (stamp, _) = clock.stamp(now + Duration::from_millis(u64::from(step / 10)));
        assert!(last < stamp);
        last = stamp;
    }
}

#[test]
fn no_timestamp_is_used_beyond_its_reservation() {
    let now = Instant::now();
    let mut clock =
        TimestampClock::new(now, UnixTime::from_millis(1_790_000_000_000), Tai64N::ZERO);
    let (mut reserved, mut writes) = (Tai64N::ZERO, 0);
    for minute in 0..100 {
        let (stamp, mark) = clock.stamp(now + Duration::from_secs(60 * minute));
        if let Some(mark) = mark {
            reserved = mark;
            writes += 1;
        }
        assert!(stamp <= reserved);
    }
    assert_eq!(writes, 10, "one write each eleven minutes");
}

#[test]
fn a_device_whose_clock_went_back_continues_after_its_floor() {
    let now = Instant::now();
    let late = UnixTime::from_millis(1_790_000_000_000);
    let mut before = TimestampClock::new(now, late, Tai64N::ZERO);
    let (used, mark) = before.stamp(now);
    let mut after = TimestampClock::new(now, UnixTime::EPOCH, mark.unwrap());
    let (stamp, next) = after.stamp(now);
    assert!(used < stamp);
    assert!(
        next.is_some_and(|next| stamp < next),
        "it reserves anew at once"
    );
}
