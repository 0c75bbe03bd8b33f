use super::*;

#[test]
fn packets_arrive_as_they_were_sent() {
    let mut pair = Pair::new();
    pair.connect();
    for len in [20, 21, 40, 63, 64, 65, 1399, 1420] {
        assert!(matches!(pair.a_sends(len), Ok(Sent::Sealed { .. })));
        pair.settle();
        assert_eq!(
            pair.out_b.pop(),
            Some(packet([10, 0, 0, 1], [10, 0, 0, 2], len)),
            "{len}"
        );
    }
}

#[test]
fn packets_are_padded_to_sixteen_but_not_beyond_the_mtu() {
    let mut pair = Pair::new();
    pair.connect();
    for (len, padded) in [
        (20, 32),
        (32, 32),
        (33, 48),
        (1409, 1420),
        (1420, 1420),
        (1500, 1500),
    ] {
        let Ok(Sent::Sealed { range, .. }) = pair.a_sends(len) else {
            panic!("there is a session");
        };
        assert_eq!(range.len(), 16 + padded + 16, "{len}");
    }
}

#[test]
fn packets_that_waited_for_a_session_arrive_in_order_and_the_oldest_are_dropped() {
    let mut pair = Pair::new();
    for len in 0..200 {
        assert_eq!(pair.a_sends(100 + len), Ok(Sent::Queued));
    }
    pair.settle();
    let lens: Vec<_> = pair.out_b.iter().map(Vec::len).collect();
    let kept = super::super::super::peer::STAGED_MAX;
    assert_eq!(lens, (300 - kept..300).collect::<Vec<_>>());
}

#[test]
fn a_packet_whose_source_is_not_the_peers_is_dropped() {
    let mut pair = Pair::new();
    pair.connect();
    for source in [[10, 0, 0, 2], [10, 0, 0, 3], [192, 0, 2, 1]] {
        let bytes = packet(source, [10, 0, 0, 2], 60);
        let (sent, buffer) = send(&mut pair.a, pair.now, &bytes).unwrap();
        let Sent::Sealed { to, range } = sent else {
            panic!("there is a session");
        };
        let transmit = Transmit {
            to,
            datagram: buffer[range].to_vec(),
            whole: false,
        };
        assert_eq!(
            pair.deliver(address(1), &transmit),
            Err(Discard::ForeignSource)
        );
    }
}

#[test]
fn a_packet_nobody_holds_or_that_is_not_ip_is_refused() {
    let mut pair = Pair::new();
    let stray = packet([10, 0, 0, 1], [10, 9, 9, 9], 60);
    assert_eq!(
        send(&mut pair.a, pair.now, &stray).unwrap_err(),
        Discard::NoRoute
    );
    let mut torn = packet([10, 0, 0, 1], [10, 0, 0, 2], 60);
    torn[3] = 61;
    assert_eq!(
        send(&mut pair.a, pair.now, &torn).unwrap_err(),
        Discard::NotIp
    );
    assert_eq!(
        send(&mut pair.a, pair.now, &[]).unwrap_err(),
        Discard::NotIp
    );
    assert_eq!(
        send(&mut pair.a, pair.now, &[0x60; 39]).unwrap_err(),
        Discard::NotIp
    );
}

#[test]
fn a_data_message_is_accepted_once() {
    let mut pair = Pair::new();
    pair.connect();
    pair.a_sends(60).unwrap();
    let (from, transmit) = pair.wire.pop().unwrap();
    assert_eq!(pair.deliver(from, &transmit), Ok(()));
    assert_eq!(pair.deliver(from, &transmit), Err(Discard::Replay));
}

#[test]
fn a_changed_data_message_is_dropped_and_the_original_still_accepted() {
    let mut pair = Pair::new();
    pair.connect();
    pair.a_sends(60).unwrap();
    let (from, transmit) = pair.wire.pop().unwrap();
    for at in [8, 16, 40, transmit.datagram.len() - 1] {
        let mut forged = transmit.clone();
        forged.datagram[at] ^= 1;
        assert!(pair.deliver(from, &forged).is_err(), "byte {at}");
    }
    assert_eq!(pair.deliver(from, &transmit), Ok(()));
}

#[test]
fn bytes_are_counted_on_both_sides_alike() {
    let mut pair = Pair::new();
    pair.connect();
    let a = pair.a.peer(&public(2)).unwrap();
    let b = pair.b.peer(&public(1)).unwrap();
    assert_eq!(
        (a.sent_bytes, a.received_bytes),
        (b.received_bytes, b.sent_bytes)
    );
    assert_eq!(
        a.sent_bytes,
        148 + 16 + 112 + 16,
        "an initiation and a packet of 100 bytes"
    );
}

#[test]
fn a_buffer_without_room_is_refused() {
    let mut pair = Pair::new();
    pair.connect();
    let bytes = packet([10, 0, 0, 1], [10, 0, 0, 2], 60);
    let mut tight = bytes.clone();
    let sent = pair.a.handle_tun(pair.now, &mut tight, 0..60);
    assert_eq!(sent, Err(Discard::TooLong));
    let mut tight = [vec![0; 16], bytes, vec![0; 15]].concat();
    let sent = pair.a.handle_tun(pair.now, &mut tight, 16..76);
    assert_eq!(sent, Err(Discard::TooLong));
}

#[test]
fn ipv6_is_routed_by_longest_prefix() {
    let mut pair = Pair::new();
    pair.a.allow(&public(2), prefix("fd00:1::/32")).unwrap();
    pair.b.allow(&public(1), prefix("fd00:2::1/128")).unwrap();
    let mut bytes = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    bytes.extend_from_slice(&"fd00:2::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend_from_slice(
        &"fd00:1:5::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    bytes.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    pair.connect();
    let sent = send(&mut pair.a, pair.now, &bytes);
    pair.take(sent, address(1)).unwrap();
    pair.settle();
    assert_eq!(pair.out_b, [bytes]);
}

#[test]
fn removing_a_peer_ends_its_traffic_at_once() {
    let mut pair = Pair::new();
    pair.connect();
    pair.b_sends(60).unwrap();
    let (from, late) = pair.wire.pop().unwrap();
    pair.a.remove_peer(&public(2));
    assert_eq!(pair.a_sends(60), Err(Discard::NoRoute));
    let mut datagram = late.datagram;
    assert_eq!(
        pair.a.handle_datagram(pair.now, from, &mut datagram),
        Ok(Received::NotOurs)
    );
    assert_eq!(pair.a.peers().count(), 0);
    assert_eq!(pair.a.poll_timeout(), None, "no deadline of it is left");
    assert!(pair.a.by_index.is_empty());
}

#[test]
fn a_prefix_moves_to_the_peer_that_was_given_it_last() {
    let mut pair = Pair::new();
    pair.a.add_peer(public(3)).unwrap();
    pair.a.allow(&public(3), prefix("10.0.0.2/32")).unwrap();
    assert!(pair.a.peer(&public(2)).unwrap().allowed.is_empty());
    pair.a.disallow(&public(2), prefix("10.0.0.2/32")).unwrap();
    assert_eq!(
        pair.a
            .allowed
            .lookup(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
        Some(PeerId(1))
    );
}
