//! `bastide ticket`: what one more machine needs.

use anyhow::Context;
use serde_json::json;

use crate::cli::TicketArgs;
use crate::output;
use crate::verbs::operator;

/// Prints a ticket on standard output, and what to do with it on standard error.
pub async fn run(arguments: TicketArgs) -> anyhow::Result<()> {
    let ticket = create(arguments.minutes).await?;
    output::note(format!(
        "good for one machine and {} minutes; there, type `bastide join -` and give it this:",
        arguments.minutes
    ));
    output::data(ticket);
    Ok(())
}

/// Has the control plane of this host make a ticket.
pub async fn create(minutes: u32) -> anyhow::Result<String> {
    let body = json!({"ttl": u64::from(minutes) * 60});
    let answer = operator::client()?
        .call("POST", "/v1/auth/join/tickets", Some(body))
        .await?;
    let ticket = answer["ticket"]
        .as_str()
        .context("the control plane answered without a ticket")?;
    Ok(ticket.to_owned())
}
