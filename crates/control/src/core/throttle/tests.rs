use super::*;

fn source(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_source_that_was_refused_often_must_wait_and_others_need_not() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    let bad = source("192.0.2.1");
    for _ in 0..REFUSALS_MAX {
        assert_eq!(throttle.wait(now, bad), Duration::ZERO);
        throttle.refused(now, bad);
    }
    assert!(Duration::ZERO < throttle.wait(now, bad));
    assert_eq!(throttle.wait(now, source("192.0.2.2")), Duration::ZERO);
    let later = now + REFUSAL_EVERY + Duration::from_millis(1);
    assert_eq!(
        throttle.wait(later, bad),
        Duration::ZERO,
        "one refusal is back in stock"
    );
}

#[test]
fn a_slash_64_counts_as_one_source_and_a_mapped_address_as_ipv4() {
    assert_eq!(whole(source("2001:db8::1")), whole(source("2001:db8::2:3")));
    assert_ne!(
        whole(source("2001:db8::1")),
        whole(source("2001:db8:0:1::1"))
    );
    assert_eq!(whole(source("::ffff:192.0.2.1")), source("192.0.2.1"));
}

#[test]
fn what_is_remembered_has_a_bound() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    for number in 0..=u32::try_from(SOURCES_MAX).unwrap() {
        throttle.refused(now, IpAddr::V4(number.into()));
    }
    assert_eq!(throttle.full_at.len(), SOURCES_MAX);
}

#[test]
fn a_source_has_a_bounded_number_of_connections() {
    const MOST: usize = 3;
    let mut connections = Connections::up_to(MOST);
    let one = source("192.0.2.1");
    for _ in 0..MOST {
        assert!(connections.opened(one));
    }
    assert!(!connections.opened(one));
    assert!(connections.opened(source("192.0.2.2")));
    connections.closed(one);
    assert!(connections.opened(one));
    for _ in 0..MOST {
        connections.closed(one);
    }
    connections.closed(source("192.0.2.2"));
    assert!(connections.open.is_empty());
}

#[test]
fn one_source_holds_half_of_the_bytes_and_all_together_no_more_than_there_are() {
    let mut held = Held::up_to(100);
    let [one, other, third] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|it| Some(source(it)));
    assert!(held.take(one, 30) && held.take(one, 20));
    assert!(!held.take(one, 1), "half of all is one's own");
    assert!(held.take(other, 40));
    assert!(!held.take(third, 11), "there are but 100");
    assert!(!held.take(None, 11) && held.take(None, 10));
    held.give_back(one, 20);
    assert!(held.take(third, 20));
    for (source, bytes) in [(one, 30), (other, 40), (third, 20), (None, 10)] {
        held.give_back(source, bytes);
    }
    assert!(held.by_source.is_empty() && held.all == 0, "{held:?}");
}
