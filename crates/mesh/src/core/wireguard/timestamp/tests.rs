use super::*;

#[test]
fn labels_carry_the_published_offset() {
    let label = Tai64N::at(UnixTime::from_millis(1_000));
    assert_eq!(
        label.as_bytes(),
        &[0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 0]
    );
}

#[test]
fn labels_never_tell_more_than_sixteen_milliseconds() {
    for ms in 0..2_000 {
        let label = Tai64N::at(UnixTime::from_millis(1_790_000_000_000 + ms));
        assert_eq!(label.parts().1 % GRAIN_NS, 0);
    }
}

#[test]
fn the_next_label_is_later_and_still_a_valid_time() {
    let mut label = Tai64N::at(UnixTime::from_millis(1_790_000_000_000));
    for _ in 0..200 {
        let next = label.next();
        assert!(label < next);
        assert!(next.parts().1 < SECOND_NS);
        label = next;
    }
    assert!(
        label.parts().0 == BASE + 1_790_000_003,
        "200 grains are 3.3 seconds"
    );
    let last = Tai64N::from_bytes([0xff; 12]);
    assert_eq!(last.next().parts().0, u64::MAX);
}
