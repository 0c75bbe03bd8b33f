use super::*;

#[test]
fn no_second_holds_more_than_its_share() {
    let start = Instant::now();
    let mut budget = Budget::default();
    let mut taken = Vec::new();
    for ms in 0..5000 {
        let now = start + Duration::from_millis(ms);
        if budget.take(now) {
            taken.push(now);
        }
    }
    for (at, first) in taken.iter().enumerate() {
        let within = taken[at..]
            .iter()
            .filter(|now| now.duration_since(*first) < Duration::from_secs(1));
        assert!(within.count() <= PER_SECOND_MAX);
    }
    assert_eq!(taken.len(), 5 * PER_SECOND_MAX);
}

#[test]
fn what_is_refused_is_granted_at_the_time_told() {
    let now = Instant::now();
    let mut budget = Budget::default();
    while budget.take(now) {}
    let next = budget.next(now);
    let just_before = now
        + next
            .duration_since(now)
            .saturating_sub(Duration::from_nanos(1));
    assert!(!budget.take(just_before));
    assert!(budget.take(next));
}

#[test]
fn destinations_are_limited_until_their_mappings_have_ended() {
    let mut now = Instant::now();
    let mut budget = Budget::default();
    let mut granted = 0;
    for port in 1..1000 {
        now += Duration::from_millis(50);
        let to = SocketAddr::from(([192, 0, 2, 1], port));
        granted += usize::from(budget.take_to(now, to));
    }
    assert_eq!(granted, DESTINATIONS_MAX);
    assert!(budget.take_to(now, SocketAddr::from(([192, 0, 2, 1], 1))));
    now += MAPPING_LIFE;
    assert!(budget.take_to(now, SocketAddr::from(([192, 0, 2, 1], 2000))));
}
