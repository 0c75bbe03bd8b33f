//! Wall time enters at one place.

use super::Finding;
use super::source::Source;

/// Where it enters.
const DOOR: &str = "crates/linux/src/clock";

/// What would be another way in, for clippy sees only what is compiled.
const FORBIDDEN: &[&[&str]] = &[
    &["SystemTime"],
    &["ClockId"],
    &["clock_gettime"],
    &["gettimeofday"],
    &["OffsetDateTime"],
    &["chrono", "::"],
    &["ClientConfig", "::", "builder", "("],
    &["ClientConfig", "::", "builder_with_provider"],
    &["ServerConfig", "::", "builder", "("],
    &["ServerConfig", "::", "builder_with_provider"],
    &["pki_types", "::", "UnixTime", "::", "now"],
];

/// Returns where a program reads a wall clock beside the door, or lets TLS read one.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let elsewhere =
        |source: &&Source| source.path.starts_with("crates/") && !source.path.starts_with(DOOR);
    for source in sources.iter().filter(elsewhere) {
        for pattern in FORBIDDEN {
            for line in source.lines_of(pattern) {
                let what = format!(
                    "time enters through `bastide_linux::clock`, not by `{}`",
                    pattern.concat()
                );
                findings.push(Finding::at(source, line, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests;
