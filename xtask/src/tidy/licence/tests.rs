use super::*;

#[test]
fn an_expression_holds_if_a_choice_of_it_is_allowed() {
    for expression in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "ISC AND (Apache-2.0 OR GPL-2.0)",
        "GPL-3.0 AND MIT OR ISC",
    ] {
        assert!(is_allowed(expression), "{expression}");
    }
}

#[test]
fn an_expression_that_demands_another_licence_is_refused() {
    for expression in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MPL-2.0",
        "(MIT OR Apache-2.0) AND GPL-3.0",
        "(MIT",
        "MIT OR",
        "MIT Apache-2.0",
        "MIT WITH",
    ] {
        assert!(!is_allowed(expression), "{expression}");
    }
}
