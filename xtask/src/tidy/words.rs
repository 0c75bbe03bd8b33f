//! Words that do not belong into the tree: what is true on one machine only.

use super::Finding;

/// In two halves each, so that this file keeps its own rule.
const FORBIDDEN: [(&str, &str, &str); 4] = [
    ("/wo", "rk/", "a path of one machine"),
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
            if holds(line, &word) {
                let place = format!("{path}:{}", at + 1);
                findings.push(Finding::new(place, format!("{what}: `{word}`")));
            }
        }
    }
    findings
}

/// Returns whether a line holds a word that does not just continue a longer one.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "-_.}".contains(letter))
    })
}

#[cfg(test)]
mod tests;
