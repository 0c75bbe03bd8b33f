//! An entity and its groups, as the pipeline sees them at a request.

use crate::core::engines::identity::register::Register;
use crate::core::engines::identity::stored::{Alias, Entity, EntityId, Group};
use crate::core::identity::{AliasFacts, EntityFacts, GroupFacts};
use crate::core::refusal::Refusal;

/// Returns who has this id now; one that was merged into another is that other.
pub(super) fn find(
    register: &mut Register<'_, '_>,
    id: &str,
) -> Result<Option<EntityFacts>, Refusal> {
    let Some(id) = EntityId::parse(id) else {
        return Ok(None);
    };
    match register.entity_now(&id)? {
        Some(entity) => of(register, entity).map(Some),
        None => Ok(None),
    }
}

/// Returns what is known of an entity.
pub(super) fn of(register: &mut Register<'_, '_>, entity: Entity) -> Result<EntityFacts, Refusal> {
    let groups = register.closure(&entity.groups)?;
    let theirs = groups.iter().flat_map(|group| &group.policies);
    let mut policies: Vec<String> = entity.policies.iter().chain(theirs).cloned().collect();
    policies.sort();
    policies.dedup();
    Ok(EntityFacts {
        id: entity.id.to_string(),
        name: entity.name.to_string(),
        metadata: entity.metadata,
        policies,
        disabled: entity.disabled,
        aliases: entity.aliases.into_iter().map(alias).collect(),
        groups: groups.into_iter().map(group).collect(),
    })
}

fn alias(alias: Alias) -> (String, AliasFacts) {
    let facts = AliasFacts {
        id: alias.id.to_string(),
        name: alias.name,
        metadata: alias.metadata,
        custom_metadata: alias.custom,
    };
    (alias.accessor, facts)
}

fn group(group: Group) -> GroupFacts {
    GroupFacts {
        id: group.id.to_string(),
        name: group.name.to_string(),
        metadata: group.metadata,
    }
}
