//! Each fuzz target is run by the fuzzer, and has a corpus that the tests replay.

use std::collections::BTreeSet;

use super::Finding;

/// Where the targets of all crates are listed.
pub const PROGRAM: &str = "fuzz/src/main.rs";
/// Most bytes of all corpora together: what is kept is small, or it is not looked at.
const BYTES_MAX: u64 = 256 << 10;

/// Returns targets without a corpus, corpora without a target, crates whose targets are not run, and
/// corpora that have grown. `modules` are the crates' `fuzz.rs` with their texts, `program` is the
/// text of the fuzzer's program, `cases` are the files below `fuzz/corpus` with their lengths.
pub fn check(modules: &[(String, String)], program: &str, cases: &[(String, u64)]) -> Vec<Finding> {
    let folders: BTreeSet<&str> = cases.iter().filter_map(|(path, _)| folder(path)).collect();
    let mut findings = Vec::new();
    let mut targets = BTreeSet::new();
    for (path, text) in modules {
        for name in names(text) {
            if !folders.contains(name) {
                let what = format!("target `{name}` has no corpus in `fuzz/corpus`");
                findings.push(Finding::new(path, what));
            }
            targets.insert(name);
        }
        let area = path.split('/').nth(1).unwrap_or_default();
        if !program.contains(&format!("bastide_{area}::fuzz::TARGETS")) {
            let what = format!("its targets are not among those of `{PROGRAM}`");
            findings.push(Finding::new(path, what));
        }
    }
    for folder in folders.difference(&targets) {
        let what = "a corpus without a target";
        findings.push(Finding::new(format!("fuzz/corpus/{folder}"), what));
    }
    let bytes: u64 = cases.iter().map(|(_, length)| length).sum();
    if BYTES_MAX < bytes {
        let what = format!("{bytes} bytes of cases: keep the smallest ones, below {BYTES_MAX}");
        findings.push(Finding::new("fuzz/corpus", what));
    }
    findings
}

/// Tells whether a file says what a crate's targets are.
pub fn is_module(path: &str) -> bool {
    path.starts_with("crates/") && path.ends_with("/src/fuzz.rs")
}

/// Returns the corpus that a file is a case of.
pub fn folder(path: &str) -> Option<&str> {
    let (folder, _) = path.strip_prefix("fuzz/corpus/")?.split_once('/')?;
    Some(folder)
}

/// Returns the names in the list `TARGETS`, which are its only strings.
fn names(text: &str) -> Vec<&str> {
    let list = text
        .split_once("pub const TARGETS")
        .and_then(|(_, rest)| rest.split_once("];"))
        .map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests;
