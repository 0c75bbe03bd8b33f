//! A machine spends a ticket.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_api::v1::{JoinAnswer, JoinRequest};
use bastide_api::{EntryKey, NodeRecord, Secret};
use bastide_pki::ProvenKey;
use data_encoding::BASE64;
use serde_json::{Value, json};
use zeroize::Zeroize;

use super::stored::{self, StoredAnswer, StoredTicket};
use super::ticket::{self, REPEATED_FOR};
use crate::core::engine::{Call, Context};
use crate::core::engines::mesh::{self, Admission, Applicant};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

pub(super) fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut request: JoinRequest = call.parse()?;
    let mut ticket = proven_ticket(ctx, &mut request)?;
    let identity =
        ProvenKey::from_request(&request.csr).map_err(|why| Refusal::invalid(why.to_string()))?;
    if let Some(answer) = repeated(ctx, &request, &identity)? {
        let until = ticket.expires.plus(REPEATED_FOR);
        if until <= ctx.now() {
            return Err(expired(&ticket));
        }
        return Ok(answered(&answer));
    }
    if ticket.expires <= ctx.now() {
        return Err(expired(&ticket));
    }
    if ticket.uses == 0 {
        return Err(Refusal::Forbidden(
            "the ticket has been spent by another machine: make a new one with `bastide ticket`"
                .to_owned(),
        ));
    }
    check_purpose(&ticket, &request)?;
    ticket.uses -= 1;
    ctx.save(&stored::ticket(request.ticket), &ticket)?;
    let fingerprint = identity.fingerprint();
    let admission = Admission::by_ticket(request.ticket, ticket.node);
    let applicant = Applicant {
        name: request.name,
        site: request.site,
        arch: request.arch,
        wireguard: request.wireguard,
        discovery: request.discovery,
        identity,
        public: request.public,
        routes: request.routes,
    };
    let answer = mesh::enrol(&mut ctx.within(mesh::MOUNT)?, admission, applicant)?;
    let kept = StoredAnswer {
        format: 1,
        identity: fingerprint,
        answer,
    };
    let at = stored::answer(request.ticket, &kept.answer.node.wireguard);
    ctx.save(&at, &kept)?;
    Ok(answered(&kept.answer))
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
    let secret = <[u8; 32]>::try_from(bytes.expose().as_slice()).map(Secret::new);
    let given = secret.map_or([0; 32], |secret| ticket::hash(secret.expose()));
    let found: Option<StoredTicket> = ctx.load(&stored::ticket(request.ticket))?;
    let expected = found.as_ref().map_or([0xff; 32], |ticket| ticket.hash);
    let is_equal = verify_slices_are_equal(&given, &expected).is_ok();
    found.filter(|_| is_equal).ok_or_else(|| {
        Refusal::Forbidden(
            "the ticket is not valid: it was revoked, it ended long ago, or it is of another \
             cluster; make a new one with `bastide ticket`"
                .to_owned(),
        )
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
        return Err(Refusal::Forbidden(
            "the node that this ticket made was removed: make a new ticket with `bastide ticket`"
                .to_owned(),
        ));
    }
    Ok(Some(kept.answer))
}

fn check_purpose(ticket: &StoredTicket, request: &JoinRequest) -> Result<(), Refusal> {
    if let Some(name) = ticket.name.as_ref().filter(|name| **name != request.name) {
        return Err(Refusal::invalid(format!(
            "the ticket is for a node named `{name}`: join with `--name {name}`"
        )));
    }
    if let Some(site) = ticket.site.as_ref().filter(|site| **site != request.site) {
        return Err(Refusal::invalid(format!(
            "the ticket is for a node at site `{site}`: join with `--site {site}`"
        )));
    }
    Ok(())
}

fn expired(ticket: &StoredTicket) -> Refusal {
    Refusal::Forbidden(format!(
        "the ticket ended at {}: make a new one with `bastide ticket`",
        ticket.expires
    ))
}

fn answered(answer: &JoinAnswer) -> Answer {
    let Value::Object(data) = json!(answer) else {
        unreachable!("answers are JSON objects")
    };
    Answer::data(data)
}
