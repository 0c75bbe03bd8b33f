//! A source file as the rules see it.

use super::tokens::{Token, split};

/// A file of Rust.
#[derive(Debug)]
pub struct Source {
    /// Its path from the checkout's root.
    pub path: String,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// How many lines it has.
    pub lines: usize,
}

impl Source {
    /// Reads a file's text.
    pub fn new(path: String, text: &str) -> Self {
        Self {
            path,
            tokens: split(text),
            lines: text.lines().count(),
        }
    }

    /// Returns the area of a crate's file: `mesh` for `crates/mesh/src/lib.rs`.
    pub fn area(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Returns the lines on which these tokens follow each other.
    pub fn lines_of(&self, pattern: &[&str]) -> Vec<usize> {
        let same = |run: &&[Token]| run.iter().map(|token| &token.text).eq(pattern);
        self.tokens
            .windows(pattern.len())
            .filter(same)
            .map(|run| run[0].line)
            .collect()
    }

    /// Returns the modules that only exist in tests: those declared below `#[cfg(test)]`.
    pub fn test_modules(&self) -> impl Iterator<Item = &str> {
        const PATTERN: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
        let runs = self.tokens.windows(PATTERN.len() + 1);
        let declares = |run: &&[Token]| {
            run.iter()
                .map(|token| &token.text)
                .zip(PATTERN)
                .all(|(a, b)| a == b)
        };
        runs.filter(declares)
            .map(|run| run[PATTERN.len()].text.as_str())
    }
}
