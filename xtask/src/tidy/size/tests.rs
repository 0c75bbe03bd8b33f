use super::*;

fn check(text: &str) -> Vec<String> {
    super::check(&[Source::new("a.rs".to_owned(), text)])
}

#[test]
fn a_long_function_is_listed_and_a_short_one_is_not() {
    let long = format!(
        "\nfn b(x: fn(u8) -> u8) {{\n{}}}",
        "    {}\n".repeat(FUNCTION_LINES)
    );
    assert_eq!(
        check(&long),
        [format!("a.rs:2: `b` has {} lines", FUNCTION_LINES + 2)]
    );
    assert_eq!(check("trait A {\n    fn a();\n    fn b() {}\n}"), [""; 0]);
}

#[test]
fn a_long_file_is_listed() {
    assert_eq!(check(&"\n".repeat(FILE_LINES)), [""; 0]);
    assert_eq!(
        check(&"\n".repeat(FILE_LINES + 1)),
        [format!("a.rs has {} lines", FILE_LINES + 1)]
    );
}
