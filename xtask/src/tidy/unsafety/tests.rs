use super::*;

fn check(path: &str, text: &str) -> Vec<String> {
    let sources = [Source::new(path.to_owned(), text)];
    super::check(&sources)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn unsafe_code_is_refused_outside_its_crate() {
    let text = "fn a() {\n    unsafe { b() }\n}";
    assert_eq!(
        check("crates/mesh/src/run/lane.rs", text),
        ["crates/mesh/src/run/lane.rs:2: `unsafe` belongs into crate `linux`"]
    );
    assert_eq!(check("crates/linux/src/tun.rs", text), [""; 0]);
    assert_eq!(check("crates/mesh/src/run/lane.rs", "// unsafe"), [""; 0]);
}

#[test]
fn each_root_but_that_crates_forbids_unsafe_code() {
    assert_eq!(
        check("crates/mesh/src/lib.rs", "#![forbid(unsafe_code)]"),
        [""; 0]
    );
    assert_eq!(check("crates/mesh/src/lib.rs", "mod run;").len(), 1);
    assert_eq!(check("examples/hello/src/main.rs", "fn main() {}").len(), 1);
    assert_eq!(check("crates/linux/src/lib.rs", "mod tun;"), [""; 0]);
    assert_eq!(check("crates/mesh/src/run.rs", "mod lane;"), [""; 0]);
}

#[test]
fn the_fuzzers_program_need_not_forbid_what_its_macro_makes_but_holds_none_itself() {
    assert_eq!(check("fuzz/src/main.rs", "mod run;"), [""; 0]);
    assert_eq!(check("fuzz/src/main.rs", "unsafe { b() }").len(), 1);
}
