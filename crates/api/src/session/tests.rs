use super::*;

const KINDS: [Kind; 5] = [
    Kind::Input,
    Kind::Output,
    Kind::Errors,
    Kind::Ended,
    Kind::Size,
];

#[test]
fn a_head_is_read_as_it_was_written() {
    for kind in KINDS {
        for length in [0, 1, FRAME_BYTES_MAX] {
            assert_eq!(Kind::of_head(kind.head(length)), Some((kind, length)));
        }
    }
}

#[test]
fn a_head_of_another_kind_or_too_long_is_none() {
    assert_eq!(Kind::of_head([5, 0, 0, 0, 0, 0, 0, 1]), None);
    assert_eq!(Kind::of_head([1, 0, 0, 1, 0, 0, 0, 1]), None);
    assert_eq!(Kind::of_head([1, 0, 0, 0, 0, 1, 0, 1]), None);
    assert_eq!(Kind::of_head([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), None);
}

#[test]
fn what_is_signed_differs_with_the_cluster_and_the_text() {
    let cluster = |byte| ClusterId::from_bytes([byte; 16]);
    let one = signed_bytes(cluster(1), "a");
    assert_ne!(one, signed_bytes(cluster(2), "a"));
    assert_ne!(one, signed_bytes(cluster(1), "b"));
}
