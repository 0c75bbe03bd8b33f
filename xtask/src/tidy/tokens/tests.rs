use super::*;

fn check(text: &str, expected: &[&str]) {
    let tokens = split(text);
    assert_eq!(
        tokens
            .iter()
            .map(|token| token.text.as_str())
            .collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn comments_and_strings_hold_no_tokens() {
    check("a // b\nc", &["a", "c"]);
    check("a /* b /* c */ d */ e", &["a", "e"]);
    check(r#"a "b \" c" d"#, &["a", "d"]);
    check(r##"a r#"b " c"# br"d" b"e" c"f" g"##, &["a", "g"]);
}

#[test]
fn characters_and_lifetimes_are_told_apart() {
    check("'a' b", &["b"]);
    check(r"'\'' b '\u{1f}' c", &["b", "c"]);
    check(
        "fn a<'b>(c: &'b str)",
        &["fn", "a", "<", ">", "(", "c", ":", "&", "str", ")"],
    );
    check("b'\"' d", &["d"]);
}

#[test]
fn a_path_is_words_and_double_colons() {
    check(
        "std::fs::read(x)",
        &["std", "::", "fs", "::", "read", "(", "x", ")"],
    );
}

#[test]
fn lines_are_counted_through_strings_and_comments() {
    let tokens = split("a\n\"b\nc\" /* d\n */ e");
    assert_eq!(tokens.last().map(|token| token.line), Some(4));
}
