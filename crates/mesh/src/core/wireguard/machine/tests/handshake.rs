use super::*;

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

#[test]
fn first_traffic_wants_a_handshake_and_gets_through() {
    let mut pair = Pair::new();
    assert_eq!(pair.a_sends(100), Ok(Sent::Queued));
    pair.drain();
    assert_eq!(count(&pair.wire, INITIATION), 1);
    assert!(
        pair.events_a
            .contains(&Event::WantsHandshake { peer: public(2) })
    );
    pair.settle();
    let from = address(2);
    assert!(pair.events_a.contains(&Event::HandshakeCompleted {
        peer: public(2),
        from
    }));
    let from = address(1);
    assert!(pair.events_b.contains(&Event::HandshakeCompleted {
        peer: public(1),
        from
    }));
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn a_handshake_without_traffic_is_confirmed_by_a_keepalive() {
    let mut pair = Pair::new();
    pair.a.start_handshake(pair.now, &public(2)).unwrap();
    pair.settle();
    assert!(pair.b.peer(&public(1)).unwrap().has_session);
    assert!(pair.out_b.is_empty());
}

#[test]
fn both_may_begin_at_once() {
    let mut pair = Pair::new();
    pair.b
        .set_endpoint(pair.now, &public(1), Some(address(1)))
        .unwrap();
    pair.a_sends(60).unwrap();
    pair.b_sends(60).unwrap();
    pair.settle();
    assert_eq!((pair.out_a.len(), pair.out_b.len()), (1, 1));
    for _ in 0..3 {
        assert!(matches!(pair.a_sends(60), Ok(Sent::Sealed { .. })));
        assert!(matches!(pair.b_sends(60), Ok(Sent::Sealed { .. })));
        pair.settle();
    }
    assert_eq!((pair.out_a.len(), pair.out_b.len()), (4, 4));
}

#[test]
fn an_initiation_is_answered_once() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.drain();
    let (from, initiation) = pair.wire[0].clone();
    assert_eq!(pair.deliver(from, &initiation), Ok(()));
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.deliver(from, &initiation), Err(Discard::OldTimestamp));
}

#[test]
fn a_peer_that_is_not_known_gets_no_answer() {
    let mut pair = Pair::new();
    pair.b.remove_peer(&public(1));
    pair.a_sends(60).unwrap();
    pair.drain();
    let (from, initiation) = pair.wire[0].clone();
    assert_eq!(pair.deliver(from, &initiation), Err(Discard::UnknownPeer));
    pair.wire.clear();
    pair.drain();
    assert!(pair.wire.is_empty());
}

#[test]
fn an_initiation_for_another_key_is_not_ours_and_untouched() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.drain();
    let (from, initiation) = pair.wire[0].clone();
    let mut other = machine(pair.now, 3, Roaming::On);
    let mut datagram = initiation.datagram.clone();
    assert_eq!(
        other.handle_datagram(pair.now, from, &mut datagram),
        Ok(Received::NotOurs)
    );
    assert_eq!(datagram, initiation.datagram);
}

#[test]
fn different_preshared_keys_give_no_session() {
    let mut pair = Pair::new();
    pair.a
        .set_preshared_key(&public(2), Some(secret(7)))
        .unwrap();
    pair.b
        .set_preshared_key(&public(1), Some(secret(8)))
        .unwrap();
    pair.a_sends(60).unwrap();
    pair.settle();
    assert!(!pair.a.peer(&public(2)).unwrap().has_session);
    assert!(!pair.b.peer(&public(1)).unwrap().has_session);

    pair.b
        .set_preshared_key(&public(1), Some(secret(7)))
        .unwrap();
    pair.pass(Duration::from_secs(6));
    assert_eq!(
        pair.out_b.len(),
        1,
        "the next try succeeds with the packet that waited"
    );
    assert!(pair.a.peer(&public(2)).unwrap().has_preshared_key);
}

#[test]
fn a_preshared_key_that_changes_while_a_handshake_is_under_way_counts() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.drain();
    pair.a
        .set_preshared_key(&public(2), Some(secret(7)))
        .unwrap();
    pair.b
        .set_preshared_key(&public(1), Some(secret(7)))
        .unwrap();
    pair.settle();
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn a_forged_answer_does_not_end_a_handshake() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.drain();
    let (from, initiation) = pair.wire.remove(0);
    pair.deliver(from, &initiation).unwrap();
    pair.drain();
    let (from, response) = pair.wire.remove(0);
    assert_eq!(response.datagram[0], RESPONSE);
    // Whoever knows a's public key can make mac1 right; the rest he cannot.
    let mut forged = response.clone();
    forged.datagram[20] ^= 1;
    Mac1Key::new(&public(1)).sign(&mut forged.datagram);
    assert_eq!(pair.deliver(from, &forged), Err(Discard::Handshake));
    assert_eq!(pair.deliver(from, &response), Ok(()));
    pair.settle();
    assert_eq!(pair.out_b.len(), 1);
    assert_eq!(
        pair.deliver(from, &response),
        Err(Discard::Handshake),
        "and only once"
    );
}

