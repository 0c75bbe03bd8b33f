//! The auth method `join`: tickets, with which machines become nodes.
//!
//! ```text
//! tickets         make one: its text is answered once and stored nowhere; list
//! tickets/<id>    read, revoke
//! login           a machine spends a ticket and is a node, in one batch
//! ```
//!
//! A login is the one way into the cluster. What it needs is the ticket's secret, which is compared
//! as a hash and in constant time; where the request comes from means nothing.

mod login;
mod stored;
mod ticket;

use bastide_api::TicketId;

use crate::core::engine::{Call, Context, Engine};
use crate::core::leases::{Lease, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The auth method.
pub struct Join;

impl Engine for Join {
    fn kind(&self) -> &'static str {
        "join"
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path == "login"
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login"]) => login::login(ctx, call),
            (Create | Update, ["tickets"]) => ticket::create(ctx, call),
            (List, ["tickets"]) => Answer::keys(ctx.list(stored::TICKETS)?),
            (Read, ["tickets", id]) => ticket::read(ctx, ticket_id(id)?),
            (Delete, ["tickets", id]) => ticket::revoke(ctx, ticket_id(id)?),
            (_, ["login" | "tickets"] | ["tickets", _]) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        match &lease.subject {
            Subject::Granted(data) => {
                let id = data.get("ticket").and_then(|id| id.as_str());
                let id = id.and_then(|id| id.parse().ok());
                let id = id.ok_or_else(|| Refusal::corrupt("lease", "it names no ticket"))?;
                ticket::forget(ctx, id)
            }
            Subject::Token(_) => Ok(()),
        }
    }
}

/// Parses the id of a ticket, spelled as it is printed and no other way.
fn ticket_id(text: &str) -> Result<TicketId, Refusal> {
    let id: Option<TicketId> = text.parse().ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| Refusal::invalid("this is not a ticket's id"))
}

#[cfg(test)]
mod tests;
