//! The engine `cluster`: what should run (stacks), and the Swarm that runs it.
//!
//! ```text
//! stacks, stacks/<name>   list, read, write, delete      part of the view
//! swarm                   read by nodes, written by controllers; never shown to a token
//! logs/<stack>/<service>  a grant to see what its containers on a node wrote       write
//! exec/<stack>/<service>  a grant to run a command in one of them                  write
//! ```

mod sessions;

use bastide_api::v1::{SwarmAnswer, SwarmReport};
use bastide_api::{EntryKey, StackName};
use bastide_stack::Stack;
use serde_json::{Map, Value};

use crate::core::engine::{Call, Context, Engine};
use crate::core::engines::mesh;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::{Identity, Operation};

/// Largest stack, in bytes of JSON.
const STACK_BYTES_MAX: usize = 1_000_000;
/// Most stacks of a cluster.
const STACKS_MAX: usize = 1024;
/// Most managers of a Swarm, and longest id or token.
const MANAGERS_MAX: usize = 7;
const TEXT_BYTES_MAX: usize = 256;

/// Where the Swarm's id and tokens stand.
const SWARM: &str = "swarm";

/// The engine.
pub struct Cluster;

impl Engine for Cluster {
    fn kind(&self) -> &'static str {
        "cluster"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["stacks", name] => {
                let stack = mesh::read_entry::<Value>(ctx, &EntryKey::Stack(stack_name(name)?))?;
                Ok(Some(stack.is_some()))
            }
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (List, ["stacks"]) => Answer::keys(mesh::list_entries(ctx, "stacks/")?),
            (Read, ["stacks", name]) => {
                let entry = EntryKey::Stack(stack_name(name)?);
                let stack: Option<Map<String, Value>> = mesh::read_entry(ctx, &entry)?;
                stack.map(Answer::data).ok_or(Refusal::Absent)
            }
            (Create | Update, ["stacks", name]) => write_stack(ctx, call, stack_name(name)?),
            (Delete, ["stacks", name]) => {
                mesh::withdraw(ctx, &EntryKey::Stack(stack_name(name)?))?;
                Ok(Answer::done())
            }
            (Read, ["swarm"]) => read_swarm(ctx),
            (Update, ["swarm"]) => write_swarm(ctx, call),
            (Create | Update, ["logs", stack, service]) => {
                sessions::logs(ctx, call, stack, service)
            }
            (Create | Update, ["exec", stack, service]) => {
                sessions::exec(ctx, call, stack, service)
            }
            (_, ["stacks" | "swarm"] | ["stacks", _] | ["logs" | "exec", _, _]) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

fn stack_name(text: &str) -> Result<StackName, Refusal> {
    text.parse()
        .map_err(|error: bastide_api::NameError| Refusal::invalid(error.to_string()))
}

fn write_stack(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: StackName,
) -> Result<Answer, Refusal> {
    mesh::cluster(ctx)?;
    let stack: Stack = call.parse()?;
    // As we understood it, not as it was sent: what agents get has no field that nobody judged.
    let text = serde_json::to_value(&stack).expect("stacks are plain JSON");
    if STACK_BYTES_MAX < text.to_string().len() {
        return Err(Refusal::invalid(format!(
            "the stack has more than {STACK_BYTES_MAX} bytes"
        )));
    }
    let known = mesh::list_entries(ctx, "stacks/")?;
    if STACKS_MAX <= known.len() && !known.iter().any(|other| other == name.as_str()) {
        return Err(Refusal::invalid(format!(
            "a cluster has at most {STACKS_MAX} stacks"
        )));
    }
    mesh::publish(ctx, &EntryKey::Stack(name), &text)?;
    Ok(Answer::done())
}

/// Answers a node with what it needs to be a member of the Swarm in its role.
fn read_swarm(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let Some(machine) = ctx.caller.machine() else {
        return Err(Refusal::Forbidden(
            "the Swarm's tokens are for nodes alone".to_owned(),
        ));
    };
    let report: Option<SwarmReport> = ctx.load(SWARM)?;
    let answer = match report {
        None => SwarmAnswer {
            swarm: None,
            managers: Vec::new(),
            manager_ids: Vec::new(),
            token: None,
        },
        Some(report) => SwarmAnswer {
            swarm: Some(report.swarm),
            managers: report.managers,
            manager_ids: report.manager_ids,
            token: Some(match machine {
                Identity::Controller(_) => report.manager_token,
                Identity::Node(_) => report.worker_token,
                Identity::Ended(_) => return Err(Refusal::Denied),
            }),
        },
    };
    let Ok(Value::Object(data)) = serde_json::to_value(&answer) else {
        unreachable!("answers are JSON objects")
    };
    Ok(Answer::data(data))
}

fn write_swarm(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    if !matches!(ctx.caller.machine(), Some(Identity::Controller(_))) {
        return Err(Refusal::Forbidden(
            "the Swarm is told of by controllers alone".to_owned(),
        ));
    }
    let report: SwarmReport = call.parse()?;
    let cluster = mesh::cluster(ctx)?;
    let texts = [&report.swarm, &report.worker_token, &report.manager_token];
    let is_wrong = |text: &&String| {
        text.is_empty() || TEXT_BYTES_MAX < text.len() || !text.is_ascii() || text.contains(' ')
    };
    let is_outside = |manager: &std::net::Ipv4Addr| !cluster.plan.mesh.contains(manager);
    if texts
        .into_iter()
        .chain(&report.manager_ids)
        .any(|text| is_wrong(&text))
        || MANAGERS_MAX < report.manager_ids.len()
        || MANAGERS_MAX < report.managers.len()
        || report.managers.iter().any(is_outside)
    {
        return Err(Refusal::invalid(
            "this does not describe a Swarm of this cluster",
        ));
    }
    ctx.save(SWARM, &report)?;
    Ok(Answer::done())
}

#[cfg(test)]
mod tests;
