//! Cores decide; they do not touch the world.

use std::collections::BTreeSet;

use super::Finding;
use super::source::Source;

/// What no core may name: runs of tokens, and what they would bring in.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["Instant", "::", "now"], "a clock"),
    (&["SystemTime"], "a clock"),
    (&["tokio"], "a runtime"),
    (&["UdpSocket"], "a socket"),
    (&["TcpStream"], "a socket"),
    (&["TcpListener"], "a socket"),
    (&["UnixStream"], "a socket"),
    (&["UnixListener"], "a socket"),
    (&["UnixDatagram"], "a socket"),
    (&["thread", "::"], "a thread"),
    (
        &["HashMap"],
        "an order that changes from run to run (use `BTreeMap`)",
    ),
    (
        &["HashSet"],
        "an order that changes from run to run (use `BTreeSet`)",
    ),
    (&["rand", "::"], "randomness"),
    (&["SystemRandom"], "randomness"),
    (&["getrandom"], "randomness"),
    (&["OsRng"], "randomness"),
];

/// The modules of the standard library that no core may use.
const FORBIDDEN_STD: [(&str, &str); 4] = [
    ("fs", "files"),
    ("env", "the environment"),
    ("thread", "threads"),
    ("process", "processes"),
];

/// Returns where cores touch the world.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let for_tests: BTreeSet<(&str, &str)> = sources
        .iter()
        .flat_map(|source| {
            source
                .test_modules()
                .map(|name| (folder(&source.path), name))
        })
        .collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| is_core(&source.path)) {
        if is_for_tests(&source.path, &for_tests) {
            continue;
        }
        for (pattern, what) in FORBIDDEN {
            for line in source.lines_of(pattern) {
                let what = format!("a core may not have {what}: `{}`", pattern.concat());
                findings.push(Finding::at(source, line, what));
            }
        }
        findings.extend(uses_of_std(source));
    }
    findings
}

/// Returns whether a path lies in the core of a crate.
fn is_core(path: &str) -> bool {
    let Some((_, within)) = path
        .strip_prefix("crates/")
        .and_then(|rest| rest.split_once("/src/"))
    else {
        return false;
    };
    within.starts_with("core/") || within == "core.rs"
}

/// Returns the folder in which a file's own modules lie.
fn folder(path: &str) -> &str {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    for root in ["/mod", "/lib", "/main"] {
        if let Some(folder) = stem.strip_suffix(root) {
            return folder;
        }
    }
    stem
}

fn is_for_tests(path: &str, for_tests: &BTreeSet<(&str, &str)>) -> bool {
    let stem = folder(path);
    let mut ends = stem
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    ends.any(|end| {
        let (parent, name) = stem[..end].rsplit_once('/').unwrap_or(("", &stem[..end]));
        name == "tests" || for_tests.contains(&(parent, name))
    })
}

/// Finds `std::fs` as well as `use std::{fs, ...}`.
fn uses_of_std(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tokens = source.tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        if token.text != "std" || tokens.next_if(|next| next.text == "::").is_none() {
            continue;
        }
        let Some(first) = tokens.next() else { break };
        let mut modules = vec![first];
        if first.text == "{" {
            // Names at the first depth of the braces, each after the brace or a comma.
            let (mut depth, mut is_name) = (1, true);
            modules.clear();
            while let Some(next) = tokens.next_if(|_| 0 < depth) {
                match next.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," if depth == 1 => is_name = true,
                    _ if depth == 1 && is_name => {
                        modules.push(next);
                        is_name = false;
                    }
                    _ => {}
                }
            }
        }
        for module in modules {
            if let Some((name, what)) = FORBIDDEN_STD.iter().find(|(name, _)| *name == module.text)
            {
                let what = format!("a core may not touch {what}: `std::{name}`");
                findings.push(Finding::at(source, module.line, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests;
