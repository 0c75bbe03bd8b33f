//! `bastide exec`: a command in a container, on whatever node that runs.

use std::convert::Infallible;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use bastide_api::session::Ended;
use bastide_api::status::{NodeStatus, Status};
use bastide_client::{SessionEvent, SessionInput};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::Exec;
use crate::exit::{Exit, Failure};
use crate::verbs::{agent_socket, operator, session};

/// Bytes that are read from standard input at once.
const INPUT_BYTES: usize = 16 * 1024;

/// Runs the command, and ends with its exit code.
pub async fn run(arguments: Exec) -> anyhow::Result<ExitCode> {
    if arguments.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "standard input is no terminal")
            .hint("leave out `--tty`")
            .into());
    }
    let client = operator::client()?;
    let status = agent_socket::status().await?;
    session::check_deployed(&status, &arguments.service)?;
    let node = choose(&status, &arguments)?;
    let asked = json!({
        "command": arguments.command,
        "tty": arguments.tty,
        "stdin": arguments.interactive,
    });
    let (mut events, input) =
        session::open(&client, "exec", &arguments.service, node, asked).await?;
    let terminal = arguments.tty.then(RawTerminal::enter).transpose()?;
    let typing = typing(input, arguments.interactive, arguments.tty);
    tokio::pin!(typing);
    let ended = loop {
        let event = tokio::select! {
            event = events.next() => event,
            never = &mut typing => match never {},
        };
        match event.with_context(|| format!("node `{}` broke off", node.name))? {
            SessionEvent::Output(bytes) => write(&mut std::io::stdout(), &bytes)?,
            SessionEvent::Errors(bytes) => write(&mut std::io::stderr(), &bytes)?,
            SessionEvent::Ended(ended) => break ended,
        }
    };
    drop(terminal);
    match ended {
        // As a shell tells it: the lowest eight bits.
        Ended::Exit(code) => Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))),
        Ended::Refused(why) => {
            let what = format!("node `{}` refused: {why}", node.name);
            Err(Failure::new(Exit::Refused, what).into())
        }
    }
}

/// The node that was named, else this one if it runs the service, else the first that does.
fn choose<'s>(status: &'s Status, arguments: &Exec) -> anyhow::Result<&'s NodeStatus> {
    if let Some(name) = &arguments.node {
        return session::node(status, name);
    }
    let (stack, service) = &arguments.service;
    let tasks = status
        .stacks
        .iter()
        .filter(|one| one.name == *stack)
        .flat_map(|one| &one.services)
        .filter(|one| one.name == *service)
        .flat_map(|one| &one.tasks)
        .filter(|task| task.reachable);
    let here = status.nodes.iter().find(|node| node.id == status.node);
    let mut names: Vec<_> = tasks.map(|task| &task.node).collect();
    names.sort_by_key(|name| here.is_none_or(|here| here.name != **name));
    let first = names.first().ok_or_else(|| {
        Failure::new(
            Exit::Unreachable,
            format!("no container of `{stack}/{service}` can be reached"),
        )
        .hint("see `bastide status`")
    })?;
    session::node(status, first)
}

/// Passes on what is typed and how large the terminal is. It never ends before the session does.
async fn typing(mut input: SessionInput, interactive: bool, tty: bool) -> Infallible {
    let mut resized = signal(SignalKind::window_change()).expect("signals can be listened for");
    if tty && let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = input.resize(size.ws_col, size.ws_row).await;
    }
    let mut typed = typed(interactive);
    let mut is_open = interactive;
    loop {
        tokio::select! {
            bytes = typed.recv(), if is_open => {
                is_open = bytes.is_some();
                // If the node is gone, the other direction says so.
                let _ = input.send(&bytes.unwrap_or_default()).await;
            }
            _ = resized.recv(), if tty => {
                if let Ok(size) = tcgetwinsize(std::io::stdin()) {
                    let _ = input.resize(size.ws_col, size.ws_row).await;
                }
            }
            () = std::future::pending(), if !is_open && !tty => {}
        }
    }
}

/// What comes on standard input. A thread reads it, and is left behind at the end: nothing else can
/// give up a read that waits for a key.
fn typed(is_wanted: bool) -> mpsc::Receiver<Vec<u8>> {
    // One piece waits while another is sent: who types faster than the mesh carries is held up.
    let (sender, receiver) = mpsc::channel(1);
    if is_wanted {
        std::thread::spawn(move || {
            let mut bytes = vec![0; INPUT_BYTES];
            while let Ok(length @ 1..) = std::io::stdin().read(&mut bytes) {
                if sender.blocking_send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

fn write(to: &mut impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .context("could not show what the command wrote")
}

/// The terminal passes keys on as they are typed, until this is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("could not ask the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)
            .context("could not set the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
