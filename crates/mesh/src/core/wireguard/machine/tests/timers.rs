use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn silent(pair: &Pair) -> usize {
    let silent = Event::PeerSilent { peer: public(2) };
    pair.events_a
        .iter()
        .filter(|event| **event == silent)
        .count()
}

#[test]
fn a_handshake_is_repeated_every_five_seconds_and_given_up_after_ninety() {
    let mut pair = Pair::new();
    pair.cut = true;
    pair.a_sends(60).unwrap();
    let mut sent = Vec::new();
    let begun = pair.now;
    while let Some(at) = pair.next_timeout() {
        pair.now = at;
        pair.a.handle_timeout(at);
        pair.drain();
        sent.extend(
            pair.wire
                .drain(..)
                .map(|_| pair.now.saturating_duration_since(begun)),
        );
        assert!(pair.now <= begun + seconds(1000), "it ends");
    }
    assert!((17..=19).contains(&sent.len()), "{}", sent.len());
    for gap in sent.windows(2) {
        let gap = gap[1].checked_sub(gap[0]).unwrap();
        assert!((5000..=5334).contains(&gap.as_millis()), "{gap:?}");
    }
    assert!(sent.last().unwrap().as_secs() < 96);
    assert!(silent(&pair) >= sent.len() - 1);
    assert!(pair.a.expect_peer(PeerId(0)).staged.is_empty());
}

#[test]
fn data_is_answered_by_a_keepalive_after_ten_seconds_if_by_nothing_else() {
    let mut pair = Pair::new();
    pair.connect();
    pair.pass(seconds(20));
    let before = pair.b.peer(&public(1)).unwrap().sent_bytes;
    pair.a_sends(60).unwrap();
    pair.pass(Duration::from_millis(9_900));
    assert_eq!(pair.b.peer(&public(1)).unwrap().sent_bytes, before);
    pair.pass(Duration::from_millis(200));
    assert_eq!(pair.b.peer(&public(1)).unwrap().sent_bytes, before + 32);
    // And keepalives are not answered by keepalives.
    let a = pair.a.peer(&public(2)).unwrap().sent_bytes;
    pair.pass(seconds(60));
    assert_eq!(pair.b.peer(&public(1)).unwrap().sent_bytes, before + 32);
    assert_eq!(pair.a.peer(&public(2)).unwrap().sent_bytes, a);
}

#[test]
fn a_peer_that_falls_silent_is_reported_after_fifteen_seconds() {
    let mut pair = Pair::new();
    pair.connect();
    pair.pass(seconds(20));
    pair.cut = true;
    pair.a_sends(60).unwrap();
    pair.pass(Duration::from_millis(14_900));
    assert_eq!(silent(&pair), 0);
    pair.pass(Duration::from_millis(200));
    assert_eq!(silent(&pair), 1);
    pair.cut = false;
    pair.pass(seconds(6));
    let a = pair.a.peer(&public(2)).unwrap();
    assert!(
        pair.now
            .saturating_duration_since(a.last_handshake.unwrap())
            < seconds(6)
    );
}

#[test]
fn a_session_is_of_no_use_after_three_minutes() {
    let mut pair = Pair::new();
    pair.connect();
    pair.b_sends(60).unwrap();
    let (from, late) = pair.wire.pop().unwrap();
    pair.pass(Duration::from_millis(179_900));
    assert!(pair.a.peer(&public(2)).unwrap().has_session);
    pair.pass(seconds(1));
    pair.a.handle_timeout(pair.now);
    assert!(!pair.a.peer(&public(2)).unwrap().has_session);
    assert_eq!(pair.deliver(from, &late), Err(Discard::Expired));
    assert_eq!(pair.a_sends(60), Ok(Sent::Queued));
}

#[test]
fn keys_are_forgotten_after_nine_minutes_of_rest() {
    let mut pair = Pair::new();
    pair.connect();
    pair.pass(seconds(541));
    for machine in [&mut pair.a, &mut pair.b] {
        let peer = machine.expect_peer(PeerId(0));
        assert!(peer.current.is_none() && peer.next.is_none() && peer.previous.is_none());
        assert!(machine.by_index.is_empty());
        assert_eq!(machine.poll_timeout(), None);
    }
}

#[test]
fn a_receiver_that_began_the_session_renews_it_before_it_ends() {
    let mut pair = Pair::new();
    pair.connect();
    // Only b sends: a, who began, has to renew at 165 s.
    for _ in 0..17 {
        pair.pass(seconds(10));
        pair.b_sends(60).unwrap();
        pair.settle();
    }
    let completed = |event: &&Event| matches!(event, Event::HandshakeCompleted { .. });
    assert_eq!(pair.events_a.iter().filter(completed).count(), 1);
}

#[test]
fn a_persistent_keepalive_flows_for_ever_and_only_when_nothing_else_does() {
    let mut pair = Pair::new();
    pair.a.set_keepalive(pair.now, &public(2), 25).unwrap();
    pair.pass(seconds(1));
    assert!(
        pair.b.peer(&public(1)).unwrap().has_session,
        "it begins by itself"
    );
    let before = pair.a.peer(&public(2)).unwrap().sent_bytes;
    pair.pass(seconds(100));
    assert_eq!(pair.a.peer(&public(2)).unwrap().sent_bytes, before + 4 * 32);
    pair.pass(seconds(1000));
    assert!(pair.b.peer(&public(1)).unwrap().has_session);
    pair.a.set_keepalive(pair.now, &public(2), 0).unwrap();
    let before = pair.a.peer(&public(2)).unwrap().sent_bytes;
    pair.pass(seconds(1000));
    assert_eq!(pair.a.peer(&public(2)).unwrap().sent_bytes, before);
}

#[test]
fn the_timeout_is_now_while_output_waits() {
    let mut pair = Pair::new();
    assert_eq!(pair.a.poll_timeout(), None);
    pair.a_sends(60).unwrap();
    assert_eq!(pair.a.poll_timeout(), Some(pair.now));
    pair.drain();
    assert!(pair.a.poll_timeout().unwrap() >= pair.now + seconds(5));
}
