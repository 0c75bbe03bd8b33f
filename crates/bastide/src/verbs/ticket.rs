//! `bastide ticket`: what more machines need to join.

use std::time::Duration;

use anyhow::Context;
use bastide_api::{TicketId, UnixTime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Format, NewTicket, TicketArgs, TicketVerb};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::operator;

/// Makes, lists or revokes tickets.
pub async fn run(arguments: TicketArgs) -> anyhow::Result<()> {
    match arguments.verb {
        None => print(arguments.new).await,
        Some(TicketVerb::List(format)) => list(format).await,
        Some(TicketVerb::Revoke { id }) => revoke(id).await,
    }
}

/// Prints a ticket on standard output, and what to do with it on standard error.
async fn print(new: NewTicket) -> anyhow::Result<()> {
    let life = new.minutes.map_or(new.life, |minutes| {
        Duration::from_secs(u64::from(minutes) * 60)
    });
    let body = json!({
        "ttl": life.as_secs(),
        "uses": new.uses,
        "tags": new.tags,
        "approve": new.approve,
        "name": new.name,
        "site": new.site,
    });
    let made = make(body).await?;
    let machines = match new.uses {
        1 => "one machine".to_owned(),
        many => format!("{many} machines"),
    };
    output::note(format!(
        "good for {machines} until {}; there, type `bastide join -` and give it this:",
        made.expires
    ));
    if new.approve {
        output::note("each waits then until you let it in: see `bastide node pending`");
    }
    output::data(made.ticket);
    Ok(())
}

/// A new ticket.
#[derive(Deserialize)]
struct Made {
    ticket: String,
    expires: UnixTime,
}

/// Has the control plane of this host make a ticket for one machine.
pub async fn create(minutes: u32) -> anyhow::Result<String> {
    let body = json!({"ttl": u64::from(minutes) * 60});
    Ok(make(body).await?.ticket)
}

async fn make(body: Value) -> anyhow::Result<Made> {
    let answer = operator::client()?
        .call("POST", "/v1/auth/join/tickets", Some(body))
        .await?;
    serde_json::from_value(answer).context("the control plane answered without a ticket")
}

async fn list(format: Format) -> anyhow::Result<()> {
    let tickets = operator::list("/v1/auth/join/tickets").await?;
    if format.json {
        output::data(serde_json::to_string(&tickets).context("could not print the tickets")?);
        return Ok(());
    }
    let mut rows =
        vec![["TICKET", "STATE", "USES LEFT", "UNTIL", "TAGS", "FOR"].map(str::to_owned)];
    for ticket in &tickets {
        let approval = ticket["approve"].as_bool().unwrap_or(false);
        let only = [&ticket["name"], &ticket["site"]];
        let only = only
            .iter()
            .filter_map(|only| only.as_str())
            .map(str::to_owned);
        let wants = approval.then(|| "with approval".to_owned());
        let wants: Vec<_> = only.chain(wants).collect();
        rows.push([
            operator::text(&ticket["id"]),
            operator::text(&ticket["state"]),
            format!("{} of {}", ticket["uses"], ticket["uses_first"]),
            operator::time(&ticket["expires"]),
            operator::words(&ticket["tags"]),
            if wants.is_empty() {
                "any machine".to_owned()
            } else {
                wants.join(", ")
            },
        ]);
    }
    let rows: Vec<_> = rows.into_iter().map(|row| row.to_vec()).collect();
    output::data(output::table(&rows).trim_end());
    Ok(())
}

async fn revoke(id: TicketId) -> anyhow::Result<()> {
    let path = format!("/v1/auth/join/tickets/{id}");
    let revoked = operator::client()?.call("DELETE", &path, None).await;
    if revoked
        .as_ref()
        .is_err_and(|error| error.status() == Some(404))
    {
        return Err(
            Failure::new(Exit::Usage, format!("there is no ticket `{id}`"))
                .hint("`bastide ticket list` shows those that are not forgotten")
                .into(),
        );
    }
    revoked?;
    output::note(format!(
        "ticket `{id}` is good for nothing more; nodes that it made stay (`bastide node remove`)"
    ));
    Ok(())
}
