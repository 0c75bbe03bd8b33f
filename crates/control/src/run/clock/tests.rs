use super::*;

const T0: u64 = 1_795_000_000_000;
const DAY: u64 = 86_400_000;

fn ms(millis: u64) -> UnixTime {
    UnixTime::from_millis(millis)
}

#[test]
fn a_server_does_not_start_with_a_clock_that_is_a_year_ahead_unless_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let year_ahead = ms(T0 + 365 * DAY);
    let refused = check(Some(ms(T0)), year_ahead, folder.path()).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("2027-11-18T"), "{said}");
    assert!(said.contains("clock-is-right"), "{said}");

    std::fs::write(folder.path().join(IS_RIGHT), "").unwrap();
    check(Some(ms(T0)), year_ahead, folder.path()).unwrap();
    // The word was for one start.
    assert!(check(Some(ms(T0)), year_ahead, folder.path()).is_err());
}

#[test]
fn a_server_starts_with_a_clock_that_is_behind_or_a_month_ahead_and_for_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    for wall in [0, T0 - DAY, T0, T0 + 30 * DAY] {
        check(Some(ms(T0)), ms(wall), folder.path()).unwrap();
    }
    check(None, ms(T0 + 365 * DAY), folder.path()).unwrap();
}
