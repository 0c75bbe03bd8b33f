use std::fmt::Write;

use super::*;

fn refused(text: &str) -> (usize, String) {
    let error = read(text).unwrap_err();
    (error.at.line, error.what)
}

/// Prints a tree as `{key@line: value, …}`.
fn print(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.clone(),
        Value::List(nodes) => format!(
            "[{}]",
            nodes.iter().map(print).collect::<Vec<_>>().join(", ")
        ),
        Value::Map(entries) => {
            let entry = |e: &Entry| format!("{}@{}: {}", e.key, e.at.line, print(&e.value));
            format!(
                "{{{}}}",
                entries.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

fn printed(text: &str) -> String {
    print(&read(text).unwrap().unwrap())
}

#[test]
fn keys_remember_their_lines() {
    assert_eq!(
        printed("a: 1\n\nb:\n  - c: x\n"),
        "{a@1: 1, b@3: [{c@4: x}]}"
    );
    assert!(read("").unwrap().is_none());
}

#[test]
fn aliases_and_merges_are_expanded() {
    assert_eq!(
        printed("a: &x [1, 2]\nb: *x\n"),
        "{a@1: [1, 2], b@2: [1, 2]}"
    );
    assert_eq!(
        printed("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n"),
        "{a@1: {k@1: 1, l@1: 2}, b@2: {k@1: 1, l@4: 3}}"
    );
    assert_eq!(
        printed("a: &x {k: 1}\nb:\n  k: 2\n  <<: [*x]\n"),
        "{a@1: {k@1: 1}, b@2: {k@3: 2}}"
    );
}

#[test]
fn what_is_not_a_small_tree_is_refused_with_its_line() {
    assert_eq!(
        refused("a: 1\nb: 2\na: 3\n"),
        (3, "key `a` was already given at line 1".to_owned())
    );
    assert_eq!(refused("a: 1\n---\nb: 2\n").0, 2);
    assert_eq!(refused("a: !!binary x\n").0, 1);
    assert_eq!(refused("a: 1\n[b]: 2\n").0, 2);
    assert_eq!(refused("a: 1\nb: [\n").0, 2);
    assert_eq!(refused("a: *nowhere\n").0, 1);
    assert_eq!(refused("a:\n  <<: 1\n").0, 2);
    assert_eq!(refused("a: &x [*x]\n").0, 1);
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    for level in 1..10 {
        let line = vec![format!("*l{}", level - 1); 10].join(", ");
        writeln!(text, "l{level}: &l{level} [{line}]").unwrap();
    }
    assert!(refused(&text).1.contains("more than 50000 nodes"));
}

#[test]
fn deep_nesting_is_refused_before_it_fills_the_stack() {
    assert!(
        refused(&format!("{}{}", "[".repeat(200), "]".repeat(200)))
            .1
            .contains("deeper than 32")
    );
    let block: Vec<String> = (0..100).map(|depth| " ".repeat(depth) + "a:\n").collect();
    assert!(refused(&block.concat()).1.contains("deeper than 32"));
}
