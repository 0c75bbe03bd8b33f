//! Calls from a container on one site to the service's name, until the right replicas answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::proof::Canary;
use super::scene::Scene;

/// Bytes of each body.
const BODY_BYTES: usize = 64 * 1024;

/// One answer, as `examples/hello call` prints it.
#[derive(Debug, Clone, Deserialize)]
struct Answer {
    /// Who answered: the replica's host name, which is its container's id.
    replica: String,
    /// How long it took.
    ms: f64,
    /// Whether the body came back whole.
    ok: bool,
}

/// The answers of a round of calls.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    answers: Vec<Answer>,
}

impl Answers {
    /// Reads the lines that `hello call` printed; lines that are no answers are passed over.
    fn parse(lines: &str) -> Self {
        let answers = lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Self { answers }
    }

    /// Who answered with the whole body.
    pub fn replicas(&self) -> BTreeSet<String> {
        self.answers
            .iter()
            .filter(|one| one.ok)
            .map(|one| one.replica.clone())
            .collect()
    }

    /// Whether every answer was whole, and there was one.
    pub fn all_whole(&self) -> bool {
        !self.answers.is_empty() && self.answers.iter().all(|one| one.ok)
    }

    /// One line about the round.
    pub fn summary(&self) -> String {
        let mut times: Vec<f64> = self.answers.iter().map(|one| one.ms).collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let replicas: Vec<_> = self
            .replicas()
            .iter()
            .map(|id| id.chars().take(12).collect::<String>())
            .collect();
        format!(
            "{} answers of {} KiB from {}, median {median:.1} ms",
            self.answers.len(),
            BODY_BYTES / 1024,
            replicas.join(" ")
        )
    }
}

/// Calls from a container on `host` until `count` replicas have answered.
pub fn until_distinct(
    scene: &Scene,
    host: &str,
    count: usize,
    canary: &Canary,
    within: Duration,
) -> anyhow::Result<Answers> {
    rounds(scene, host, count, canary, within, |answers| {
        count <= answers.replicas().len()
    })
}

/// Calls from `host` until `count` replicas have answered that are none of `lost`.
pub fn until_full_without(
    scene: &Scene,
    host: &str,
    count: usize,
    lost: &BTreeSet<String>,
    canary: &Canary,
    within: Duration,
) -> anyhow::Result<Answers> {
    rounds(scene, host, count, canary, within, |answers| {
        let replicas = answers.replicas();
        answers.all_whole() && count <= replicas.difference(lost).count()
    })
}

/// Calls from `host` until a replica that runs on `from` now, and was none of `before`, answered.
pub fn until_answer_from(
    scene: &Scene,
    host: &str,
    from: &str,
    before: &BTreeSet<String>,
    canary: &Canary,
    within: Duration,
) -> anyhow::Result<Answers> {
    let began = Instant::now();
    loop {
        let there = super::replicas_on(scene, from).unwrap_or_default();
        let fresh: BTreeSet<_> = there.difference(before).cloned().collect();
        if !fresh.is_empty() {
            let answers = call(scene, host, super::REPLICAS, canary)?;
            if answers.replicas().iter().any(|id| fresh.contains(id)) {
                return Ok(answers);
            }
        }
        if within < began.elapsed() {
            bail!(
                "no new replica on {from} answered within {} s",
                within.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn rounds(
    scene: &Scene,
    host: &str,
    count: usize,
    canary: &Canary,
    within: Duration,
    is_enough: impl Fn(&Answers) -> bool,
) -> anyhow::Result<Answers> {
    let began = Instant::now();
    loop {
        let outcome = call(scene, host, count, canary);
        if let Ok(answers) = &outcome
            && is_enough(answers)
        {
            return outcome;
        }
        if within < began.elapsed() {
            let answers = outcome.with_context(|| format!("calls from {host}"))?;
            bail!(
                "calls from {host}: after {} s only {}",
                within.as_secs(),
                answers.summary()
            );
        }
    }
}

/// One round, by a container of the service's own image that is no part of the service.
fn call(scene: &Scene, host: &str, count: usize, canary: &Canary) -> anyhow::Result<Answers> {
    let count = count.to_string();
    let bytes = BODY_BYTES.to_string();
    let output = scene.run_container(
        host,
        &[
            "call",
            "http://web:8080/",
            "--until-distinct",
            &count,
            "--count",
            "30",
            "--timeout-ms",
            "2000",
            "--body-bytes",
            &bytes,
            "--canary",
            canary.hex(),
        ],
    )?;
    Ok(Answers::parse(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_broken_body_counts_for_no_replica() {
        let lines = "noise\n{\"replica\":\"a\",\"ms\":1.5,\"ok\":true}\n\
                     {\"replica\":\"b\",\"ms\":9,\"ok\":false}\n";
        let answers = Answers::parse(lines);
        assert_eq!(answers.replicas(), BTreeSet::from(["a".to_owned()]));
        assert!(!answers.all_whole());
        assert!(!Answers::parse("").all_whole());
    }
}
