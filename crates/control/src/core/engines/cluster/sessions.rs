//! Grants for sessions with containers: policy and audit are this control plane's, the session itself
//! goes from node to node.

use bastide_api::session::{Action, COMMAND_BYTES_MAX, GRANT_LIFE, Grant, WORDS_MAX};
use bastide_api::{EntryKey, NameError, NodeId, NodeRecord};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{mesh, stack_name};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Most lines of the past that logs can ask for.
const TAIL_MAX: u32 = 1_000_000;

#[derive(Deserialize)]
struct Logs {
    node: NodeId,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    tail: Option<u32>,
}

#[derive(Deserialize)]
struct Exec {
    node: NodeId,
    command: Vec<String>,
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    stdin: bool,
}

pub(super) fn logs(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    stack: &str,
    service: &str,
) -> Result<Answer, Refusal> {
    let asked: Logs = call.parse()?;
    let action = Action::Logs {
        follow: asked.follow,
        tail: asked.tail.map(|lines| lines.min(TAIL_MAX)),
    };
    grant(ctx, asked.node, stack, service, action)
}

pub(super) fn exec(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    stack: &str,
    service: &str,
) -> Result<Answer, Refusal> {
    let asked: Exec = call.parse()?;
    let bytes: usize = asked.command.iter().map(String::len).sum();
    if asked.command.first().is_none_or(String::is_empty) {
        return Err(Refusal::invalid("the command is empty"));
    }
    if WORDS_MAX < asked.command.len() || COMMAND_BYTES_MAX < bytes {
        return Err(Refusal::invalid(format!(
            "a command has at most {WORDS_MAX} words and {COMMAND_BYTES_MAX} bytes"
        )));
    }
    if asked.command.iter().any(|word| word.contains('\0')) {
        return Err(Refusal::invalid("a command has no zero bytes"));
    }
    let action = Action::Exec {
        command: asked.command,
        tty: asked.tty,
        stdin: asked.stdin,
    };
    grant(ctx, asked.node, stack, service, action)
}

fn grant(
    ctx: &mut Context<'_, '_>,
    node: NodeId,
    stack: &str,
    service: &str,
    action: Action,
) -> Result<Answer, Refusal> {
    let stack = stack_name(stack)?;
    let service = service
        .parse()
        .map_err(|error: NameError| Refusal::invalid(error.to_string()))?;
    // Only what is deployed here: the containers that a host runs for itself are not ours to show.
    if mesh::read_entry::<Value>(ctx, &EntryKey::Stack(stack.clone()))?.is_none() {
        return Err(Refusal::Absent);
    }
    let known: Option<NodeRecord> = mesh::read_entry(ctx, &EntryKey::Node(node))?;
    let Some(known) = known else {
        return Err(Refusal::invalid("there is no such node"));
    };
    let cluster = mesh::cluster(ctx)?.id;
    let id: [u8; 16] = ctx.entropy().bytes();
    let grant = Grant {
        id: data_encoding::HEXLOWER.encode(&id),
        node,
        stack,
        service,
        action,
        until: ctx.now().plus(GRANT_LIFE),
    };
    let signed = mesh::signer(ctx)?.sign_grant(&grant, cluster);
    Ok(Answer::json(json!({
        "grant": signed.grant,
        "signature": signed.signature,
        "address": known.address,
    })))
}
