use super::*;

fn check(path: &str, text: &str) -> Vec<String> {
    let sources = [Source::new(path.to_owned(), text)];
    super::check(&sources)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_core_may_not_touch_the_world() {
    for text in [
        "let now = Instant::now();",
        "let now = std::time::SystemTime::now();",
        "use std::fs;",
        "use std::{collections::BTreeMap, fs::File};",
        "use std::{io,\n env};",
        "std::env::var(\"X\")",
        "std::process::exit(1)",
        "use tokio::sync::mpsc;",
        "fn a(socket: &std::net::UdpSocket) {}",
        "thread::spawn(f)",
        "use std::collections::HashMap;",
        "aws_lc_rs::rand::fill(&mut bytes)",
    ] {
        assert_ne!(
            check("crates/mesh/src/core/path.rs", text),
            [""; 0],
            "{text}"
        );
        assert_eq!(
            check("crates/mesh/src/run/path.rs", text),
            [""; 0],
            "{text}"
        );
    }
    assert_eq!(
        check("crates/mesh/src/core.rs", "\nuse std::fs;"),
        ["crates/mesh/src/core.rs:2: a core may not touch files: `std::fs`"]
    );
}

#[test]
fn a_core_may_speak_of_the_world() {
    for text in [
        "// Instant::now() is the caller's",
        "let text = \"std::fs\";",
        "fn handle(now: Instant) {}",
        "use std::{collections::{BTreeMap, BTreeSet}, fmt, net::SocketAddr};",
        "use std::time::{Duration, Instant};",
        "let operand = brand;",
    ] {
        assert_eq!(
            check("crates/mesh/src/core/path.rs", text),
            [""; 0],
            "{text}"
        );
    }
}

#[test]
fn tests_of_a_core_may_touch_the_world() {
    let text = "use std::fs;";
    assert_eq!(check("crates/mesh/src/core/path/tests.rs", text), [""; 0]);
    assert_eq!(
        check("crates/mesh/src/core/path/tests/nat.rs", text),
        [""; 0]
    );
    let declares = |attribute: &str| {
        [
            Source::new(
                "crates/mesh/src/core.rs".to_owned(),
                &format!("{attribute} mod fixture;"),
            ),
            Source::new("crates/mesh/src/core/fixture.rs".to_owned(), text),
            Source::new("crates/mesh/src/core/fixture/deep.rs".to_owned(), text),
        ]
    };
    assert_eq!(super::check(&declares("#[cfg(test)]")).len(), 0);
    assert_eq!(super::check(&declares("#[cfg(unix)]")).len(), 2);
}
