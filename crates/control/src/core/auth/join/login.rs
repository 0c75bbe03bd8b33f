//! A machine spends a ticket.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_api::v1::{JoinAnswer, JoinReply, JoinRequest};
use bastide_api::{EntryKey, NodeRecord, Secret, TicketId, WireGuardKey};
use bastide_pki::ProvenKey;
use data_encoding::BASE64;
use serde_json::json;
use zeroize::Zeroize;

use super::pending;
use super::stored::{self, Approval, StoredAnswer, StoredTicket};
use super::ticket::{self, REPEATED_FOR};
use crate::core::engine::{Call, Context};
use crate::core::engines::mesh::{self, Admission, Applicant};
use crate::core::facts::{Observation, RefusedJoin};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Patience;

/// After how long an address that was refused too often may be heard again without a good ticket.
const WORN_FOR: Duration = Duration::from_secs(2);

pub(super) fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut request: JoinRequest = call.parse()?;
    let ticket = proven_ticket(ctx, &mut request)?;
    let (id, name) = (request.ticket, request.name.clone());
    let outcome = spend(ctx, ticket, request);
    // Whoever is refused here held the ticket's secret: that is worth an operator's look.
    if let Err(Refusal::Ticket { record, .. }) = &outcome {
        ctx.observe(Observation::JoinRefused(RefusedJoin {
            ticket: id,
            name,
            from: ctx.peer.address.map(|address| address.ip()),
            why: record,
        }));
    }
    outcome
}

fn spend(
    ctx: &mut Context<'_, '_>,
    mut ticket: StoredTicket,
    request: JoinRequest,
) -> Result<Answer, Refusal> {
    let identity =
        ProvenKey::from_request(&request.csr).map_err(|why| Refusal::invalid(why.to_string()))?;
    if let Some(answer) = repeated(ctx, &request, &identity)? {
        let until = ticket.expires.plus(REPEATED_FOR);
        if until <= ctx.now() {
            return Err(expired(&ticket));
        }
        return Ok(joined(&answer));
    }
    let waiting = pending::of(ctx, &request, &identity)?;
    if let Some(revoked) = ticket.revoked {
        return Err(Refusal::Ticket {
            record: "the ticket was revoked",
            text: format!(
                "the ticket was revoked at {revoked}: ask for a new one (`bastide ticket`)"
            ),
        });
    }
    if let Some(waiting) = waiting {
        if let Some(answer) = pending::go_on(ctx, &waiting)? {
            return Ok(answer);
        }
        let fingerprint = identity.fingerprint();
        let answer = pending::enrol(ctx, waiting, identity)?;
        return keep(
            ctx,
            (request.ticket, &request.wireguard),
            fingerprint,
            answer,
        );
    }
    if ticket.expires <= ctx.now() {
        return Err(expired(&ticket));
    }
    if ticket.uses == 0 {
        return Err(Refusal::Ticket {
            record: "the ticket is spent",
            text: "the ticket has been spent by another machine: make a new one with `bastide \
                   ticket`, and if that was none of yours, see `bastide status` and take it out"
                .to_owned(),
        });
    }
    check_purpose(&ticket, &request)?;
    ticket.uses -= 1;
    ctx.save(&stored::ticket(request.ticket), &ticket)?;
    if ticket.approval == Approval::Asked {
        return pending::begin(ctx, &ticket, request, identity);
    }
    let fingerprint = identity.fingerprint();
    let admission = Admission::by_ticket(request.ticket, ticket.node, ticket.tags);
    let (id, wireguard) = (request.ticket, request.wireguard);
    let applicant = applicant(request, identity);
    let answer = mesh::enrol(&mut ctx.within(mesh::MOUNT)?, admission, applicant)?;
    keep(ctx, (id, &wireguard), fingerprint, answer)
}

/// What a machine is, as its request says.
pub(super) fn applicant(request: JoinRequest, identity: ProvenKey) -> Applicant {
    Applicant {
        name: request.name,
        site: request.site,
        arch: request.arch,
        wireguard: request.wireguard,
        discovery: request.discovery,
        identity,
        public: request.public,
        routes: request.routes,
    }
}

/// Keeps an answer, to be given again to the same ticket and keys, and gives it.
fn keep(
    ctx: &mut Context<'_, '_>,
    to: (TicketId, &WireGuardKey),
    identity: [u8; 32],
    answer: JoinAnswer,
) -> Result<Answer, Refusal> {
    let kept = StoredAnswer {
        format: 1,
        identity,
        answer,
    };
    ctx.save(&stored::answer(to.0, to.1), &kept)?;
    Ok(joined(&kept.answer))
}

