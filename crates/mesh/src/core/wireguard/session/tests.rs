use bastide_api::Secret;
use proptest::prelude::*;

use super::*;

fn pair() -> (Session, Session) {
    let now = Instant::now();
    let keys = |send, receive| SessionKeys {
        send: Secret::new([send; 32]),
        receive: Secret::new([receive; 32]),
    };
    (
        Session::new(now, &keys(1, 2), 10, 20, true),
        Session::new(now, &keys(2, 1), 20, 10, false),
    )
}

#[test]
fn the_last_counters_are_never_used() {
    let (mut ours, mut theirs) = pair();
    let mut buffer = [0; 64];
    ours.sealer.counter = REJECT_AFTER_MESSAGES - 1;
    let range = ours.sealer.seal(&mut buffer, 16..16, 1420).unwrap();
    assert!(theirs.opener.open(&mut buffer[range]).is_ok());
    assert_eq!(
        ours.sealer.seal(&mut buffer, 16..16, 1420),
        Err(Discard::Expired)
    );
    assert!(!ours.is_usable(ours.created));

    let mut beyond = [0; 32];
    beyond[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
    assert_eq!(theirs.opener.open(&mut beyond), Err(Discard::Expired));
}

#[test]
fn a_session_wants_a_successor_after_so_many_messages_or_so_long() {
    let (mut ours, theirs) = pair();
    let late = ours.created + REKEY_AFTER_TIME;
    assert!(!ours.wants_rekey_on_send(ours.created));
    assert!(ours.wants_rekey_on_send(late));
    assert!(
        !theirs.wants_rekey_on_send(late),
        "only who began renews by age"
    );
    ours.sealer.counter = REKEY_AFTER_MESSAGES;
    assert!(ours.wants_rekey_on_send(ours.created));
    assert!(ours.is_usable(ours.created));
}

#[test]
fn the_wire_format_is_the_published_one() {
    let (mut ours, _) = pair();
    let mut buffer = [0xee; 80];
    buffer[16..36].fill(0x77);
    ours.sealer.counter = 0x0102_0304;
    let range = ours.sealer.seal(&mut buffer, 16..36, 1420).unwrap();
    assert_eq!(range, 0..16 + 32 + 16);
    assert_eq!(
        buffer[..16],
        [4, 0, 0, 0, 20, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]
    );
    assert_eq!(buffer[64..], [0xee; 16], "nothing beyond is touched");
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(bytes in prop::collection::vec(any::<u8>(), 0..1500), mtu in 0usize..1600) {
        let (mut ours, mut theirs) = pair();
        let mut buffer = [vec![0; 16], bytes.clone(), vec![0; 31]].concat();
        let range = ours.sealer.seal(&mut buffer, 16..16 + bytes.len(), mtu).unwrap();
        let datagram = &mut buffer[range];
        let opened = theirs.opener.open(datagram).unwrap();
        prop_assert_eq!(&datagram[opened.start..opened.start + bytes.len()], &bytes[..]);
        let padding = &datagram[opened.start + bytes.len()..opened.end];
        prop_assert!(padding.len() < 16 && padding.iter().all(|byte| *byte == 0));
        prop_assert!(opened.len() <= mtu.max(bytes.len()));
    }
}
