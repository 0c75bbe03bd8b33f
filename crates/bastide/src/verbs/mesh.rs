//! `bastide mesh`: why a path is what it is.

mod words;

use std::fmt::Write as _;

use anyhow::Context;
use bastide_api::NodeId;
use bastide_api::paths::{PathAnswer, PathStory};
use bastide_api::status::{NodeStatus, Status};
use bastide_api::v1::{PathFact, PathKind};

use crate::cli::MeshVerb;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::agent_socket;

pub use words::{event, is_trouble, latency, since, way};

/// Runs a verb on the mesh.
pub async fn run(verb: MeshVerb) -> anyhow::Result<()> {
    match verb {
        MeshVerb::Why { from, to, format } => {
            let status = agent_socket::status().await?;
            let (from, to) = (find(&status, &from)?, find(&status, &to)?);
            if from.id == to.id {
                let failure = Failure::new(Exit::Usage, "a node needs no path to itself");
                return Err(failure.hint("name two nodes of `bastide status`").into());
            }
            let path = format!("/v1/mesh/why/{}/{}", from.id, to.id);
            let answer = agent_socket::call("GET", &path, None).await?;
            let answer: PathAnswer =
                serde_json::from_value(answer).context("the agent is of another version")?;
            if format.json {
                let text = serde_json::to_string(&answer).context("could not print the answer")?;
                output::data(text);
                return Ok(());
            }
            match &answer {
                PathAnswer {
                    story: Some(story), ..
                } => output::data(tell(&status, from, to, story).trim_end()),
                PathAnswer {
                    reported: Some(fact),
                    ..
                } => {
                    output::data(brief(&status, from, to, fact).trim_end());
                    output::note(format!(
                        "\nthat is what `{from}` reported; for the whole story, on `{from}`: \
                         `bastide mesh why {from} {to}`",
                        from = from.name,
                        to = to.name,
                    ));
                }
                PathAnswer { .. } => {
                    let what = format!("nothing is known here of the paths of `{}`", from.name);
                    let hint = format!("ask there: `bastide mesh why {} {}`", from.name, to.name);
                    return Err(Failure::new(Exit::Unreachable, what).hint(hint).into());
                }
            }
        }
    }
    Ok(())
}

/// Finds a node by its id or its name.
fn find<'a>(status: &'a Status, node: &str) -> Result<&'a NodeStatus, Failure> {
    let id: Option<NodeId> = node.parse().ok();
    let mut nodes = status.nodes.iter();
    let found = nodes.find(|one| Some(one.id) == id || one.name.as_str() == node);
    found.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no node `{node}`"))
            .hint("bastide status lists the nodes")
    })
}

/// Tells what is used, in a line.
fn brief(status: &Status, from: &NodeStatus, to: &NodeStatus, fact: &PathFact) -> String {
    let mut line = match fact.kind {
        PathKind::None => format!("{} does not reach {}", from.name, to.name),
        kind => format!("{} reaches {} {}", from.name, to.name, way(status, kind)),
    };
    if fact.kind != PathKind::None {
        let _ = write!(line, ": round trip {}", latency(fact.rtt_us));
        if let Some(mtu) = fact.mtu {
            let _ = write!(line, ", packets up to {mtu} bytes");
        }
        if fact.loss_percent > 0 {
            let _ = write!(line, ", {} % lost", fact.loss_percent);
        }
    }
    line + "\n"
}

/// Tells the whole story.
fn tell(status: &Status, from: &NodeStatus, to: &NodeStatus, story: &PathStory) -> String {
    let mut text = brief(status, from, to, &story.fact);
    let _ = writeln!(text, "since {}", since(story.since_ms));
    if let Some(why) = story.not_direct {
        let _ = writeln!(text, "not direct: {}", words::not_direct(why));
    }
    if let Some(mtu) = story.fact.mtu.filter(|mtu| *mtu < story.device_mtu) {
        let device = story.device_mtu;
        let _ = writeln!(
            text,
            "the path swallows longer packets than {mtu} bytes (the mesh's own MTU is {device}): \
             routes to {} say so",
            to.name
        );
    }
    if !story.is_active {
        text.push_str("there is no traffic: it is asked every 15 s only\n");
    }
    let _ = writeln!(text, "NAT of {}: {}", from.name, words::nat(story.nat));

    text.push_str("\naddresses that were tried:\n");
    let mut rows = vec![words::row([
        "ADDRESS",
        "KNOWN FROM",
        "ASKED",
        "ANSWERED",
        "LATENCY",
        "",
    ])];
    for candidate in &story.candidates {
        let is_used = story.fact.kind
            == PathKind::Direct {
                to: candidate.address,
            };
        rows.push(words::row([
            &candidate.address.to_string(),
            words::origin(candidate.origin),
            &format!("{} times", candidate.asked),
            &candidate
                .answered_ms
                .map_or_else(|| "never".to_owned(), since),
            &latency(candidate.rtt_us),
            if is_used { "<- used" } else { "" },
        ]));
    }
    text.push_str(&output::table(&rows));
    text.push_str("\nrelays that were considered:\n");
    let mut rows = vec![words::row(["RELAY", "STATE", "TO IT", "TO THE PEER", ""])];
    for relay in &story.relays {
        let is_used = story.fact.kind == PathKind::Relayed { via: relay.relay };
        rows.push(words::row([
            &words::name(status, relay.relay),
            words::state(relay.state),
            &latency(Some(relay.to_relay_us)),
            &latency(relay.rtt_us),
            if is_used { "<- used" } else { "" },
        ]));
    }
    text.push_str(&output::table(&rows));
    text.push_str("\nwhat happened:\n");
    for one in &story.events {
        let _ = writeln!(text, "  {}", event(status, one));
    }
    if story.events.is_empty() {
        text.push_str("  nothing yet\n");
    }
    text
}

#[cfg(test)]
mod tests;
