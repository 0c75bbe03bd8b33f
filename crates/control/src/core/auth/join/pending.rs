//! Machines whose ticket asks for approval: they wait until an operator lets them in or does not.

use std::time::Duration;

use bastide_api::v1::{JoinAnswer, JoinReply, JoinRequest};
use bastide_api::{EntryKey, NodeId, NodeName, TicketId, WaitingJoin};
use bastide_pki::ProvenKey;
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use super::login;
use super::stored::{self, PendingState, StoredPending, StoredTicket};
use super::ticket::REPEATED_FOR;
use crate::core::engine::{Call, Context};
use crate::core::engines::mesh::{self, Admission, Applicant};
use crate::core::leases::Owner;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};

/// How long a machine waits at most.
const WAITING_FOR: Duration = Duration::from_secs(86_400);
/// Most machines that wait, or were refused and not yet forgotten.
const PENDING_MAX: usize = 256;

/// A machine asks for the first time: from now on it waits. `request` holds no secret any more.
pub(super) fn begin(
    ctx: &mut Context<'_, '_>,
    ticket: &StoredTicket,
    request: JoinRequest,
    identity: ProvenKey,
) -> Result<Answer, Refusal> {
    if PENDING_MAX <= ctx.keys(stored::PENDING)?.len() {
        return Err(Refusal::Unavailable(
            "too many machines wait to be approved: see `bastide node pending`".to_owned(),
        ));
    }
    let id = match ticket.node {
        Some(id) => id,
        None => NodeId::from_bytes(ctx.entropy().bytes()),
    };
    let fingerprint = identity.fingerprint();
    let (now, ends) = (ctx.now(), ticket.expires.plus(REPEATED_FOR));
    let expires = now.plus(WAITING_FOR).min(ends);
    let ttl = expires.since(now);
    let lease = Grant {
        ttl,
        ttl_max: ttl,
        renewable: false,
        data: json!({ "pending": id }),
    };
    let lease = ctx.grant(&format!("auth/join/pending/{id}"), lease, Owner::Nobody)?;
    let ticket_id = request.ticket;
    let pending = StoredPending {
        format: 1,
        join: WaitingJoin {
            id,
            name: request.name.clone(),
            site: request.site.clone(),
            tags: ticket.tags.clone(),
            ticket: ticket_id,
            fingerprint: HEXLOWER.encode(&fingerprint),
            asked: now,
            expires,
        },
        state: PendingState::Waiting,
        arch: request.arch,
        wireguard: request.wireguard,
        discovery: request.discovery,
        csr: request.csr.clone(),
        public: request.public.clone(),
        routes: request.routes.clone(),
        from: ctx.peer.address.map(|address| address.ip()),
        lease: Some(lease),
    };
    let applicant = login::applicant(request, identity);
    applicant.check(&mut ctx.within(mesh::MOUNT)?, id)?;
    ctx.save(&stored::waits(ticket_id, &pending.wireguard), &id)?;
    ctx.save(&stored::pending(id), &pending)?;
    mesh::publish(ctx, &EntryKey::Join(id), &pending.join)?;
    Ok(login::reply(&JoinReply::Waiting(pending.join)))
}

/// Returns the machine with these two keys that waits, if it does.
pub(super) fn of(
    ctx: &mut Context<'_, '_>,
    request: &JoinRequest,
    identity: &ProvenKey,
) -> Result<Option<StoredPending>, Refusal> {
    let at = stored::waits(request.ticket, &request.wireguard);
    let Some(id) = ctx.load::<NodeId>(&at)? else {
        return Ok(None);
    };
    let pending: Option<StoredPending> = ctx.load(&stored::pending(id))?;
    let fingerprint = HEXLOWER.encode(&identity.fingerprint());
    Ok(pending.filter(|pending| pending.join.fingerprint == fingerprint))
}

/// What a machine that asks again is told; `None`: that it is a node now, which the caller makes it.
pub(super) fn go_on(
    ctx: &Context<'_, '_>,
    pending: &StoredPending,
) -> Result<Option<Answer>, Refusal> {
    let is_over = pending.join.expires <= ctx.now();
    match pending.state {
        PendingState::Refused => Err(Refusal::Ticket {
            record: "an operator refused the machine",
            text: "an operator refused this machine: ask for a new ticket (`bastide ticket`)"
                .to_owned(),
        }),
        PendingState::Waiting | PendingState::Admitted if is_over => Err(Refusal::Ticket {
            record: "nobody approved in time",
            text: format!(
                "nobody approved of this machine until {}: ask for a new ticket (`bastide ticket`)",
                pending.join.expires
            ),
        }),
        PendingState::Waiting => {
            let reply = login::reply(&JoinReply::Waiting(pending.join.clone()));
            Ok(Some(Answer {
                quiet: true,
                ..reply
            }))
        }
        PendingState::Admitted => Ok(None),
    }
}