#[test]
fn keys_are_renewed_under_traffic_without_losing_a_packet() {
    let mut pair = Pair::new();
    pair.connect();
    let mut completed = 0;
    for second in 0..400 {
        pair.a_sends(60).unwrap();
        pair.b_sends(60).unwrap();
        pair.pass(Duration::from_secs(1));
        assert_eq!(
            (pair.out_a.len(), pair.out_b.len()),
            (second + 1, second + 1)
        );
    }
    for event in &pair.events_a {
        completed += usize::from(matches!(event, Event::HandshakeCompleted { .. }));
    }
    assert_eq!(completed, 3, "one each 120 s");
    assert!(
        !pair
            .events_a
            .iter()
            .any(|event| matches!(event, Event::WantsHandshake { .. }))
    );
}

#[test]
fn packets_sealed_before_a_renewal_are_still_opened_after_it() {
    let mut pair = Pair::new();
    pair.connect();
    pair.pass(Duration::from_secs(119));
    pair.b_sends(60).unwrap();
    let late = pair.wire.pop().unwrap();
    pair.pass(Duration::from_secs(2));
    pair.a_sends(60).unwrap();
    pair.settle();
    pair.a_sends(60).unwrap();
    pair.settle();
    assert_eq!(pair.out_b.len(), 2);
    let (from, transmit) = late;
    assert_eq!(pair.deliver(from, &transmit), Ok(()));
    assert_eq!(pair.out_a.len(), 1);
}

#[test]
fn under_load_an_address_has_to_be_proved_first() {
    let mut pair = Pair::new();
    // A flood with a right mac1 and nothing else: whoever knows b's public key can send it.
    let mut refused = 0;
    for n in 0u32..400 {
        let mut flood = vec![0; message::INITIATION_LEN];
        message::write_head(&mut flood, Message::Initiation { sender: n });
        Mac1Key::new(&public(2)).sign(&mut flood);
        let result = pair.b.handle_datagram(pair.now, address(9), &mut flood);
        refused += usize::from(result == Err(Discard::CookieSent));
    }
    assert!(refused > 200, "{refused}");
    pair.drain();
    assert_eq!(count(&pair.wire, COOKIE), refused);
    let replies: usize = pair
        .wire
        .iter()
        .map(|(_, reply)| reply.datagram.len())
        .sum();
    assert!(
        replies < refused * message::INITIATION_LEN,
        "no more is sent than came"
    );
    pair.wire.clear();

    pair.a_sends(60).unwrap();
    pair.drain();
    let (from, initiation) = pair.wire.remove(0);
    assert_eq!(pair.deliver(from, &initiation), Err(Discard::CookieSent));
    pair.drain();
    let endpoint = pair.a.peer(&public(2)).unwrap().endpoint;
    let (_, cookie) = pair.wire.remove(0);
    assert_eq!(
        pair.deliver(address(77), &cookie),
        Ok(()),
        "b's cookie, wherever it comes from"
    );
    assert_eq!(
        pair.a.peer(&public(2)).unwrap().endpoint,
        endpoint,
        "a cookie moves nothing"
    );

    // The load goes on; a's next try carries mac2 and is answered.
    for n in 0u32..4000 {
        pair.now += Duration::from_micros(1_250);
        let mut flood = vec![0; message::INITIATION_LEN];
        message::write_head(&mut flood, Message::Initiation { sender: n });
        Mac1Key::new(&public(2)).sign(&mut flood);
        let _ = pair.b.handle_datagram(pair.now, address(9), &mut flood);
    }
    while pair.b.poll_transmit().is_some() {}
    pair.now += Duration::from_millis(400);
    pair.a.handle_timeout(pair.now);
    pair.settle();
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn a_cookie_that_answers_nothing_of_ours_is_dropped() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.drain();
    let index = pair.wire[0].1.datagram[4..8].to_vec();
    let mut forged = vec![0x33; message::COOKIE_LEN];
    forged[..4].copy_from_slice(&[3, 0, 0, 0]);
    forged[4..8].copy_from_slice(&index);
    assert_eq!(
        pair.a.handle_datagram(pair.now, address(2), &mut forged),
        Err(Discard::Cookie)
    );
}

