use proptest::prelude::*;

use super::*;

#[test]
fn numbers_print_as_people_write_them() {
    assert_eq!(*print(&[]), "0");
    assert_eq!(*print(&[0, 0, 7]), "7");
    assert_eq!(*print(&[1, 0, 0, 0, 0]), "4294967296");
    assert_eq!(*print(&[0x3b, 0x9a, 0xca, 0x00]), "1000000000");
    assert_eq!(parse("1000000000").unwrap()[..], [0x3b, 0x9a, 0xca, 0x00]);
    assert!(parse("0").unwrap().is_empty());
}

#[test]
fn what_is_no_number_is_refused() {
    for text in ["", "-1", "1.5", "1e9", " 1", "0x10", "\"1\"", "null"] {
        assert_eq!(parse(text), None, "{text}");
    }
    assert!(parse(&"9".repeat(DIGITS_MAX)).is_some());
    assert_eq!(parse(&"9".repeat(DIGITS_MAX + 1)), None);
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let printed = print(&bytes);
        prop_assert_eq!(&parse(&printed).unwrap()[..], &bytes[zeros..]);
    }
}
