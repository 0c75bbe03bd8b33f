use super::*;

#[test]
fn a_flood_puts_the_device_under_load_for_a_second_longer() {
    let now = Instant::now();
    let mut load = Load::new(now);
    for _ in 0..MESSAGES_BURST {
        assert!(!load.count(now));
    }
    assert!(load.count(now));
    assert!(load.count(now + Duration::from_millis(999)));
    assert!(!load.count(now + Duration::from_millis(1001)));
}

#[test]
fn what_the_device_can_bear_is_never_load() {
    let mut now = Instant::now();
    let mut load = Load::new(now);
    for _ in 0..10_000 {
        now += Duration::from_secs(1) / MESSAGES_PER_SECOND;
        assert!(!load.count(now));
    }
}

#[test]
fn an_address_gets_twenty_a_second_and_a_burst_of_five() {
    let now = Instant::now();
    let mut load = Load::new(now);
    let from: IpAddr = "192.0.2.1".parse().unwrap();
    let admitted = (0..100).filter(|_| load.admits(now, from)).count();
    assert_eq!(admitted, 5);
    let admitted = (0..1000u32)
        .filter(|ms| load.admits(now + Duration::from_millis(u64::from(*ms)), from))
        .count();
    assert!((18..=20).contains(&admitted), "{admitted}");
    assert!(load.admits(now, "192.0.2.2".parse().unwrap()));
}

#[test]
fn addresses_of_one_v6_network_share_their_part() {
    let now = Instant::now();
    let mut load = Load::new(now);
    let admitted = (0..100u16)
        .filter(|host| load.admits(now, format!("2001:db8::{host:x}").parse().unwrap()))
        .count();
    assert_eq!(admitted, 5);
}

#[test]
fn the_table_of_addresses_is_bounded_and_forgets_idle_ones() {
    let now = Instant::now();
    let mut load = Load::new(now);
    for host in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
        assert!(load.admits(now, IpAddr::V4(host.into())));
    }
    let stranger: IpAddr = "203.0.113.1".parse().unwrap();
    assert!(!load.admits(now, stranger));
    assert!(load.addresses.len() <= ADDRESSES_MAX);
    assert!(load.admits(now + Duration::from_secs(1), stranger));
}
