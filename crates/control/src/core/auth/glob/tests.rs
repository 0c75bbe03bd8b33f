use super::*;

#[test]
fn a_star_stands_for_anything_and_the_rest_for_itself() {
    for (pattern, text, expect) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "anything", true),
        ("a", "a", true),
        ("a", "A", false),
        ("*.example", "ci.example", true),
        ("*.example", "ci.example.evil", false),
        ("ci.*", "ci.example", true),
        ("ci.*", "evil-ci.example", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        // What stands before and after a star does not overlap.
        ("aba*aba", "aba", false),
        ("aba*aba", "ababa", false),
        ("aba*aba", "abaaba", true),
        ("a**b", "ab", true),
        ("a?c", "abc", false),
        ("[ab]", "a", false),
    ] {
        assert_eq!(is_match(pattern, text), expect, "{pattern:?} on {text:?}");
    }
}

#[test]
fn no_patterns_admit_everything_and_patterns_only_what_fits_one() {
    let patterns = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    assert!(admits(&[], []));
    assert!(!admits(&patterns(&["a"]), []));
    assert!(admits(&patterns(&["a", "b*"]), ["x", "bc"]));
    assert!(!admits(&patterns(&["a", "b*"]), ["x", "cb"]));
}

#[test]
fn a_pattern_of_many_stars_is_judged_in_no_time() {
    let pattern = "a*".repeat(2_000) + "b";
    assert!(!is_match(&pattern, &"a".repeat(100_000)));
}