/// Makes an admitted machine the node that it was admitted as.
pub(super) fn enrol(
    ctx: &mut Context<'_, '_>,
    pending: StoredPending,
    identity: ProvenKey,
) -> Result<JoinAnswer, Refusal> {
    let join = pending.join;
    // Its lease ends, and with it all that stands here of it.
    match &pending.lease {
        Some(lease) => ctx.end(lease)?,
        None => forget(ctx, join.id)?,
    }
    let admission = Admission::by_ticket(join.ticket, Some(join.id), join.tags);
    let applicant = Applicant {
        name: join.name,
        site: join.site,
        arch: pending.arch,
        wireguard: pending.wireguard,
        discovery: pending.discovery,
        identity,
        public: pending.public,
        routes: pending.routes,
    };
    mesh::enrol(&mut ctx.within(mesh::MOUNT)?, admission, applicant)
}

pub(super) fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let keys = ctx.keys(stored::PENDING)?;
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    let mut info = Map::new();
    for key in &keys {
        let Ok(id) = key.parse() else { continue };
        info.insert(key.clone(), shown(&existing(ctx, id)?));
    }
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

pub(super) fn read(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<Answer, Refusal> {
    Ok(Answer::json(shown(&existing(ctx, id)?)))
}

fn shown(pending: &StoredPending) -> Value {
    let mut shown = json!(pending.join);
    shown["state"] = json!(pending.state);
    shown["arch"] = json!(pending.arch);
    shown["public"] = json!(pending.public);
    shown["offered_routes"] = json!(pending.routes);
    shown["from"] = json!(pending.from);
    shown
}

/// Lets a machine in, under the name it asked for or under another one.
pub(super) fn admit(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    id: NodeId,
) -> Result<Answer, Refusal> {
    let mut pending = existing(ctx, id)?;
    if pending.state == PendingState::Refused {
        return Err(Refusal::invalid(
            "this machine was refused: it needs a new ticket",
        ));
    }
    if let Some(name) = call.fields().text("name")?.filter(|name| !name.is_empty()) {
        let name: Result<NodeName, _> = name.parse();
        pending.join.name = name.map_err(|error| Refusal::invalid(error.to_string()))?;
    }
    mesh::check_name_is_free(ctx, &pending.join.name)?;
    pending.state = PendingState::Admitted;
    mesh::withdraw(ctx, &EntryKey::Join(id))?;
    ctx.save(&stored::pending(id), &pending)?;
    Ok(Answer::done())
}

/// Refuses a machine; it is told so when it asks next.
pub(super) fn refuse(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<Answer, Refusal> {
    let mut pending = existing(ctx, id)?;
    pending.state = PendingState::Refused;
    mesh::withdraw(ctx, &EntryKey::Join(id))?;
    ctx.save(&stored::pending(id), &pending)?;
    Ok(Answer::done())
}

fn existing(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<StoredPending, Refusal> {
    ctx.load(&stored::pending(id))?.ok_or(Refusal::Absent)
}

/// Refuses all that wait with a ticket.
pub(super) fn refuse_all_of(ctx: &mut Context<'_, '_>, ticket: TicketId) -> Result<(), Refusal> {
    for pending in all_of(ctx, ticket)? {
        refuse(ctx, pending.join.id)?;
    }
    Ok(())
}

/// Forgets all that waited with a ticket. May be done twice.
pub(super) fn end_all_of(ctx: &mut Context<'_, '_>, ticket: TicketId) -> Result<(), Refusal> {
    for pending in all_of(ctx, ticket)? {
        match &pending.lease {
            Some(lease) => ctx.end(lease)?,
            None => forget(ctx, pending.join.id)?,
        }
    }
    Ok(())
}

fn all_of(ctx: &mut Context<'_, '_>, ticket: TicketId) -> Result<Vec<StoredPending>, Refusal> {
    let mut found = Vec::new();
    for key in ctx.keys(stored::PENDING)? {
        let Ok(id) = key.parse() else { continue };
        let pending = existing(ctx, id)?;
        if pending.join.ticket == ticket {
            found.push(pending);
        }
    }
    Ok(found)
}

/// Deletes what stands of a machine that waited. May be done twice.
pub(super) fn forget(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<(), Refusal> {
    if let Some(pending) = ctx.load::<StoredPending>(&stored::pending(id))? {
        ctx.delete(&stored::waits(pending.join.ticket, &pending.wireguard));
        ctx.delete(&stored::pending(id));
    }
    mesh::withdraw(ctx, &EntryKey::Join(id))
}
