//! Asking for what must not be seen: without echo on a terminal, else from standard input.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context, ensure};
use bastide_api::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::output;

/// Most bytes of what is read.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// A terminal that does not show what is typed, until dropped.
struct Hushed(Termios);

impl Hushed {
    fn new() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("could not ask the terminal")?;
        let mut hushed = before.clone();
        hushed.local_modes -= LocalModes::ECHO;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hushed)
            .context("could not hush the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks for one line, such as a password.
pub fn line(what: &str) -> anyhow::Result<Secret<String>> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    if stdin.is_terminal() {
        output::ask(format!("{what}: "));
        let _hushed = Hushed::new()?;
        let read = stdin.lock().take(INPUT_BYTES_MAX).read_line(&mut text);
        output::note("");
        read.context("could not read from the terminal")?;
    } else {
        let read = stdin.lock().take(INPUT_BYTES_MAX).read_line(&mut text);
        read.context("could not read standard input")?;
    }
    let text = Secret::new(text);
    let line = text.expose().trim_end_matches(['\r', '\n']);
    ensure!(!line.is_empty(), "{what} is empty");
    Ok(Secret::new(line.to_owned()))
}

/// Reads all of standard input, without the end of its last line.
pub fn rest() -> anyhow::Result<Secret<String>> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text);
    let mut text = Secret::new(text);
    read.context("could not read standard input")?;
    let length = text.expose().trim_end_matches(['\r', '\n']).len();
    if length != text.expose().len() {
        text = Secret::new(text.expose()[..length].to_owned());
    }
    Ok(text)
}
