//! Printing: data on standard output, everything else on standard error.

use std::io::{self, Write};

/// Prints a line of data.
pub fn data(line: &str) {
    // A closed pipe is the reader's wish, not our error.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line for the person at the terminal.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
