//! A node reports what it observes, and renews its certificate and with it its membership.

use std::time::Duration;

use bastide_api::v1::{Instance, NodeFacts, RenewAnswer, RenewRequest};
use bastide_api::{EntryKey, NodeId, NodeRecord};
use bastide_pki::ProvenKey;

use super::stored::StoredNode;
use super::{authority, claims, node, shown, stored, view};
use crate::core::engine::{Call, Context};
use crate::core::facts::Observation;
use crate::core::leases::LeaseId;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Identity;

/// How often a node can have its certificate renewed. It needs to every twelve hours.
const RENEWAL_EVERY: Duration = Duration::from_secs(60);

/// Limits of a report: what is beyond them is refused as a whole.
const ENDPOINTS_MAX: usize = 16;
const TASKS_MAX: usize = 512;
const PATHS_MAX: usize = 4096;
const TROUBLES_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 512;

pub(super) fn renew(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    // Which node renews is what its certificate says, and nothing that the request says.
    let Some(machine) = ctx.caller.machine() else {
        return Err(Refusal::Forbidden("only nodes can renew".to_owned()));
    };
    let id = machine.node();
    let request: RenewRequest = call.parse()?;
    if let Some(instance) = request.instance.clone() {
        check_instance(ctx, id, instance)?;
    }
    let record: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(id))?;
    let mut record = record.ok_or(Refusal::Absent)?;
    if matches!(machine, Identity::Ended(_)) {
        check_return(ctx, &record, &request)?;
    }
    if let Some(facts) = request.facts {
        let facts = own_facts(&record, facts)?;
        ctx.observe(Observation::Node(id, facts));
    }
    let mut answer = RenewAnswer {
        now: ctx.now(),
        certificate: None,
        expires: record.expires,
    };
    if let Some(csr) = request.csr {
        let key = ProvenKey::from_request(&csr).map_err(|why| Refusal::invalid(why.to_string()))?;
        let (authority, _) = authority::load(ctx)?;
        let serial = ctx.entropy().bytes();
        let issued = authority.sign_node(&key, id, authority::validity(ctx), serial);
        let mut node = node::existing(ctx, id)?;
        check_pace(ctx, &node.lease)?;
        ctx.extend(&node.lease, authority::MEMBERSHIP_LIFE)?;
        let fingerprint = key.fingerprint();
        if node.identity != Some(fingerprint) {
            claims::keys(ctx, &record.wireguard, &fingerprint, id)?;
            if let Some(before) = node.identity.replace(fingerprint) {
                ctx.delete(&stored::identity(&before));
            }
            ctx.save(&stored::node(id), &node)?;
        }
        record.expires = issued.expires;
        view::publish(ctx, &EntryKey::Node(id), &record)?;
        answer.certificate = Some(issued.pem);
        answer.expires = issued.expires;
    }
    Ok(Answer {
        quiet: answer.certificate.is_none(),
        ..shown(&answer)
    })
}

/// Returns whether a node's membership goes on, whatever its certificate says. An expiry that has not
/// come by yet makes no member.
pub(super) fn is_member(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<bool, Refusal> {
    let Some(node) = ctx.load::<StoredNode>(&stored::node(id))? else {
        return Ok(false);
    };
    let lease = ctx.lease(&node.lease)?;
    Ok(lease.is_some_and(|lease| ctx.now() < lease.expires))
}

/// Checks that a node whose certificate has ended may have a new one: for the key that it is known
/// by, and only while it has not renewed by other means. An old copy of a living node's disk is no
/// way in.
fn check_return(
    ctx: &mut Context<'_, '_>,
    record: &NodeRecord,
    request: &RenewRequest,
) -> Result<(), Refusal> {
    if ctx.now() < record.expires {
        return Err(Refusal::Forbidden(
            "this certificate has ended, and the node has another one that has not: is this an old \
             copy of its disk?"
                .to_owned(),
        ));
    }
    let csr = request.csr.as_deref();
    let csr =
        csr.ok_or_else(|| Refusal::invalid("a node whose certificate has ended can only renew"))?;
    let key = ProvenKey::from_request(csr).map_err(|why| Refusal::invalid(why.to_string()))?;
    let known = node::existing(ctx, record.id)?.identity;
    if known == Some(key.fingerprint()) {
        return Ok(());
    }
    Err(Refusal::Forbidden(
        "a node whose certificate has ended can renew with the key that it joined with alone"
            .to_owned(),
    ))
}

/// Refuses a run of an agent if another machine with the same keys is the node.
fn check_instance(
    ctx: &mut Context<'_, '_>,
    id: NodeId,
    instance: Instance,
) -> Result<(), Refusal> {
    let from = ctx.peer.address.map(|address| address.ip());
    let is_the_node = ctx.facts().is_the_node(ctx.now(), id, &instance);
    ctx.observe(Observation::Heard(id, instance, from));
    if is_the_node {
        return Ok(());
    }
    Err(Refusal::Rival(
        "another machine runs with this node's keys, as after copying a disk, and is the node: type \
         `bastide down --forget` on this one, then `bastide join -` with a new ticket"
            .to_owned(),
    ))
}

/// Refuses a renewal soon after another one: each is a commit, and news for every member.
fn check_pace(ctx: &mut Context<'_, '_>, lease: &LeaseId) -> Result<(), Refusal> {
    let lease = ctx.lease(lease)?.ok_or(Refusal::Absent)?;
    match lease.renewed {
        Some(last) if ctx.now().since(last) < RENEWAL_EVERY => Err(Refusal::Unavailable(
            "the certificate was renewed a moment ago: try again in a minute".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Checks a report against limits, and keeps of its tasks only those inside the node's own subnet:
/// a node speaks for its own containers and for nobody else's.
fn own_facts(record: &NodeRecord, mut facts: NodeFacts) -> Result<NodeFacts, Refusal> {
    let texts = facts
        .troubles
        .iter()
        .chain(facts.swarm_node.as_ref())
        .chain(facts.tasks.iter().filter_map(|task| task.name.as_ref()));
    let is_long = |text: &String| TEXT_BYTES_MAX < text.len() || text.chars().any(char::is_control);
    let is_too_much = ENDPOINTS_MAX < facts.endpoints.len()
        || TASKS_MAX < facts.tasks.len()
        || PATHS_MAX < facts.paths.len()
        || TROUBLES_MAX < facts.troubles.len()
        || texts.into_iter().any(is_long);
    if is_too_much {
        return Err(Refusal::invalid("the report is larger than reports may be"));
    }
    facts
        .tasks
        .retain(|task| record.containers.contains(&task.address));
    facts
        .endpoints
        .retain(|to| to.port() != 0 && !to.ip().is_unspecified() && !to.ip().is_multicast());
    Ok(facts)
}
