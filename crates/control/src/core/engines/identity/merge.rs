//! `identity/entity/merge`: several entities turn out to be one.

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::register;
use crate::core::engines::identity::stored::{AliasId, Entity};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Most entities that are merged at once.
const FROM_MAX: usize = 64;

/// Moves aliases and memberships of groups to one entity, and deletes the others: their tokens are
/// its own from then on. Policies and metadata of the others are not taken over, because whoever may
/// merge need not be allowed to grant them.
pub(super) fn merge(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let from = fields.list("from_entity_ids")?.unwrap_or_default();
    if from.is_empty() {
        return Err(Refusal::invalid("missing entity ids to merge from"));
    }
    if FROM_MAX < from.len() {
        return Err(Refusal::invalid(format!(
            "more than {FROM_MAX} entities to merge from"
        )));
    }
    let to = fields.text("to_entity_id")?.unwrap_or_default();
    if to.is_empty() {
        return Err(Refusal::invalid("missing entity id to merge to"));
    }
    let force = fields.flag("force")?.unwrap_or(false);
    let keep = fields.list("conflicting_alias_ids_to_keep")?;
    let keep: Vec<AliasId> = keep
        .unwrap_or_default()
        .iter()
        .filter_map(|id| AliasId::parse(id))
        .collect();
    let now = ctx.now();
    let found = register(ctx).entity_by_id(&to)?;
    let mut to = found.ok_or_else(|| Refusal::invalid("entity id to merge to is invalid"))?;
    let several = 1 < from.len();
    for id in &from {
        let found = register(ctx).entity_by_id(id)?;
        let from = found.ok_or_else(|| Refusal::invalid("entity id to merge from is invalid"))?;
        if from.id == to.id {
            return Err(Refusal::invalid(
                "to_entity_id should not be present in from_entity_ids",
            ));
        }
        // Whoever may merge need not be allowed to let somebody in again.
        if from.disabled && !to.disabled {
            return Err(Refusal::invalid(
                "an entity to merge from is disabled, and the one to merge to is not: its tokens \
                 and logins would be good again",
            ));
        }
        let choice = Choice {
            keep: &keep,
            force,
            several,
        };
        take_aliases(&mut to, &from, &choice)?;
        let mut register = register(ctx);
        register.drop_entity(&from)?;
        for old in from.merged.iter().chain([&from.id]) {
            register.note_merge(old, &to.id)?;
        }
        for id in &from.groups {
            if let Some(mut group) = register.group(id)?
                && !group.entities.contains(&to.id)
            {
                group.entities.push(to.id.clone());
                // The group's write notes it in the entity's row, which `to` must know.
                register.put_group(&group)?;
                to.groups.push(id.clone());
            }
        }
        to.merged.extend(from.merged.iter().cloned());
        to.merged.push(from.id.clone());
        to.updated = now;
        register.put_entity(&to)?;
    }
    Ok(Answer::done())
}

/// Which of two names at one auth method stays.
struct Choice<'c> {
    keep: &'c [AliasId],
    force: bool,
    several: bool,
}

fn take_aliases(to: &mut Entity, from: &Entity, choice: &Choice<'_>) -> Result<(), Refusal> {
    for alias in &from.aliases {
        let mut alias = alias.clone();
        alias.merged_from.push(from.id.clone());
        let clash = to
            .aliases
            .iter()
            .position(|own| own.accessor == alias.accessor);
        let Some(clash) = clash else {
            to.aliases.push(alias);
            continue;
        };
        let own = &to.aliases[clash];
        if choice.keep.contains(&alias.id) {
            to.aliases[clash] = alias;
        } else if choice.force || choice.keep.contains(&own.id) {
            // The entity's own stays.
        } else {
            let hint = if choice.several {
                "repeat the merge request for exactly one fromEntity, and"
            } else {
                "repeat the merge request and"
            };
            return Err(Refusal::invalid(format!(
                "toEntity and at least one fromEntity have aliases with the same mount accessor, \
                 {hint} name the alias to keep in conflicting_alias_ids_to_keep: \
                 mountAccessor: {}, toEntity alias ID: {}, fromEntity alias ID: {}",
                own.accessor, own.id, alias.id
            )));
        }
    }
    Ok(())
}
