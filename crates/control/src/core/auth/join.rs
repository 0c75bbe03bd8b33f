//! The auth method `join`: tickets, with which machines become nodes.
//!
//! ```text
//! tickets               make one: its text is answered once and stored nowhere; list
//! tickets/<id>          read, revoke
//! login                 a machine spends a ticket and is a node, in one batch
//! pending, pending/<id> machines that wait for an operator: list, read, refuse (delete)
//! pending/<id>/admit    let one in
//! refused               machines with a ticket that were not let in, of late
//! ```
//!
//! A login is the one way into the cluster. What it needs is the ticket's secret, which is compared
//! as a hash and in constant time; where the request comes from means nothing.
//!
//! ```text
//! ticket --login--> node
//! ticket with approval --login--> waiting --admit--> admitted --the machine's next login--> node
//!                                        \--refuse, or a day--> refused
//! ```

mod login;
mod pending;
mod stored;
mod ticket;

use bastide_api::{NodeId, TicketId};

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
            (List, ["tickets"]) => ticket::list(ctx),
            (Read, ["tickets", id]) => ticket::read(ctx, ticket_id(id)?),
            (Delete, ["tickets", id]) => ticket::revoke(ctx, ticket_id(id)?),
            (List, ["pending"]) => pending::list(ctx),
            (Read, ["pending", id]) => pending::read(ctx, node_id(id)?),
            (Delete, ["pending", id]) => pending::refuse(ctx, node_id(id)?),
            (Create | Update, ["pending", id, "admit"]) => pending::admit(ctx, call, node_id(id)?),
            (Read, ["refused"]) => Ok(login::refused(ctx)),
            (_, ["login" | "tickets" | "pending" | "refused"])
            | (_, ["tickets" | "pending", _] | ["pending", _, "admit"]) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        match &lease.subject {
            Subject::Granted(data) => {
                let text = |name: &str| data.get(name).and_then(|id| id.as_str());
                if let Some(id) = text("pending").and_then(|id| id.parse().ok()) {
                    return pending::forget(ctx, id);
                }
                let id = text("ticket").and_then(|id| id.parse().ok());
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

/// Parses the id of a node that waits, spelled as it is printed and no other way.
fn node_id(text: &str) -> Result<NodeId, Refusal> {
    let id: Option<NodeId> = text.parse().ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| Refusal::invalid("this is not a node's id"))
}

#[cfg(test)]
mod tests;
