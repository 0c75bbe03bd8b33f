use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn stamps_may_come_late_but_not_twice() {
    let mut window = Window::default();
    for (stamp, expect) in [
        (1000, true),
        (1000, false),
        (1005, true),
        (1001, true),
        (1001, false),
        (1005 - 127, true),
        (1005 - 128, false),
        (u64::MAX, true),
        (1006, false),
        (u64::MAX, false),
        (u64::MAX - 127, true),
    ] {
        assert_eq!(window.accept(stamp), expect, "{stamp}");
    }
}

proptest! {
    #[test]
    fn no_stamp_is_taken_twice(stamps in proptest::collection::vec(0u64..400, 0..400)) {
        let mut window = Window::default();
        let mut taken = BTreeSet::new();
        for stamp in stamps {
            if window.accept(stamp) {
                prop_assert!(taken.insert(stamp));
            }
        }
    }
}
