use super::*;

fn check(text: &str, expect: bool) {
    assert_eq!(text.parse::<NodeName>().is_ok(), expect, "{text:?}");
}

#[test]
fn only_dns_labels_in_lower_case_are_names() {
    check("atlas", true);
    check("a", true);
    check("node-7", true);
    check(&"a".repeat(63), true);
    check(&"a".repeat(64), false);
    check("", false);
    check("-a", false);
    check("a-", false);
    check("Atlas", false);
    check("a.b", false);
    check("a b", false);
    check("ä", false);
}
