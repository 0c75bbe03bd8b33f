use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn the_window_is_at_least_two_thousand_messages_wide() {
    let mut window = ReplayWindow::new();
    assert!(window.accept(10_000));
    assert!(window.accept(10_000 - (WINDOW - 1)));
    assert!(!window.accept(10_000 - WINDOW));
    const { assert!(WINDOW >= 2048) }
}

#[test]
fn the_first_counter_is_accepted_once() {
    let mut window = ReplayWindow::new();
    assert!(window.accept(0));
    assert!(!window.accept(0));
    assert!(window.accept(1));
}

#[test]
fn a_leap_forgets_everything_before_it() {
    let mut window = ReplayWindow::new();
    for counter in 0..100 {
        assert!(window.accept(counter));
    }
    assert!(window.accept(1 << 40));
    for counter in 0..100 {
        assert!(!window.accept(counter));
    }
    assert!(window.accept((1 << 40) - 1));
    assert!(window.accept((1 << 40) - (WINDOW - 1)));
}

proptest! {
    #[test]
    fn the_window_agrees_with_a_set(
        steps in prop::collection::vec((0u64..3, 0u64..20_000), 1..400),
    ) {
        let mut window = ReplayWindow::new();
        let mut seen = BTreeSet::new();
        let mut highest: Option<u64> = None;
        for (kind, distance) in steps {
            let around = highest.unwrap_or(0);
            let counter = match kind {
                0 => around + distance % 70,
                1 => around.saturating_sub(distance),
                _ => around + distance,
            };
            let in_window = highest.is_none_or(|top| counter > top || top - counter < WINDOW);
            let expected = in_window && seen.insert(counter);
            prop_assert_eq!(window.would_accept(counter), expected);
            prop_assert_eq!(window.accept(counter), expected);
            if expected {
                highest = highest.max(Some(counter));
            }
        }
    }
}
