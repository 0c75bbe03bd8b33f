//! `sys/leases`: look up, renew, revoke.

use std::sync::Arc;
use std::time::Duration;

use bastide_store::Key;
use serde_json::json;

use crate::core::engine::{Call, Context};
use crate::core::leases::{self, Ended, Failing, IRREVOCABLE_AFTER, LeaseId, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::request::Operation;
use crate::core::tables;
use crate::core::tend;

/// Leases that one request ends; the rest of a prefix is swept later.
const REVOKED_MAX: usize = 500;
/// Most leases in one list.
const LISTED_MAX: usize = 100_000;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    segments: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{List, Read, Update};
    let rest = match segments {
        ["leases", rest @ ..] => rest,
        old => old,
    };
    match (call.operation, rest) {
        (Update, ["lookup"]) => lookup(ctx, call),
        (List, ["lookup", prefix @ ..]) => list(ctx, &prefix.join("/")),
        (Update, ["renew", id @ ..]) => renew(ctx, call, &id.join("/")),
        (Update, ["revoke", id @ ..]) => {
            let id = lease_id(call, &id.join("/"))?;
            let ended = id.map(|id| leases::revoke(ctx.draft, ctx.world, &id));
            let ended = ended.transpose()?;
            let later = usize::from(ended == Some(Ended::Later));
            Ok(done(call, later))
        }
        (Update, ["revoke-prefix", prefix @ ..]) if !prefix.is_empty() => {
            let later = revoke_prefix(ctx, &format!("{}/", prefix.join("/")))?;
            Ok(done(call, later))
        }
        (Update, ["revoke-force", prefix @ ..]) if !prefix.is_empty() => {
            revoke_force(ctx, &format!("{}/", prefix.join("/")))?;
            Ok(done(call, 0))
        }
        (Read, ["count"]) => count(ctx, call),
        (Read, []) if segments.len() == 1 => troubles(ctx, call),
        (Update, ["tidy"]) => Ok(Answer::from(Reply::Accepted)
            .warn("leases need no tidying: they and what they hang on are committed together")),
        (
            _,
            [
                "lookup" | "renew" | "revoke" | "revoke-prefix" | "revoke-force" | "tidy" | "count",
                ..,
            ],
        ) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

/// Answers a revocation; `later` leases are over, but what they stood for is not undone yet.
fn done(call: &Call<'_>, later: usize) -> Answer {
    if 0 < later {
        return Answer::from(Reply::Accepted).warn(format!(
            "what {later} of these leases stood for could not be undone yet: it is tried again; \
             read sys/leases?type=failing"
        ));
    }
    match call.fields().flag("sync") {
        Ok(Some(false)) => Reply::Accepted.into(),
        _ => Answer::done(),
    }
}

/// Which leases a question is about.
fn is_asked_for(call: &Call<'_>) -> Result<fn(&Failing) -> bool, Refusal> {
    match call.fields().text("type")?.as_deref() {
        None | Some("irrevocable") => Ok(|failing| IRREVOCABLE_AFTER <= failing.attempts),
        Some("failing") => Ok(|_| true),
        Some(_) => Err(Refusal::invalid(
            "type is `irrevocable` or `failing`: other leases are listed below sys/leases/lookup",
        )),
    }
}

/// Lists leases that are over though what they stood for could not be undone.
fn troubles(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let is_asked_for = is_asked_for(call)?;
    let found: Vec<_> = leases::in_trouble(ctx.draft, LISTED_MAX)?
        .into_iter()
        .filter_map(|lease| {
            let failing = lease.failing.filter(is_asked_for)?;
            Some(json!({
                "lease_id": lease.id.as_str(),
                "error": failing.error,
                "attempts": failing.attempts,
                "since": timestamp(failing.since),
                "next_attempt": timestamp(failing.next),
            }))
        })
        .collect();
    Ok(Answer::json(
        json!({ "lease_count": found.len(), "leases": found }),
    ))
}

fn count(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let is_asked_for = is_asked_for(call)?;
    let table = ctx.draft.mounts()?;
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for lease in leases::in_trouble(ctx.draft, LISTED_MAX)? {
        if lease.failing.as_ref().is_some_and(is_asked_for) {
            let mut mounts = table.mounts.values();
            let mount = mounts.find(|mount| mount.id == lease.mount);
            let name = mount.map_or("", |mount| mount.accessor.as_str());
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    let total: u64 = counts.values().sum();
    Ok(Answer::json(
        json!({ "lease_count": total, "counts": counts }),
    ))
}

/// Returns the lease that a call names in its path or its fields; `None` if the name is no path.
fn lease_id(call: &Call<'_>, path: &str) -> Result<Option<LeaseId>, Refusal> {
    let text = match path {
        "" => call.fields().text("lease_id")?.unwrap_or_default(),
        path => path.to_owned(),
    };
    if text.is_empty() {
        return Err(Refusal::invalid("lease_id must be specified"));
    }
    Ok(LeaseId::parse(&text))
}

fn lookup(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let invalid = || Refusal::invalid("invalid lease");
    let id = lease_id(call, "")?.ok_or_else(invalid)?;
    let lease = ctx.lease(&id)?.ok_or_else(invalid)?;
    Ok(Answer::json(json!({
        "id": lease.id.as_str(),
        "issue_time": timestamp(lease.issued),
        "expire_time": timestamp(lease.expires),
        "last_renewal": lease.renewed.map(timestamp),
        "renewable": lease.renewable,
        "ttl": lease.ttl(ctx.now()),
    })))
}

fn list(ctx: &mut Context<'_, '_>, prefix: &str) -> Result<Answer, Refusal> {
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let found = leases::with_prefix(ctx.draft, &prefix, None, LISTED_MAX)?;
    let mut names: Vec<String> = found
        .iter()
        .map(|id| {
            let tail = &id.as_str()[prefix.len()..];
            match tail.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => tail.to_owned(),
            }
        })
        .collect();
    names.dedup();
    Answer::keys(names)
}

fn renew(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let unknown = || Refusal::invalid("lease not found");
    let id = lease_id(call, path)?.ok_or_else(unknown)?;
    let lease = ctx.lease(&id)?.ok_or_else(unknown)?;
    // The method that made a token judges its renewal, and does not hear of what is asked here: a
    // certificate would not be compared (CVE-2024-2048), a user who is gone not missed.
    if matches!(lease.subject, Subject::Token(_)) {
        return Err(Refusal::invalid(
            "tokens cannot be renewed through this endpoint",
        ));
    }
    if !lease.renewable {
        return Err(Refusal::invalid("lease is not renewable"));
    }
    let asked = call
        .fields()
        .duration("increment")?
        .filter(|asked| !asked.is_zero());
    let table = ctx.draft.mounts()?;
    let mount = table
        .mounts
        .values()
        .find(|mount| mount.id == lease.mount)
        .ok_or_else(unknown)?;
    let mut within = Context {
        draft: ctx.draft,
        world: ctx.world,
        mount: Arc::clone(mount),
        caller: ctx.caller,
        entity: ctx.entity,
        bearer: ctx.bearer,
        peer: ctx.peer.clone(),
        path: ctx.path,
    };
    let engine = Arc::clone(within.engine()?);
    let ttl = engine
        .renew(&mut within, &lease, asked)?
        .unwrap_or(mount.ttl_default());
    let wanted = ctx.now().plus(ttl);
    let lease = ctx.extend(&id, ttl)?;
    let left = Duration::from_secs(lease.ttl(ctx.now()));
    let answer = Answer::from(Reply::Renewed {
        lease_id: id.as_str().to_owned(),
        ttl: left,
        renewable: lease.renewable,
    });
    Ok(if lease.expires < wanted {
        answer.warn(format!(
            "TTL of \"{}\" exceeded the effective max_ttl; TTL value is capped accordingly",
            crate::core::fields::go_duration(ttl)
        ))
    } else {
        answer
    })
}

/// Ends the leases below a prefix: some at once, and the rest by the sweep that this commit orders.
/// Returns for how many of the first the undo failed.
pub(super) fn revoke_prefix(ctx: &mut Context<'_, '_>, prefix: &str) -> Result<usize, Refusal> {
    let mut later = 0;
    for id in first_below(ctx, prefix, Force::No)? {
        let ended = leases::revoke(ctx.draft, ctx.world, &id)?;
        later += usize::from(ended == Ended::Later);
    }
    Ok(later)
}

/// The same, but they go even if what they stood for cannot be undone.
fn revoke_force(ctx: &mut Context<'_, '_>, prefix: &str) -> Result<(), Refusal> {
    for id in first_below(ctx, prefix, Force::Yes)? {
        leases::revoke_by_force(ctx.draft, ctx.world, &id)?;
    }
    Ok(())
}

/// Whether leases go though the undo fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Force {
    No,
    Yes,
}

/// Returns the leases below a prefix that this request ends; if there are more, orders the sweep.
fn first_below(
    ctx: &mut Context<'_, '_>,
    prefix: &str,
    force: Force,
) -> Result<Vec<LeaseId>, Refusal> {
    let mut found = leases::with_prefix(ctx.draft, prefix, None, REVOKED_MAX + 1)?;
    if REVOKED_MAX < found.len() {
        found.truncate(REVOKED_MAX);
        let grave = tend::LeaseGrave {
            until: ctx.now(),
            force: force == Force::Yes,
            after: None,
        };
        ctx.draft
            .save(Key::new(tables::LEASE_GRAVES, prefix), &grave)?;
    }
    Ok(found)
}
