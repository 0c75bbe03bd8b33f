use serde_json::json;

use super::*;

#[test]
fn blocks_lists_objects_and_comments_are_read() {
    let text = r#"
        # a comment
        name = "x" // another
        path "secret/*" { /* and
            one more */
            capabilities = ["read", "list",]
            allowed_parameters = { "a" = [1, "b"], c = [] }
        }
    "#;
    let items = parse(text).unwrap();
    assert_eq!(items[0].value, json!("x"));
    assert_eq!(
        (items[1].line, items[1].labels[0].as_str()),
        (4, "secret/*")
    );
    let expected = json!({
        "capabilities": ["read", "list"],
        "allowed_parameters": { "a": [1, "b"], "c": [] },
    });
    assert_eq!(items[1].value, expected);
}

#[test]
fn errors_name_their_line() {
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text:?}");
    }
    check("a = 1\na = 2", "line 2: `a` is set twice");
    check("a = \"x", "line 1: string has no end");
    check("\n\na ?", "line 3: unexpected character");
    check("path \"x\" {", "line 1: expected `}`");
    check("a = yes", "line 1: expected a value");
    check("}", "line 1: expected a name");
    check(&"a = [".repeat(3), "line 1: expected a value");
    check(
        &format!("a = {}", "[".repeat(100)),
        "line 1: nested too deeply",
    );
}

#[test]
fn no_damage_makes_the_parser_panic() {
    let text = "path \"a/*\" { capabilities = [\"read\"] } # c\n/* x */ b = { c = -1.5 }";
    for cut in 0..text.len() {
        let _ = parse(&text[..cut]);
        for with in ['{', '}', '[', '"', '\\', '=', '-', '\u{fffd}'] {
            let damaged = format!("{}{with}{}", &text[..cut], &text[cut..]);
            let _ = parse(&damaged);
        }
    }
}
