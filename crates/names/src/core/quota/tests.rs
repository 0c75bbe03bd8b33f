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
