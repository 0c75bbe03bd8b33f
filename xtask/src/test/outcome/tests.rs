use super::*;

fn read(text: &str, is_success: bool) -> (Outcome, Vec<String>) {
    let mut reader = Libtest::default();
    let shown = text
        .lines()
        .filter(|line| reader.line(line))
        .map(str::to_owned)
        .collect();
    (reader.finish(is_success), shown)
}

const GOOD: &str = "
running 3 tests
...
successes:

---- a::needs_root stdout ----
skipped: root is missing
skipped: and so is all else

---- a::talks stdout ----
hello, I was skipped: not really

successes:
    a::needs_root
    a::talks
    a::quiet

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

#[test]
fn a_test_that_skipped_itself_is_not_counted_as_passed() {
    let (outcome, _) = read(GOOD, true);
    assert_eq!(outcome.to_string(), "2 passed, 0 failed, 2 skipped");
    assert!(outcome.is_good());
    assert_eq!(
        outcome.skips,
        [
            "a::needs_root: root is missing",
            "a::needs_root: and so is all else"
        ]
    );
}

#[test]
fn what_passing_tests_printed_is_not_shown() {
    let (_, shown) = read(GOOD, true);
    assert_eq!(shown[..3], ["", "running 3 tests", "..."]);
    assert!(shown.iter().all(|line| !line.contains("hello")));
    assert!(shown.iter().any(|line| line.starts_with("test result: ")));
}

#[test]
fn what_failing_tests_printed_is_shown_and_they_are_named() {
    let text = "
successes:

successes:
    a::fine

failures:

---- a::broken stdout ----
thread panicked

failures:
    a::broken

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
";
    let (outcome, shown) = read(text, false);
    assert_eq!(outcome.to_string(), "1 passed, 1 failed, 0 skipped");
    assert_eq!(outcome.failures, ["a::broken"]);
    assert!(shown.contains(&"thread panicked".to_owned()));
}

#[test]
fn several_binaries_of_one_runner_are_summed() {
    let (outcome, _) = read(&format!("{GOOD}{GOOD}"), true);
    assert_eq!(outcome.to_string(), "4 passed, 0 failed, 4 skipped");
}

#[test]
fn a_runner_that_dies_without_a_failed_test_is_a_failure() {
    let (outcome, _) = read("", false);
    assert_eq!(outcome.to_string(), "0 passed, 1 failed, 0 skipped");
    assert!(!outcome.is_good());
}

#[test]
fn the_report_of_nextest_is_read_as_well() {
    let text = "
        PASS [   0.006s] bastide-api ids::tests::an_id_is_read_back
        FAIL [   0.002s] bastide-mesh core::tests::it_holds
    skipped: root is missing
     Summary [   3.122s] 6 tests run: 5 passed (1 slow), 1 failed, 3 skipped
        FAIL [   0.002s] bastide-mesh core::tests::it_holds
";
    let mut reader = Nextest::default();
    assert!(text.lines().all(|line| reader.line(line)));
    let outcome = reader.finish(false);
    assert_eq!(outcome.to_string(), "4 passed, 1 failed, 1 skipped");
    assert_eq!(outcome.failures, ["bastide-mesh core::tests::it_holds"]);
}
