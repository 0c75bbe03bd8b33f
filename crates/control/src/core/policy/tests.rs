use super::*;

#[test]
fn hcl_and_json_say_the_same() {
    let hcl = Policy::parse("path \"/a/*\" { capabilities = [\"read\", \"list\"] }").unwrap();
    let json = r#"{"path":{"a/*":{"capabilities":["list","read"]}}}"#;
    assert_eq!(hcl, Policy::parse(json).unwrap());
    let old = Policy::parse("path \"a/*\" { policy = \"read\" }").unwrap();
    assert_eq!(hcl, old);
}

#[test]
fn what_a_policy_does_not_know_is_an_error() {
    fn check(text: &str, expected: &str) {
        let error = Policy::parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("failed to parse policy: {expected}"));
    }
    check(
        "path \"a\" { capabilities = [\"fly\"] }",
        "path \"a\": invalid capability \"fly\"",
    );
    check(
        "path \"a\" { capability = [\"read\"] }",
        "path \"a\": invalid key \"capability\"",
    );
    check("paths \"a\" { }", "line 1: invalid key \"paths\"");
    check("{", "not valid JSON");
    check(
        "path \"+*\" { policy = \"read\" }",
        "path \"+*\": invalid use of wildcards ('+*' is forbidden)",
    );
    check(
        "path \"a\" { policy = \"read\" policy = \"write\" }",
        "line 1: `policy` is set twice",
    );
}

#[test]
fn a_template_cannot_widen_its_pattern() {
    let policy = Policy::parse("path \"mesh/nodes/{{node.id}}\" { policy = \"read\" }").unwrap();
    let filled = |value: &str| {
        policy
            .fill(|name| (name == "node.id").then_some(value))
            .rules
    };
    assert_eq!(filled("n-1")[0].0, "mesh/nodes/n-1");
    for wide in ["*", "+", "a/b", ""] {
        assert!(filled(wide).is_empty(), "{wide:?}");
    }
    assert!(policy.fill(|_| None).rules.is_empty());
}

#[test]
fn the_built_in_policies_parse() {
    for text in [builtin::DEFAULT, builtin::NODE, builtin::CONTROLLER] {
        assert!(!Policy::parse(text).unwrap().rules.is_empty());
    }
}
