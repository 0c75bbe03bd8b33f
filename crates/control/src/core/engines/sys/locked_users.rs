//! `sys/locked-users`: whose passwords are not looked at, and looking at them again.

use std::collections::BTreeMap;

use serde_json::json;

use crate::core::engine::{Call, Context};
use crate::core::facts::Observation;
use crate::core::facts::lockouts::Who;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Most names that one answer shows.
const SHOWN_MAX: usize = 10_000;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    match (call.operation, rest) {
        (Operation::Read, []) => list(ctx, call),
        (Operation::Update, [accessor, "unlock", name @ ..]) if !name.is_empty() => {
            let mounts = ctx.draft.mounts()?;
            let known = mounts.mounts.values().find(|it| it.accessor == *accessor);
            let known = known
                .ok_or_else(|| Refusal::invalid(format!("invalid mount accessor {accessor:?}")))?;
            let name =
                crate::core::engines::identity::names::alias_name(&known.kind, &name.join("/"))?;
            ctx.observe(Observation::Unlocked(Who {
                accessor: (*accessor).to_owned(),
                name,
            }));
            Ok(Answer::done())
        }
        (_, [] | [_, "unlock", ..]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn list(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let wanted = call.fields().text("mount_accessor")?.unwrap_or_default();
    let mut by_method: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let now = ctx.now();
    let facts = ctx.facts();
    let found = facts.lockouts.locked(now);
    for who in found
        .filter(|who| wanted.is_empty() || who.accessor == wanted)
        .take(SHOWN_MAX)
    {
        by_method.entry(&who.accessor).or_default().push(&who.name);
    }
    let total: usize = by_method.values().map(Vec::len).sum();
    let methods: Vec<_> = by_method
        .into_iter()
        .map(|(accessor, names)| {
            json!({
                "mount_accessor": accessor,
                "counts": names.len(),
                "alias_identifiers": names,
            })
        })
        .collect();
    let of_root = json!({
        "namespace_id": "root",
        "namespace_path": "",
        "counts": total,
        "mount_accessors": methods,
    });
    let by_namespace = if total == 0 {
        json!([])
    } else {
        json!([of_root])
    };
    Ok(Answer::json(json!({
        "by_namespace": by_namespace,
        "total": total,
    })))
}
