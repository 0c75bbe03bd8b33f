use super::*;

fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name; 16])
}

fn key(name: u8) -> OwnKey {
    OwnKey::new(node(name), &Secret::new([name; 32]))
}

/// The keys of 1 with 2, and of 2 with 1.
fn pair() -> (PairKeys, PairKeys) {
    let (one, two) = (key(1), key(2));
    (
        PairKeys::new(&one, node(2), &two.public).unwrap(),
        PairKeys::new(&two, node(1), &one.public).unwrap(),
    )
}

#[test]
fn a_sealed_message_opens_at_its_receiver() {
    let (one, two) = pair();
    let mut datagram = one.seal([7; 12], Passage::Relayed, b"hello");
    let expect = Header {
        sender: node(1),
        receiver: node(2),
        passage: Passage::Relayed,
    };
    assert_eq!(header(&datagram), Some(expect));
    assert_eq!(two.open(&mut datagram), Some(&b"hello"[..]));
}

#[test]
fn a_message_does_not_open_when_any_bit_is_flipped() {
    let (one, two) = pair();
    let sealed = one.seal([7; 12], Passage::Relayed, b"hello");
    for at in 0..sealed.len() * 8 {
        let mut datagram = sealed.clone();
        datagram[at / 8] ^= 1 << (at % 8);
        assert_eq!(two.open(&mut datagram), None, "bit {at}");
    }
}

#[test]
fn a_message_turned_back_to_its_sender_does_not_open() {
    let (one, _) = pair();
    let mut datagram = one.seal([7; 12], Passage::Relayed, b"hello");
    assert_eq!(one.open(&mut datagram), None);
    let (sender, receiver) = (4, 20);
    for at in 0..16 {
        datagram.swap(sender + at, receiver + at);
    }
    assert_eq!(one.open(&mut datagram), None);
}

#[test]
fn a_key_of_low_order_is_refused() {
    let zero = DiscoveryKey::from_bytes([0; 32]);
    assert!(PairKeys::new(&key(1), node(2), &zero).is_none());
}

#[test]
fn an_id_stolen_for_another_key_makes_other_keys() {
    // Node 3 says that it is node 1: the pair keys of 2 were derived from the key of 1.
    let (_, two) = pair();
    let thief = OwnKey::new(node(1), &Secret::new([3; 32]));
    let keys = PairKeys::new(&thief, node(2), &key(2).public).unwrap();
    assert_eq!(
        two.open(&mut keys.seal([7; 12], Passage::Relayed, b"hello")),
        None
    );
}

#[test]
fn wireguards_messages_are_not_discovery() {
    for kind in 1..=4 {
        assert!(!is_discovery(&[kind, 0, 0, 0, 1, 2, 3, 4]));
    }
}

#[test]
fn short_and_long_datagrams_have_no_header() {
    let (one, _) = pair();
    let sealed = one.seal([7; 12], Passage::Relayed, b"x");
    for len in 0..sealed.len() {
        assert_eq!(header(&sealed[..len]), None);
    }
    assert_eq!(
        header(&one.seal([7; 12], Passage::Relayed, &[0; BODY_LEN_MAX + 1])),
        None
    );
}
