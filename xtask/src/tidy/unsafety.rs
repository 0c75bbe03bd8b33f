//! `unsafe` lives in one crate.

use super::Finding;
use super::source::Source;

/// The crate that may be unsafe.
const AREA: &str = "linux";
/// The entry that libFuzzer calls is one by its name, which its macro makes: `#[unsafe(no_mangle)]`.
const FUZZER: &str = "fuzz/src/main.rs";

const FORBID: [&str; 8] = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];

/// Returns where `unsafe` stands elsewhere, and the crate roots that do not forbid it.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.area() != Some(AREA)) {
        for line in source.lines_of(&["unsafe"]) {
            let what = format!("`unsafe` belongs into crate `{AREA}`");
            findings.push(Finding::at(source, line, what));
        }
        let is_root = is_root(&source.path) && source.path != FUZZER;
        if is_root && source.lines_of(&FORBID).is_empty() {
            let what = format!("a crate's root begins with `{}`", FORBID.concat());
            findings.push(Finding::new(&source.path, what));
        }
    }
    findings
}

fn is_root(path: &str) -> bool {
    ["/src/lib.rs", "/src/main.rs"]
        .iter()
        .any(|root| path.ends_with(root))
}

#[cfg(test)]
mod tests;
