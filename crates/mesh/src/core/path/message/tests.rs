use proptest::prelude::*;

use super::*;

fn check(message: Message) {
    let body = encode(77, &message);
    assert_eq!(decode(&body), Some((77, message)));
}

#[test]
fn each_message_reads_as_it_was_written() {
    let transaction = Transaction([9; 8]);
    let node = NodeId::from_bytes([5; 16]);
    for (via, selected) in [(None, false), (Some(node), true), (None, true)] {
        for padded in [0, 600, u16::try_from(BODY_LEN_MAX).unwrap()] {
            check(Message::Ping {
                transaction,
                via,
                selected,
                padded,
            });
        }
    }
    for observed in ["192.0.2.1:51820", "[2001:db8::1]:9"] {
        check(Message::Pong {
            transaction,
            observed: observed.parse().unwrap(),
        });
    }
    for count in [0, 1, CANDIDATES_MAX] {
        let address = |at: usize| SocketAddr::from(([192, 0, 2, u8::try_from(at).unwrap()], 4000));
        check(Message::CallMe {
            answer: true,
            varies: count == 1,
            candidates: (0..count).map(address).collect(),
        });
    }
    for indices in [vec![], vec![1], vec![1, u32::MAX]] {
        check(Message::Bind {
            transaction,
            target: node,
            indices,
        });
    }
    for verdict in [
        Verdict::Bound,
        Verdict::NotHere,
        Verdict::Full,
        Verdict::Refused,
    ] {
        check(Message::Bound {
            transaction,
            verdict,
            rtt_us: 1234,
        });
    }
}

#[test]
fn no_answer_is_longer_than_its_question() {
    let transaction = Transaction([9; 8]);
    let observed = "[2001:db8::1]:9".parse().unwrap();
    let ping = encode(
        1,
        &Message::Ping {
            transaction,
            via: None,
            selected: false,
            padded: 0,
        },
    );
    let answer = encode(
        1,
        &Message::Pong {
            transaction,
            observed,
        },
    );
    let bind = encode(
        1,
        &Message::Bind {
            transaction,
            target: NodeId::from_bytes([5; 16]),
            indices: vec![],
        },
    );
    let bound = encode(
        1,
        &Message::Bound {
            transaction,
            verdict: Verdict::Bound,
            rtt_us: 1,
        },
    );
    assert!(answer.len() <= ping.len());
    assert!(bound.len() <= bind.len());
    let call_me = |count| Message::CallMe {
        answer: false,
        varies: false,
        candidates: vec![observed; count],
    };
    assert_eq!(encode(1, &call_me(0)).len(), encode(1, &call_me(99)).len());
}

#[test]
fn bytes_after_the_message_are_refused() {
    let transaction = Transaction([9; 8]);
    let mut body = encode(
        1,
        &Message::Bound {
            transaction,
            verdict: Verdict::Bound,
            rtt_us: 1,
        },
    );
    *body.last_mut().unwrap() = 1;
    assert_eq!(decode(&body), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_never_read_twice(
        kind in 0u8..8,
        mut body in proptest::collection::vec(any::<u8>(), 0..CALL_ME_LEN + 4),
    ) {
        if let Some(first) = body.first_mut() {
            *first = kind;
        }
        if let Some((stamp, message)) = decode(&body) {
            let again = encode(stamp, &message);
            prop_assert_eq!(decode(&again), Some((stamp, message)));
        }
    }
}
