//! Printing: data on standard output, everything else on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use crate::exit;

/// Prints a line of data.
pub fn data(line: impl AsRef<str>) {
    // A closed pipe is the reader's wish, not our error.
    let _ = writeln!(io::stdout().lock(), "{}", line.as_ref());
}

/// Prints a line for the person at the terminal.
pub fn note(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// Asks the person at the terminal, without an end of line.
pub fn ask(question: impl AsRef<str>) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "{}", question.as_ref());
    let _ = out.flush();
}

/// Prints an error with its causes and hints.
pub fn report(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let _ = write!(text, "\n  cause: {cause}");
    }
    if let Some(hint) = exit::hint_of(error) {
        let _ = write!(text, "\n\nhint: {hint}");
    }
    note(text);
}

/// Starts the log on standard error: text on a terminal, JSON otherwise. `RUST_LOG` overrides
/// `default`.
pub fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(|about| {
            tells_no_secrets(about.target(), *about.level())
        }));
    if io::stderr().is_terminal() {
        log.with(fmt::layer().with_target(false).with_writer(io::stderr))
            .init();
    } else {
        let lines = fmt::layer().json().flatten_event(true);
        log.with(lines.with_writer(io::stderr)).init();
    }
}

/// Whatever `RUST_LOG` says: below INFO the engine's client logs what it sends and gets, and among
/// that are the Swarm's tokens and what containers are told in their environment.
fn tells_no_secrets(target: &str, level: Level) -> bool {
    let is_engine = target == "bollard" || target.starts_with("bollard::");
    !is_engine || level <= Level::INFO
}

/// Prints a JSON value as data.
pub fn json(value: &serde_json::Value) {
    data(value.to_string());
}

/// Draws rows of cells in columns, a line each.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<_> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
