//! Printing: data on standard output, everything else on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

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

/// Prints an error with its causes and hints.
pub fn report(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let _ = write!(text, "\n  cause: {cause}");
    }
    let failure = exit::failure_in(error);
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        let _ = write!(text, "\n\nhint: {hint}");
    }
    note(text);
}

/// Starts the log on standard error: text on a terminal, JSON otherwise. `RUST_LOG` overrides
/// `default`.
pub fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
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
