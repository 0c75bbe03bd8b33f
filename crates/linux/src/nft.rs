//! Rulesets of nftables, as text for the `nft` program.
//!
//! The program applies a text as one transaction: all of it or nothing. It acts on the network
//! namespace of the thread that calls [`apply`].

use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::namespace::{self, Namespace, NamespaceError};

/// Why a ruleset was not applied.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there or could not be run.
    #[error("could not run `nft`: is the package nftables installed?")]
    Run(#[source] io::Error),
    /// The program refused the ruleset.
    #[error("nft refused the ruleset: {message}")]
    Refused {
        /// Its own words.
        message: String,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// Applies `text` in the calling thread's network namespace, as one transaction.
pub fn apply(text: &str) -> Result<(), NftError> {
    run(&["-f", "-"], text).map(drop)
}

/// Applies `text` in `network`.
pub fn apply_in(network: &Namespace, text: &str) -> Result<(), NftError> {
    namespace::within(&[network], || apply(text))?
}

/// Returns the ruleset of the calling thread's network namespace, or of one table of it
/// (`table` such as `inet bastide`; all if empty), as `nft` prints it. `None` if the table is not there.
pub fn list(table: &str) -> Result<Option<String>, NftError> {
    let arguments: Vec<&str> = if table.is_empty() {
        vec!["list", "ruleset"]
    } else {
        ["list", "table"]
            .into_iter()
            .chain(table.split_whitespace())
            .collect()
    };
    match run(&arguments, "") {
        Ok(text) => Ok(Some(text)),
        Err(NftError::Refused { message }) if message.contains("No such file") => Ok(None),
        Err(error) => Err(error),
    }
}

fn run(arguments: &[&str], input: &str) -> Result<String, NftError> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses early closes its input; its own message tells more than EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NftError::Refused { message })
}