#[test]
fn a_peer_is_followed_to_the_source_of_authenticated_data_only() {
    let mut pair = Pair::new();
    pair.connect();
    pair.a_sends(60).unwrap();
    let (_, transmit) = pair.wire.pop().unwrap();
    let mut forged = transmit.clone();
    forged.datagram[30] ^= 1;
    let _ = pair.deliver(address(66), &forged);
    assert_eq!(pair.b.peer(&public(1)).unwrap().endpoint, Some(address(1)));
    pair.deliver(address(55), &transmit).unwrap();
    assert_eq!(pair.b.peer(&public(1)).unwrap().endpoint, Some(address(55)));
    let _ = pair.deliver(address(66), &transmit);
    assert_eq!(
        pair.b.peer(&public(1)).unwrap().endpoint,
        Some(address(55)),
        "a replay"
    );
    pair.drain();
    let from = address(55);
    assert!(pair.events_b.contains(&Event::SourceChanged {
        peer: public(1),
        from
    }));
}

#[test]
fn without_roaming_the_endpoint_stays_where_it_was_set() {
    let mut pair = Pair::with(Roaming::Off);
    pair.connect();
    assert_eq!(
        pair.b.peer(&public(1)).unwrap().endpoint,
        Some(address(1)),
        "b had none and took the source"
    );
    pair.a_sends(60).unwrap();
    let (_, transmit) = pair.wire.pop().unwrap();
    pair.deliver(address(55), &transmit).unwrap();
    assert_eq!(pair.b.peer(&public(1)).unwrap().endpoint, Some(address(1)));
    pair.drain();
    let from = address(55);
    assert!(pair.events_b.contains(&Event::SourceChanged {
        peer: public(1),
        from
    }));
}

#[test]
fn a_handshake_that_waits_for_an_endpoint_is_sent_when_it_has_one() {
    let mut pair = Pair::new();
    pair.a.set_endpoint(pair.now, &public(2), None).unwrap();
    pair.a_sends(60).unwrap();
    pair.drain();
    assert!(pair.wire.is_empty());
    assert!(
        pair.events_a
            .contains(&Event::WantsHandshake { peer: public(2) })
    );
    pair.now += Duration::from_secs(3);
    pair.a
        .set_endpoint(pair.now, &public(2), Some(address(2)))
        .unwrap();
    pair.settle();
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn an_unanswered_handshake_follows_a_new_endpoint_quickly() {
    let mut pair = Pair::new();
    pair.a
        .set_endpoint(pair.now, &public(2), Some(address(200)))
        .unwrap();
    pair.cut = true;
    pair.a_sends(60).unwrap();
    pair.settle();
    pair.cut = false;
    pair.a
        .set_endpoint(pair.now, &public(2), Some(address(2)))
        .unwrap();
    pair.pass(Duration::from_millis(250));
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn data_that_only_lacks_an_address_is_sent_when_there_is_one() {
    let mut pair = Pair::new();
    pair.connect();
    pair.a.set_endpoint(pair.now, &public(2), None).unwrap();
    assert_eq!(pair.a_sends(60), Ok(Sent::Queued));
    pair.drain();
    assert!(
        pair.events_a
            .contains(&Event::WantsHandshake { peer: public(2) })
    );
    pair.a
        .set_endpoint(pair.now, &public(2), Some(address(2)))
        .unwrap();
    pair.drain();
    assert_eq!(
        (count(&pair.wire, DATA), count(&pair.wire, INITIATION)),
        (1, 0)
    );
    pair.settle();
    assert_eq!(pair.out_b.len(), 1);
}

#[test]
fn a_new_private_key_ends_all_sessions_and_drops_a_peer_that_is_oneself() {
    let mut pair = Pair::new();
    pair.connect();
    pair.a.set_private_key(pair.now, Some(secret(2)));
    assert_eq!(pair.a.public_key(), Some(public(2)));
    assert_eq!(pair.a.peers().count(), 0);
    assert_eq!(pair.a.add_peer(public(2)), Err(Refusal::OwnKey));
    pair.b.set_private_key(pair.now, Some(secret(4)));
    assert!(!pair.b.peer(&public(1)).unwrap().has_session);
}

#[test]
fn timestamps_are_reserved_before_they_are_used_and_grow_over_restarts() {
    let mut pair = Pair::new();
    pair.a_sends(60).unwrap();
    pair.settle();
    let reserved = pair.events_a.iter().find_map(|event| match event {
        Event::TimestampReserved(stamp) => Some(*stamp),
        _ => None,
    });
    // The machine comes back with its clock in 1970.
    let options = MachineOptions {
        wall: UnixTime::EPOCH,
        timestamp_floor: reserved.unwrap(),
        roaming: Roaming::On,
        mtu: 1420,
    };
    let mut again = Machine::new(pair.now, options, Box::new(Seeded::new(99)));
    again.set_private_key(pair.now, Some(secret(1)));
    again.add_peer(public(2)).unwrap();
    again
        .set_endpoint(pair.now, &public(2), Some(address(2)))
        .unwrap();
    again.start_handshake(pair.now, &public(2)).unwrap();
    pair.a = again;
    pair.now += Duration::from_secs(1);
    pair.settle();
    assert!(pair.a.peer(&public(2)).unwrap().has_session);
}
