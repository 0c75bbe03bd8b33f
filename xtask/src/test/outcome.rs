//! Reading what libtest prints.

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
///
/// libtest counts as passed what printed `skipped: ...` and returned: that is told apart here.
#[derive(Debug, Default)]
pub struct Reader {
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

impl Reader {
    /// Takes a line, and returns whether a person wants to see it.
    pub fn line(&mut self, line: &str) -> bool {
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

    /// Returns the outcome once the runner has ended.
    pub fn finish(mut self, is_success: bool) -> Outcome {
        self.outcome.skipped += self.skipped_themselves;
        self.outcome.passed = self.outcome.passed.saturating_sub(self.skipped_themselves);
        if !is_success && self.outcome.failed == 0 {
            // It did not build, or was killed before it could tell.
            self.outcome.failed = 1;
            self.outcome
                .failures
                .push("a runner of tests ended early".to_owned());
        }
        self.outcome
    }
}

fn count(counts: &str, what: &str) -> usize {
    let part = counts
        .split([';', '.'])
        .map(str::trim)
        .find_map(|part| part.strip_suffix(what));
    part.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
