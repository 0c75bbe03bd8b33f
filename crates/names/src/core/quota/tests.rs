use super::*;

#[test]
fn a_source_that_asks_too_much_is_refused_until_the_next_second() {
    let start = Instant::now();
    let mut quota = Quota::new(start);
    let loud = IpAddr::from([10, 128, 0, 2]);
    let quiet = IpAddr::from([10, 128, 0, 3]);
    assert!((0..QUESTIONS_MAX).all(|_| quota.admit(start, loud)));
    assert!(!quota.admit(start, loud));
    assert!(quota.admit(start, quiet));
    assert!(quota.admit(start + WINDOW, loud));
}

#[test]
fn the_table_of_sources_is_bounded() {
    let start = Instant::now();
    let mut quota = Quota::new(start);
    let sources = u32::try_from(SOURCES_MAX).unwrap();
    let source = |number: u32| IpAddr::from(number.to_be_bytes());
    assert!((0..sources).all(|number| quota.admit(start, source(number))));
    assert!(!quota.admit(start, source(sources)));
    assert!(quota.admit(start, source(0)));
    assert_eq!(quota.asked.len(), SOURCES_MAX);
}

#[test]
fn a_source_holds_no_more_than_its_share_and_gets_it_back() {
    let mut slots = Slots::new(2);
    let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    assert!(slots.take(one) && slots.take(one));
    assert!(!slots.take(one));
    assert!(slots.take(two));
    slots.give_back(one);
    assert!(slots.take(one));
    slots.give_back(one);
    slots.give_back(one);
    slots.give_back(two);
    slots.give_back(two);
    assert!(slots.held.is_empty());
}
