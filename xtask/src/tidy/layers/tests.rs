use super::*;

const FILE: &str = r#"
tests = ["lab"]
[layers]
api = []
lab = ["api"]
mesh = ["api"]
control = ["api"]
[guarded]
snow = ["mesh"]
"#;

fn check(from: &str, to: Target, is_for_tests: bool) -> Vec<String> {
    let edges = [Edge {
        from: from.to_owned(),
        to,
        is_for_tests,
    }];
    let findings = Layers::parse(FILE).unwrap().check(&edges);
    findings.iter().map(ToString::to_string).collect()
}

fn own(name: &str) -> Target {
    Target::Own(name.to_owned())
}

fn foreign(name: &str) -> Target {
    Target::Foreign(name.to_owned())
}

#[test]
fn an_edge_that_is_not_in_the_file_is_refused() {
    assert!(check("mesh", own("api"), false).is_empty());
    assert_eq!(
        check("mesh", own("control"), false),
        ["crates/mesh/Cargo.toml: `mesh` may not use `control`"]
    );
    assert_eq!(
        check("new", own("api"), false),
        ["layers.toml: crate `new` has no line"]
    );
}

#[test]
fn tests_may_use_what_is_for_tests_and_programs_may_not() {
    assert!(check("mesh", own("lab"), true).is_empty());
    assert_eq!(check("mesh", own("lab"), false).len(), 1);
    assert_eq!(check("mesh", own("control"), true).len(), 1);
}

#[test]
fn a_guarded_package_is_used_only_where_the_file_says() {
    assert!(check("mesh", foreign("snow"), false).is_empty());
    assert!(check("control", foreign("serde"), false).is_empty());
    assert_eq!(
        check("control", foreign("snow"), false),
        ["crates/control/Cargo.toml: `control` may not use `snow`, which is guarded"]
    );
    assert!(check("control", foreign("snow"), true).is_empty());
}

#[test]
fn a_cycle_in_the_file_is_found() {
    let text = "tests = []\n[layers]\na = [\"b\"]\nb = [\"c\"]\nc = [\"b\"]\n[guarded]\n";
    let findings = Layers::parse(text).unwrap().check(&[]);
    let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "layers.toml: `b` may use itself",
            "layers.toml: `c` may use itself"
        ]
    );
}

#[test]
fn the_file_of_this_workspace_can_be_read() {
    let text = include_str!("../../../../layers.toml");
    assert_eq!(Layers::parse(text).unwrap().check(&[]), []);
}
