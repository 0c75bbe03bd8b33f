use super::*;

fn signed(len: usize, message: Message, receiver: &WireGuardKey) -> Vec<u8> {
    let mut datagram = vec![7u8; len];
    write_head(&mut datagram, message);
    Mac1Key::new(receiver).sign(&mut datagram);
    datagram
}

#[test]
fn each_message_is_known_by_type_and_length() {
    let check = |len: usize, message: Message| {
        let mut datagram = vec![0u8; len];
        write_head(&mut datagram, message);
        assert_eq!(parse(&datagram), Some(message));
        datagram[1] = 1;
        assert_eq!(parse(&datagram), None, "a reserved byte is set");
    };
    check(
        INITIATION_LEN,
        Message::Initiation {
            sender: 0x0102_0304,
        },
    );
    check(
        RESPONSE_LEN,
        Message::Response {
            sender: 1,
            receiver: u32::MAX,
        },
    );
    check(COOKIE_LEN, Message::Cookie { receiver: 9 });
    check(DATA_LEN_MIN, Message::Data { receiver: 9 });
    check(1452, Message::Data { receiver: 9 });
}

#[test]
fn a_datagram_of_a_wrong_length_is_not_wireguard() {
    for kind in 0..6u8 {
        for len in 0..200usize {
            let mut datagram = vec![0u8; len];
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            let fits = matches!((kind, len), (1, 148) | (2, 92) | (3, 64) | (4, 32..));
            assert_eq!(parse(&datagram).is_some(), fits, "type {kind}, {len} bytes");
        }
    }
}

#[test]
fn mac1_tells_whom_an_initiation_is_for() {
    let (ours, theirs) = (
        WireGuardKey::from_bytes([1; 32]),
        WireGuardKey::from_bytes([2; 32]),
    );
    for (len, message) in [
        (INITIATION_LEN, Message::Initiation { sender: 5 }),
        (
            RESPONSE_LEN,
            Message::Response {
                sender: 5,
                receiver: 6,
            },
        ),
    ] {
        let mut datagram = signed(len, message, &ours);
        assert!(mac1_is_for(&datagram, &ours));
        assert!(!mac1_is_for(&datagram, &theirs));
        datagram[20] ^= 1;
        assert!(!mac1_is_for(&datagram, &ours), "a changed byte is covered");
    }
    assert!(!mac1_is_for(&[4, 0, 0, 0], &ours));
}
