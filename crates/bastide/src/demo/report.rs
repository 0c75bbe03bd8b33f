//! What the demo prints: progress as it goes, a summary with times at the end; as text or as JSON
//! lines.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::output;

/// Whose time a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Our code is at work.
    Ours,
    /// We wait for the container engines: their start, their scheduling, their heartbeats.
    Engines,
}

/// A finished step.
#[derive(Debug)]
struct Step {
    name: &'static str,
    whose: Whose,
    took: Duration,
}

/// Prints progress and keeps the times.
pub struct Report {
    json: bool,
    began: Instant,
    steps: Vec<Step>,
    failed: Vec<String>,
}

impl Report {
    /// Begins a report.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            began: Instant::now(),
            steps: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Begins chapter `number` of the demo.
    pub fn chapter(&self, number: u8, title: &str) {
        if self.json {
            line(&json!({"event": "chapter", "number": number, "title": title}));
        } else {
            output::note(format!("\n{number}. {title}"));
        }
    }

    /// Tells something on the way.
    pub fn note(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.json {
            line(&json!({"event": "note", "text": text}));
        } else {
            output::note(format!("   {text}"));
        }
    }

    /// Times `work` as a step.
    pub fn step<T>(
        &mut self,
        name: &'static str,
        whose: Whose,
        work: impl FnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let result = work(self);
        let took = began.elapsed();
        if result.is_ok() {
            if self.json {
                let whose = whose_word(whose);
                let ms = millis(took);
                line(&json!({"event": "step", "name": name, "whose": whose, "ms": ms}));
            } else {
                output::note(format!("   {name:<58} {:>7.2} s", took.as_secs_f64()));
            }
        }
        self.steps.push(Step { name, whose, took });
        result
    }

    /// Records a check; a failed one makes the demo fail at its end.
    pub fn check(&mut self, what: &str, holds: bool) {
        if self.json {
            line(&json!({"event": "check", "what": what, "holds": holds}));
        } else {
            output::note(format!(
                "   [{}] {what}",
                if holds { "ok" } else { "FAILED" }
            ));
        }
        if !holds {
            self.failed.push(what.to_owned());
        }
    }

    /// Prints a table; the first row is its head.
    pub fn table(&self, name: &str, rows: &[Vec<String>]) {
        if self.json {
            line(&json!({"event": "table", "name": name, "rows": rows}));
            return;
        }
        for row in output::table(rows).lines() {
            output::note(format!("   {row}"));
        }
    }

    /// Prints where the time went and returns the checks that failed.
    pub fn finish(self) -> Vec<String> {
        let total = self.began.elapsed();
        let of = |whose| -> Duration {
            self.steps
                .iter()
                .filter(|step| step.whose == whose)
                .map(|step| step.took)
                .sum()
        };
        let (ours, engines) = (of(Whose::Ours), of(Whose::Engines));
        if self.json {
            let steps: Vec<Value> = self
                .steps
                .iter()
                .map(|step| {
                    let whose = whose_word(step.whose);
                    json!({"name": step.name, "whose": whose, "ms": millis(step.took)})
                })
                .collect();
            line(&json!({
                "event": "summary",
                "passed": self.failed.is_empty(),
                "failed": self.failed,
                "total_ms": millis(total),
                "ours_ms": millis(ours),
                "engines_ms": millis(engines),
                "steps": steps,
            }));
        } else {
            output::note("\nWhere the time went");
            for step in &self.steps {
                let (name, whose) = (step.name, whose_word(step.whose));
                output::note(format!(
                    "   {name:<58} {:>7.2} s  {whose}",
                    step.took.as_secs_f64()
                ));
            }
            output::note(format!(
                "   total {:.1} s: {:.1} s our own code, {:.1} s waiting for the container engines",
                total.as_secs_f64(),
                ours.as_secs_f64(),
                engines.as_secs_f64(),
            ));
            if self.failed.is_empty() {
                output::note("\nEvery check held.");
            } else {
                output::note(format!("\nFAILED: {}", self.failed.join("; ")));
            }
        }
        self.failed
    }
}

fn line(value: &Value) {
    output::data(value.to_string());
}

fn whose_word(whose: Whose) -> &'static str {
    match whose {
        Whose::Ours => "ours",
        Whose::Engines => "engines",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
