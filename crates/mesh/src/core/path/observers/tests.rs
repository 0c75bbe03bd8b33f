use super::*;

fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name; 16])
}

fn place(name: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, name], 51820))
}

fn seen(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], port))
}

#[test]
fn an_address_that_more_have_seen_comes_first() {
    let now = Instant::now();
    let mut observers = Observers::default();
    for (name, port) in [(1, 4), (2, 9), (3, 9), (4, 6)] {
        observers.put(now, node(name), place(name), seen(port));
    }
    assert_eq!(observers.reflexive(&[], &[]), [seen(9), seen(4), seen(6)]);
    let told = [seen(6)];
    assert_eq!(observers.reflexive(&[], &told), [seen(9), seen(6), seen(4)]);
    assert_eq!(observers.reflexive(&[seen(9)], &[]), [seen(4), seen(6)]);
}

#[test]
fn only_observers_at_different_places_are_compared() {
    let now = Instant::now();
    let mut observers = Observers::default();
    assert_eq!(observers.varies(), None);
    observers.put(now, node(1), place(1), seen(4));
    observers.put(now, node(2), place(1), seen(5));
    assert_eq!(observers.varies(), None);
    // One that sees another address of ours tells nothing about this one.
    let other = SocketAddr::from(([192, 168, 1, 2], 9));
    observers.put(now, node(3), place(3), other);
    assert_eq!(observers.varies(), None);
    observers.put(now, node(2), place(2), seen(4));
    assert_eq!(observers.varies(), Some(false));
    observers.put(now, node(4), place(4), seen(5));
    assert_eq!(observers.varies(), Some(true));
}

#[test]
fn what_was_seen_ends_and_is_limited() {
    let now = Instant::now();
    let mut observers = Observers::default();
    for name in 0..100 {
        let at = now + Duration::from_millis(u64::from(name));
        observers.put(at, node(name), place(name), seen(u16::from(name) + 1));
    }
    assert_eq!(observers.reflexive(&[], &[]).len(), OBSERVERS_MAX);
    assert!(observers.reflexive(&[], &[]).contains(&seen(100)));
    observers.expire(now + OBSERVED_LIFE + Duration::from_millis(99));
    assert!(observers.reflexive(&[], &[]).is_empty());
}
