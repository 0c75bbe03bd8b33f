//! Reading what runners of tests print.

use std::fmt;

/// What tests came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Why tests were skipped, a line each.
    pub skips: Vec<String>,
    /// What failed, a line each.
    pub failures: Vec<String>,
}

impl Outcome {
    /// The outcome of a single scenario.
    pub fn of_one(name: &str, is_good: bool) -> Self {
        let mut outcome = Self::default();
        if is_good {
            outcome.passed = 1;
        } else {
            outcome.failed = 1;
            outcome.failures.push(name.to_owned());
        }
        outcome
    }

    /// Adds the outcome of another runner.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.skips.extend(other.skips);
        self.failures.extend(other.failures);
    }

    /// Moves tests that skipped themselves from those that passed to those that were skipped, and
    /// counts a runner that ended badly without a failed test.
    fn settled(mut self, skipped_themselves: usize, is_success: bool) -> Self {
        self.passed = self.passed.saturating_sub(skipped_themselves);
        self.skipped += skipped_themselves;
        if !is_success && self.failed == 0 {
            // It did not build, or was killed before it could tell.
            self.failed = 1;
            self.failures
                .push("a runner of tests ended early".to_owned());
        }
        self
    }

    /// Returns whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads a runner's lines one by one.
pub trait Reader {
    /// Whether the runner reports on standard error.
    const READS_ERRORS: bool;

    /// Takes a line, and returns whether a person wants to see it.
    fn line(&mut self, line: &str) -> bool;

    /// Returns the outcome once the runner has ended.
    fn finish(self, is_success: bool) -> Outcome;
}

/// Reads libtest's report with `--show-output`.
///
/// libtest counts as passed what printed `skipped: ...` and returned: that is told apart here.
#[derive(Debug, Default)]
pub struct Libtest {
    outcome: Outcome,
    place: Place,
    test: String,
    has_test_skipped: bool,
    skipped_themselves: usize,
}

/// In which part of libtest's report we are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Running,
    /// What the tests that passed have printed.
    Successes,
    Failures,
}

impl Reader for Libtest {
    const READS_ERRORS: bool = false;

    fn line(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.outcome.passed += count(counts, "passed");
            self.outcome.failed += count(counts, "failed");
            self.outcome.skipped += count(counts, "ignored");
            self.place = Place::Running;
            return true;
        }
        match line {
            "successes:" => self.place = Place::Successes,
            "failures:" => self.place = Place::Failures,
            _ => {}
        }
        let head = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = head {
            test.clone_into(&mut self.test);
            self.has_test_skipped = false;
            if self.place == Place::Failures {
                self.outcome.failures.push(self.test.clone());
            }
        }
        if self.place == Place::Successes {
            self.skip(line);
            return false;
        }
        true
    }

    fn finish(self, is_success: bool) -> Outcome {
        self.outcome.settled(self.skipped_themselves, is_success)
    }
}

impl Libtest {
    fn skip(&mut self, line: &str) {
        let Some(why) = line.strip_prefix("skipped: ") else {
            return;
        };
        self.outcome.skips.push(format!("{}: {why}", self.test));
        if !self.has_test_skipped {
            self.has_test_skipped = true;
            self.skipped_themselves += 1;
        }
    }
}

/// Reads cargo-nextest's report with `--success-output final`.
#[derive(Debug, Default)]
pub struct Nextest {
    outcome: Outcome,
    skipped_themselves: usize,
}

impl Reader for Nextest {
    const READS_ERRORS: bool = true;

    fn line(&mut self, line: &str) -> bool {
        let text = line.trim();
        if let Some((_, counts)) = text
            .strip_prefix("Summary [")
            .and_then(|it| it.split_once(": "))
        {
            // What it calls skipped was filtered out.
            self.outcome.passed += count(counts, "passed");
            self.outcome.failed += count(counts, "failed") + count(counts, "timed out");
        } else if let Some((_, failed)) = text
            .strip_prefix("FAIL [")
            .and_then(|rest| rest.split_once("] "))
        {
            let name = failed.trim().to_owned();
            // It is told when it happens and once more at the end.
            if !self.outcome.failures.contains(&name) {
                self.outcome.failures.push(name);
            }
        } else if let Some(why) = text.strip_prefix("skipped: ") {
            self.outcome.skips.push(why.to_owned());
            self.skipped_themselves += 1;
        }
        true
    }

    fn finish(self, is_success: bool) -> Outcome {
        self.outcome.settled(self.skipped_themselves, is_success)
    }
}

/// Returns the number before a word: 4 for `passed` in `FAILED. 4 passed; 1 failed` or in
/// `4 passed (1 slow), 1 failed`.
fn count(counts: &str, what: &str) -> usize {
    let mut parts = counts
        .split([';', '.', ','])
        .filter_map(|part| part.trim().split_once(' '));
    let number = parts
        .find(|(_, words)| words.starts_with(what))
        .map(|(number, _)| number);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
