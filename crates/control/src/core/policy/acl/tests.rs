use serde_json::json;

use super::*;

fn acl(texts: &[&str]) -> Acl {
    let policies: Vec<Policy> = texts
        .iter()
        .map(|text| Policy::parse(text).unwrap())
        .collect();
    Acl::new(&policies)
}

fn path(text: &str) -> ApiPath {
    ApiPath::parse(text).unwrap()
}

fn allows(acl: &Acl, operation: Operation, at: &str, data: &Value) -> bool {
    let at = if operation == Operation::List {
        path(at).into_folder()
    } else {
        path(at)
    };
    let question = Question {
        operation,
        path: &at,
        folded: None,
        data: data.as_object().unwrap(),
        wrap: None,
        sudo: false,
    };
    acl.authorise(&question).is_some()
}

fn reads(acl: &Acl, at: &str) -> bool {
    allows(acl, Operation::Read, at, &json!({}))
}

#[test]
fn nothing_is_allowed_that_no_rule_names() {
    let acl = acl(&["path \"a/b\" { capabilities = [\"read\"] }"]);
    assert!(reads(&acl, "a/b"));
    for other in ["a", "a/b/c", "a/bb", "b"] {
        assert!(!reads(&acl, other), "{other}");
    }
    assert!(!allows(&acl, Operation::Update, "a/b", &json!({})));
}

