//! Tickets: made, shown, revoked.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::{
    CONTROLLERS_MAX, CaPin, ClusterRecord, NodeId, NodeName, Secret, SiteName, TAGS_MAX, Tag,
    Ticket, TicketId,
};
use serde_json::{Map, Value, json};

use super::pending;
use super::stored::{self, Approval, StoredTicket};
use crate::core::engine::{Call, Caller, Context};
use crate::core::engines::mesh;
use crate::core::leases::Owner;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};

/// How long a ticket is good if nothing else is said, and at most.
const TTL_DEFAULT: Duration = Duration::from_secs(3600);
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Most machines that may spend one ticket.
const USES_MAX: u64 = 256;
/// How long after its end a ticket still gets the answer again that it got before.
pub(super) const REPEATED_FOR: Duration = Duration::from_secs(3600);

/// Returns what stands in the store for a secret. The secret is 32 random bytes: nothing slower than
/// one hash is needed.
pub(super) fn hash(secret: &[u8; 32]) -> [u8; 32] {
    let hash = digest(&SHA256, secret);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(super) fn create(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let ttl = fields.duration("ttl")?.unwrap_or(TTL_DEFAULT);
    if ttl < Duration::from_secs(1) || TTL_MAX < ttl {
        return Err(Refusal::invalid("a ticket's ttl is 1 second to 30 days"));
    }
    let uses = fields.count("uses")?.unwrap_or(1);
    let uses = u32::try_from(uses)
        .ok()
        .filter(|uses| (1..=USES_MAX).contains(&u64::from(*uses)));
    let uses =
        uses.ok_or_else(|| Refusal::invalid(format!("a ticket has 1 to {USES_MAX} uses")))?;
    let name = parsed::<NodeName>(fields.text("name")?)?;
    let site = parsed::<SiteName>(fields.text("site")?)?;
    if name.is_some() && uses != 1 {
        return Err(Refusal::invalid("a ticket for one name has one use"));
    }
    let tags = tags(call)?;
    let approval = if fields.flag("approve")?.unwrap_or(false) {
        Approval::Asked
    } else {
        Approval::Given
    };
    let node = own_node(ctx, call)?;
    let cluster = mesh::cluster(ctx)?;
    let pin = mesh::pin(&mut ctx.within(mesh::MOUNT)?)?;
    let id = TicketId::from_bytes(ctx.entropy().bytes());
    let secret = Secret::new(ctx.entropy().bytes::<32>());
    let now = ctx.now();
    let grant = Grant {
        ttl: ttl + REPEATED_FOR,
        ttl_max: ttl + REPEATED_FOR,
        renewable: false,
        data: json!({ "ticket": id }),
    };
    let owner = match ctx.caller {
        Caller::Token(token) => Owner::Token(token.id),
        Caller::Nobody | Caller::Machine(_) | Caller::Program => Owner::Nobody,
    };
    let lease = ctx.grant(&format!("auth/join/tickets/{id}"), grant, owner)?;
    let stored = StoredTicket {
        format: 1,
        hash: hash(secret.expose()),
        created: now,
        expires: now.plus(ttl),
        uses,
        uses_first: uses,
        tags,
        approval,
        revoked: None,
        name,
        site,
        node,
        lease: Some(lease),
    };
    ctx.save(&stored::ticket(id), &stored)?;
    let ticket = Ticket {
        cluster: cluster.id,
        controllers: addresses(&cluster, node.is_some()),
        pin: CaPin(pin),
        id,
        secret,
        expires: stored.expires,
    };
    Ok(Answer::json(json!({
        "ticket": ticket.reveal().expose(),
        "id": id,
        "expires": stored.expires,
        "uses": uses,
    })))
}

fn tags(call: &Call<'_>) -> Result<BTreeSet<Tag>, Refusal> {
    let given = call.fields().list("tags")?.unwrap_or_default();
    let parsed = given.iter().map(|tag| tag.parse::<Tag>());
    let tags: BTreeSet<Tag> = parsed
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    if TAGS_MAX < tags.len() {
        return Err(Refusal::invalid(format!(
            "a node has at most {TAGS_MAX} tags"
        )));
    }
    Ok(tags)
}

/// Returns the node that a ticket is to give, if the program says so: the controller's own id is
/// known before it joins.
fn own_node(ctx: &Context<'_, '_>, call: &Call<'_>) -> Result<Option<NodeId>, Refusal> {
    let node = parsed::<NodeId>(call.fields().text("node")?)?;
    match (&node, ctx.caller) {
        (None, _) | (Some(_), Caller::Program) => Ok(node),
        (Some(_), Caller::Nobody | Caller::Token(_) | Caller::Machine(_)) => {
            Err(Refusal::invalid("node ids are given by the cluster"))
        }
    }
}

/// Returns where controllers answer, first addresses first. The controller's own agent asks on
/// loopback, which works before its host has any other address.
fn addresses(cluster: &ClusterRecord, is_own: bool) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let most = cluster.controllers.iter().map(|it| it.channel.len()).max();
    let nth = |at: usize| {
        cluster
            .controllers
            .iter()
            .filter_map(move |it| it.channel.get(at).copied())
    };
    let first = cluster
        .controllers
        .first()
        .and_then(|it| it.channel.first());
    if let (true, Some(first)) = (is_own, first) {
        found.push(SocketAddr::from((Ipv4Addr::LOCALHOST, first.port())));
    }
    for address in (0..most.unwrap_or(0)).flat_map(nth) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found.truncate(CONTROLLERS_MAX);
    found
}

