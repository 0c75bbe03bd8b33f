use super::*;

const MODULE: &str = r#"
/// Each target's name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("dns", dns), ("resolv_conf", resolv_conf)];
fn dns(bytes: &[u8]) { "x"; }
"#;
const LIST: &str = "static CRATES: &[T] = &[bastide_names::fuzz::TARGETS];";

fn check_with(program: &str, cases: &[(&str, u64)]) -> Vec<String> {
    let modules = [("crates/names/src/fuzz.rs".to_owned(), MODULE.to_owned())];
    let cases: Vec<_> = cases
        .iter()
        .map(|&(path, length)| (format!("fuzz/corpus/{path}"), length))
        .collect();
    let found = check(&modules, program, &cases);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn targets_with_cases_that_are_run_are_in_order() {
    let cases = [("dns/a", 3), ("dns/b", 3), ("resolv_conf/c", 3)];
    assert_eq!(check_with(LIST, &cases), [""; 0]);
}

#[test]
fn what_is_missing_left_over_or_grown_is_told() {
    let found = check_with("", &[("dns/a", 1 << 20), ("old/b", 1)]);
    let told = |words: &str| found.iter().any(|it| it.contains(words));
    assert!(told("target `resolv_conf` has no corpus"), "{found:?}");
    assert!(told("are not among those"), "{found:?}");
    assert!(
        told("fuzz/corpus/old: a corpus without a target"),
        "{found:?}"
    );
    assert!(told("bytes of cases"), "{found:?}");
    assert_eq!(found.len(), 4);
}
