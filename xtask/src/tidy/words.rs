//! Words that do not belong into the tree: what is true on one machine only.

use super::Finding;

/// In two halves each, so that this file keeps its own rule.
const FORBIDDEN: [(&str, &str, &str); 6] = [
    ("/wo", "rk/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("/Us", "ers/", "a path of one machine"),
    ("index.crates", ".io", "a registry's host"),
    ("static.crates", ".io", "a registry's host"),
    ("proxy.golang", ".org", "a registry's host"),
];

/// Returns the lines of a file that hold such a word.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (head, tail, what) in FORBIDDEN {
            let word = [head, tail].concat();
            if line.contains(&word) {
                let place = format!("{path}:{}", at + 1);
                findings.push(Finding::new(place, format!("{what}: `{word}`")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests;