fn parsed<T: std::str::FromStr>(text: Option<String>) -> Result<Option<T>, Refusal>
where
    T::Err: std::fmt::Display,
{
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| {
        text.parse()
            .map_err(|error: T::Err| Refusal::invalid(error.to_string()))
    })
    .transpose()
}

pub(super) fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let keys = ctx.list(stored::TICKETS)?;
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    let mut info = Map::new();
    for key in &keys {
        let Ok(id) = key.parse() else { continue };
        if let Some(ticket) = ctx.load::<StoredTicket>(&stored::ticket(id))? {
            info.insert(key.clone(), shown(ctx, id, &ticket));
        }
    }
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

pub(super) fn read(ctx: &mut Context<'_, '_>, id: TicketId) -> Result<Answer, Refusal> {
    let ticket: Option<StoredTicket> = ctx.load(&stored::ticket(id))?;
    let ticket = ticket.ok_or(Refusal::Absent)?;
    Ok(Answer::json(shown(ctx, id, &ticket)))
}

fn shown(ctx: &Context<'_, '_>, id: TicketId, ticket: &StoredTicket) -> Value {
    let state = if ticket.revoked.is_some() {
        "revoked"
    } else if ticket.expires <= ctx.now() {
        "ended"
    } else if ticket.uses == 0 {
        "spent"
    } else {
        "good"
    };
    json!({
        "id": id,
        "state": state,
        "created": ticket.created,
        "expires": ticket.expires,
        "revoked": ticket.revoked,
        "uses": ticket.uses,
        "uses_first": ticket.uses_first,
        "tags": ticket.tags,
        "approve": ticket.approval == Approval::Asked,
        "name": ticket.name,
        "site": ticket.site,
        "is_good": state == "good",
    })
}

/// Makes a ticket good for nothing more. What it made already stays: nodes, and the answers to those
/// whose reply was lost; who holds it is told so until it would be forgotten anyway.
pub(super) fn revoke(ctx: &mut Context<'_, '_>, id: TicketId) -> Result<Answer, Refusal> {
    let ticket: Option<StoredTicket> = ctx.load(&stored::ticket(id))?;
    let mut ticket = ticket.ok_or(Refusal::Absent)?;
    if ticket.revoked.is_none() {
        ticket.revoked = Some(ctx.now());
        ctx.save(&stored::ticket(id), &ticket)?;
        pending::refuse_all_of(ctx, id)?;
    }
    Ok(Answer::done())
}

/// Deletes a ticket and what was answered to those who spent it. May be done twice. Machines that
/// wait have ended before, or end with the ticket that they came with.
pub(super) fn forget(ctx: &mut Context<'_, '_>, id: TicketId) -> Result<(), Refusal> {
    ctx.delete(&stored::ticket(id));
    let prefix = stored::answers(id);
    for key in ctx.keys(&prefix)? {
        ctx.delete(&format!("{prefix}{key}"));
    }
    pending::end_all_of(ctx, id)
}