/// Returns the ticket whose secret the request holds. Whoever does not know the secret learns
/// nothing about the ticket, not even whether there is one.
fn proven_ticket(
    ctx: &mut Context<'_, '_>,
    request: &mut JoinRequest,
) -> Result<StoredTicket, Refusal> {
    let bytes = BASE64.decode(request.secret.as_bytes());
    request.secret.zeroize();
    let bytes = Secret::new(bytes.unwrap_or_default());
    let wait = ctx.facts().guesses.wait(ctx.now(), request.ticket);
    if !wait.is_zero() {
        return Err(Refusal::TooMany(wait));
    }
    let secret = <[u8; 32]>::try_from(bytes.expose().as_slice()).map(Secret::new);
    let given = secret.map_or([0; 32], |secret| ticket::hash(secret.expose()));
    let found: Option<StoredTicket> = ctx.load(&stored::ticket(request.ticket))?;
    let expected = found.as_ref().map_or([0xff; 32], |ticket| ticket.hash);
    let is_equal = verify_slices_are_equal(&given, &expected).is_ok();
    if let Some(found) = found.filter(|_| is_equal) {
        return Ok(found);
    }
    if ctx.peer.patience == Patience::Worn {
        return Err(Refusal::TooMany(WORN_FOR));
    }
    ctx.observe(Observation::Guess(request.ticket));
    Err(Refusal::Ticket {
        record: "no such ticket, or not its secret",
        text:
            "the ticket is not valid: it ended long ago, or it is of another cluster; make a new \
               one with `bastide ticket`"
                .to_owned(),
    })
}

/// Returns what the same machine was answered before: the same WireGuard key and the same identity
/// key, on a node that is still there.
fn repeated(
    ctx: &mut Context<'_, '_>,
    request: &JoinRequest,
    identity: &ProvenKey,
) -> Result<Option<JoinAnswer>, Refusal> {
    let kept: Option<StoredAnswer> =
        ctx.load(&stored::answer(request.ticket, &request.wireguard))?;
    let Some(kept) = kept.filter(|kept| kept.identity == identity.fingerprint()) else {
        return Ok(None);
    };
    let node = EntryKey::Node(kept.answer.node.id);
    if mesh::read_entry::<NodeRecord>(ctx, &node)?.is_none() {
        return Err(Refusal::Ticket {
            record: "the ticket's node was removed",
            text:
                "the node that this ticket made was removed: type `bastide down --forget` on this \
                   machine, then join with a new ticket (`bastide ticket`)"
                    .to_owned(),
        });
    }
    Ok(Some(kept.answer))
}

fn check_purpose(ticket: &StoredTicket, request: &JoinRequest) -> Result<(), Refusal> {
    if let Some(name) = ticket.name.as_ref().filter(|name| **name != request.name) {
        return Err(Refusal::Ticket {
            record: "the ticket is for another name",
            text: format!("the ticket is for a node named `{name}`: join with `--name {name}`"),
        });
    }
    if let Some(site) = ticket.site.as_ref().filter(|site| **site != request.site) {
        return Err(Refusal::Ticket {
            record: "the ticket is for another site",
            text: format!("the ticket is for a node at site `{site}`: join with `--site {site}`"),
        });
    }
    Ok(())
}

fn expired(ticket: &StoredTicket) -> Refusal {
    Refusal::Ticket {
        record: "the ticket ended",
        text: format!(
            "the ticket ended at {}: make a new one with `bastide ticket`",
            ticket.expires
        ),
    }
}

fn joined(answer: &JoinAnswer) -> Answer {
    reply(&JoinReply::Joined(Box::new(answer.clone())))
}

pub(super) fn reply(reply: &JoinReply) -> Answer {
    Answer::json(json!(reply))
}

/// Returns the machines that held a ticket's secret and were not let in, of late; the last one first.
pub(super) fn refused(ctx: &Context<'_, '_>) -> Answer {
    let refused = ctx.facts().refused_joins.iter().rev();
    let refused: Vec<_> = refused
        .map(|(at, refused)| {
            json!({
                "at": at,
                "ticket": refused.ticket,
                "name": refused.name,
                "from": refused.from,
                "why": refused.why,
            })
        })
        .collect();
    Answer::json(json!({ "refused": refused }))
}