#[test]
fn the_most_specific_pattern_decides_alone() {
    let acl = acl(&[r#"
        path "secret/*" { capabilities = ["read"] }
        path "secret/app/*" { capabilities = ["deny"] }
        path "secret/app/public" { capabilities = ["read"] }
        path "secret/+/team" { capabilities = ["deny"] }
        path "secret/x/+" { capabilities = ["read"] }
    "#]);
    assert!(reads(&acl, "secret/other"));
    assert!(!reads(&acl, "secret/app/db"));
    assert!(
        reads(&acl, "secret/app/public"),
        "exact beats the longer prefix"
    );
    assert!(
        !reads(&acl, "secret/y/team"),
        "a later first wildcard beats an earlier"
    );
    assert!(
        reads(&acl, "secret/x/team"),
        "`+` later in the path beats `+` earlier"
    );
}

#[test]
fn the_same_pattern_in_two_policies_is_united_and_deny_wins() {
    let read = "path \"a\" { capabilities = [\"read\"] }";
    let update = "path \"a\" { capabilities = [\"update\"] }";
    let deny = "path \"a\" { capabilities = [\"deny\"] }";
    let both = acl(&[read, update]);
    assert!(reads(&both, "a") && allows(&both, Operation::Update, "a", &json!({})));
    assert!(!reads(&acl(&[read, deny]), "a"));
    assert!(!reads(&acl(&[deny, read]), "a"));
}

#[test]
fn a_list_is_judged_with_and_without_its_slash() {
    let list = |text: &str, at: &str| allows(&acl(&[text]), Operation::List, at, &json!({}));
    assert!(list("path \"a/b\" { capabilities = [\"list\"] }", "a/b"));
    assert!(list("path \"a/b/\" { capabilities = [\"list\"] }", "a/b"));
    assert!(list("path \"a/*\" { capabilities = [\"list\"] }", "a"));
    assert!(list("path \"a/+\" { capabilities = [\"list\"] }", "a/b"));
    assert!(!list("path \"a/b\" { capabilities = [\"read\"] }", "a/b"));
    // A more specific deny is not skipped because the slash was cut first.
    let deny = r#"
        path "a/*" { capabilities = ["list"] }
        path "a/b/*" { capabilities = ["deny"] }
    "#;
    assert!(!list(deny, "a/b"));
}

#[test]
fn a_plus_is_one_segment_and_a_star_is_only_at_the_end() {
    let acl = acl(&[r#"
        path "a/+/c" { capabilities = ["read"] }
        path "b/x*" { capabilities = ["read"] }
        path "c/*/d" { capabilities = ["read"] }
        path "e/a+b" { capabilities = ["read"] }
    "#]);
    assert!(reads(&acl, "a/b/c"));
    assert!(!reads(&acl, "a/b/b/c") && !reads(&acl, "a/c"));
    assert!(reads(&acl, "b/x") && reads(&acl, "b/xy/z") && !reads(&acl, "b/y"));
    assert!(!reads(&acl, "c/1/d"));
    assert!(reads(&acl, "c/*/d"), "a star inside is a star");
    assert!(reads(&acl, "e/a+b") && !reads(&acl, "e/axb"));
}

#[test]
fn parameters_are_required_denied_and_allowed() {
    let acl = acl(&[r#"path "a" {
        capabilities = ["update"]
        required_parameters = ["name"]
        denied_parameters = { "bad" = [], "kind" = ["root*"] }
        allowed_parameters = { "name" = [], "kind" = ["a*", "root-x"] }
    }"#]);
    let check = |data: Value, expected: bool| {
        assert_eq!(
            allows(&acl, Operation::Update, "a", &data),
            expected,
            "{data}"
        );
    };
    check(json!({ "name": "x" }), true);
    check(json!({}), false);
    check(json!({ "name": "x", "bad": 1 }), false);
    check(json!({ "name": "x", "BAD": 1 }), false);
    check(json!({ "name": "x", "kind": "abc" }), true);
    check(json!({ "name": "x", "kind": "root-x" }), false);
    check(json!({ "name": "x", "other": 1 }), false);
}

#[test]
fn a_wrapping_limit_of_zero_is_none() {
    let asks = |limits: &str, wrap: Option<u64>| {
        let text = format!("path \"a\" {{ capabilities = [\"read\"]\n{limits} }}");
        let question = Question {
            operation: Operation::Read,
            path: &path("a"),
            folded: None,
            data: &Map::new(),
            wrap: wrap.map(Duration::from_secs),
            sudo: false,
        };
        acl(&[&text]).authorise(&question).is_some()
    };
    for zero in [
        "min_wrapping_ttl = \"0s\"",
        "max_wrapping_ttl = 0",
        "min_wrapping_ttl = 0\nmax_wrapping_ttl = \"0\"",
    ] {
        assert!(asks(zero, None) && asks(zero, Some(60)), "{zero}");
    }
    let one = "min_wrapping_ttl = \"1s\"";
    assert!(!asks(one, None) && asks(one, Some(1)), "the control");
    let both = "min_wrapping_ttl = \"5s\"\nmax_wrapping_ttl = 0";
    assert!(!asks(both, Some(4)) && asks(both, Some(600)));
}

#[test]
fn what_is_protected_needs_sudo_besides() {
    let ask = |text: &str| {
        let question = Question {
            operation: Operation::Update,
            path: &path("sys/auth/x"),
            folded: None,
            data: &Map::new(),
            wrap: None,
            sudo: true,
        };
        acl(&[text]).authorise(&question).is_some()
    };
    assert!(!ask("path \"sys/auth/*\" { capabilities = [\"update\"] }"));
    assert!(ask(
        "path \"sys/auth/*\" { capabilities = [\"update\", \"sudo\"] }"
    ));
}

/// The published rules, transcribed slowly: the judge of the fast evaluation.
fn reference<'r>(rules: &'r [(String, Capabilities)], at: &str) -> Option<&'r Capabilities> {
    if let Some((_, found)) = rules.iter().find(|(pattern, _)| pattern == at) {
        return Some(found);
    }
    let matching = rules.iter().filter(|(pattern, _)| {
        let star = pattern.ends_with('*');
        let wanted: Vec<&str> = pattern.trim_end_matches('*').split('/').collect();
        let given: Vec<&str> = at.split('/').collect();
        let long = if star {
            wanted.len() <= given.len()
        } else {
            wanted.len() == given.len()
        };
        (star || wanted.contains(&"+"))
            && long
            && wanted.iter().enumerate().all(|(i, part)| {
                let last = i + 1 == wanted.len();
                if star && last {
                    given[i].starts_with(part)
                } else {
                    *part == "+" || *part == given[i]
                }
            })
    });
    matching
        .reduce(|one, other| {
            let first = |p: &str| p.find(['+', '*']).unwrap_or(p.len());
            let (a, b) = (one.0.as_str(), other.0.as_str());
            let pluses = |p: &str| p.matches('+').count();
            let lower = if first(a) != first(b) {
                first(a) < first(b)
            } else if a.ends_with('*') != b.ends_with('*') {
                a.ends_with('*')
            } else if pluses(a) != pluses(b) {
                pluses(a) > pluses(b)
            } else if a.len() != b.len() {
                a.len() < b.len()
            } else {
                a < b
            };
            if lower { other } else { one }
        })
        .map(|(_, found)| found)
}

#[test]
fn evaluation_agrees_with_the_published_rules() {
    let words = ["a", "b", "+"];
    let mut patterns = Vec::new();
    for one in words {
        for two in words {
            for end in ["", "*", "/*", "/a", "/+", "/b*"] {
                patterns.push(format!("{one}/{two}{end}"));
            }
        }
    }
    patterns.retain(|pattern| !pattern.contains("+*"));
    patterns.extend(["*", "a/*", "b/*", "+", "a", "a*"].map(str::to_owned));
    let paths = [
        "a", "b", "a/a", "a/b", "b/a", "a/b/a", "a/a/b", "b/b/b", "a/ab/ba", "a/b/a/b",
    ];
    let kinds = [Capabilities::READ, Capabilities::UPDATE, Capabilities::DENY];
    let mut state = 1_u64;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..3000 {
        let mut rules: Vec<(String, Capabilities)> = Vec::new();
        for _ in 0..=next(6) {
            let pattern = patterns[next(patterns.len())].clone();
            if rules.iter().all(|(known, _)| *known != pattern) {
                rules.push((pattern, kinds[next(3)]));
            }
        }
        let policy = Policy {
            rules: rules
                .iter()
                .map(|(pattern, capabilities)| {
                    let rule = Rule {
                        capabilities: *capabilities,
                        ..Rule::default()
                    };
                    (pattern.clone(), rule)
                })
                .collect(),
        };
        let acl = Acl::new([&policy]);
        for at in paths {
            let expected = reference(&rules, at).map_or(vec!["deny"], |found| found.names());
            assert_eq!(
                acl.capabilities(&path(at), None),
                expected,
                "{at} under {rules:?}"
            );
        }
    }
}
