//! `bastide logs`: what the containers of a service wrote, wherever they run.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use bastide_api::session::Ended;
use bastide_api::status::NodeStatus;
use bastide_client::{Client, SessionEvent};
use futures_util::future::join_all;
use serde_json::json;

use crate::cli::Logs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{agent_socket, operator, session};

/// Shows the logs of one node, or of all that can be reached.
pub async fn run(arguments: Logs) -> anyhow::Result<()> {
    let client = operator::client()?;
    let status = agent_socket::status().await?;
    session::check_deployed(&status, &arguments.service)?;
    let nodes: Vec<_> = match &arguments.node {
        Some(name) => vec![session::node(&status, name)?],
        // An engine that is no member runs none of the service's containers.
        None => status.nodes.iter().filter(|node| node.swarm).collect(),
    };
    let (alive, away): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.alive);
    for node in away {
        output::note(format!("node `{}` cannot be reached: left out", node.name));
    }
    let shown = alive.iter().map(|node| one(&client, &arguments, node));
    let failed = join_all(shown).await.into_iter().filter_map(Result::err);
    let mut failed: Vec<_> = failed.collect();
    let Some(last) = failed.pop() else {
        return Ok(());
    };
    for error in failed {
        output::note(format!("{error:#}"));
    }
    Err(last)
}

async fn one(client: &Client, arguments: &Logs, node: &NodeStatus) -> anyhow::Result<()> {
    let asked = json!({"follow": arguments.follow, "tail": arguments.tail.0});
    // Held until the end: to end it is to tell the node that enough was seen.
    let (mut events, _input) =
        session::open(client, "logs", &arguments.service, node, asked).await?;
    loop {
        let event = events
            .next()
            .await
            .with_context(|| format!("node `{}` broke off", node.name))?;
        match event {
            SessionEvent::Output(bytes) => show(&mut std::io::stdout(), node, &bytes)?,
            SessionEvent::Errors(bytes) => show(&mut std::io::stderr(), node, &bytes)?,
            SessionEvent::Ended(Ended::Exit(_)) => return Ok(()),
            SessionEvent::Ended(Ended::Refused(why)) => {
                let what = format!("node `{}` refused: {why}", node.name);
                return Err(Failure::new(Exit::Refused, what).into());
            }
        }
    }
}

/// Writes whole lines, each with the node's name before it.
fn show(to: &mut (impl Write + IsTerminal), node: &NodeStatus, lines: &[u8]) -> anyhow::Result<()> {
    let is_terminal = to.is_terminal();
    let mut text = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(node.name.as_str().as_bytes());
        text.push(b' ');
        if is_terminal {
            text.extend_from_slice(&harmless(line));
        } else {
            text.extend_from_slice(line);
        }
    }
    to.write_all(&text).context("could not show the logs")
}

/// A container's words must not move the cursor or retitle the window of who reads them: control
/// characters are shown, not sent, except tab and line end.
fn harmless(line: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(line.len());
    for letter in String::from_utf8_lossy(line).chars() {
        if letter.is_control() && letter != '\n' && letter != '\t' {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        let line = harmless(b"a\tb\x1b[2J\x07\xff\n");
        let expected = "a\tb\\u{1b}[2J\\u{7}\u{fffd}\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
