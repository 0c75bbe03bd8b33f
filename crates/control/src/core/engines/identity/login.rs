//! What a login means for the register: whose it is, and which external groups he is in.

use crate::core::engine::Persona;
use crate::core::engines::identity::entities;
use crate::core::engines::identity::names::alias_name;
use crate::core::engines::identity::register::Register;
use crate::core::engines::identity::stored::{
    Alias, AliasId, Entity, EntityId, GroupKind, Metadata,
};
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;

/// Most names of groups that a login tells.
const LOGIN_GROUPS_MAX: usize = 1_000;

/// Returns whose login it is: the entity with this alias, or a new one; and puts it into the external
/// groups that the auth method names. One that is disabled is returned as it is.
pub(super) fn entity_of(
    register: &mut Register<'_, '_>,
    login: &Persona<'_>,
) -> Result<Entity, Refusal> {
    let now = register.draft.now();
    let mount = login.mount;
    // The method has folded it as it tells its users apart.
    let name = alias_name("", &login.alias.name)?;
    let mut entity = match register.entity_by(&mount.accessor, &name)? {
        Some(entity) if entity.disabled => return Ok(entity),
        Some(entity) => entity,
        None => entities::fresh(register.draft.entropy(), now, None),
    };
    let known = entity
        .aliases
        .iter_mut()
        .find(|alias| alias.accessor == mount.accessor);
    match known {
        Some(alias) if alias.metadata == login.alias.metadata => {}
        Some(alias) => {
            alias.metadata.clone_from(&login.alias.metadata);
            alias.updated = now;
            register.put_entity(&entity)?;
        }
        None => {
            entity.aliases.push(Alias {
                id: AliasId::draw(register.draft.entropy()),
                accessor: mount.accessor.clone(),
                name,
                metadata: login.alias.metadata.clone(),
                custom: Metadata::new(),
                merged_from: Vec::new(),
                created: now,
                updated: now,
            });
            register.put_entity(&entity)?;
        }
    }
    if set_groups(register, mount, &entity, login.groups)? {
        let now = register.entity(&entity.id)?;
        return now.ok_or_else(|| Refusal::corrupt("entity", "it is gone"));
    }
    Ok(entity)
}

/// Puts an entity into the external groups that have one of these names at `mount`, and out of the
/// others of this method. Returns whether anything changed.
fn set_groups(
    register: &mut Register<'_, '_>,
    mount: &Mount,
    entity: &Entity,
    names: &[String],
) -> Result<bool, Refusal> {
    let id: &EntityId = &entity.id;
    let mut wanted = Vec::new();
    for name in names.iter().take(LOGIN_GROUPS_MAX) {
        // A name that no alias can have is no group's.
        let Ok(name) = alias_name(&mount.kind, name) else {
            continue;
        };
        if let Some(group) = register.group_by(&mount.accessor, &name)? {
            wanted.push(group);
        }
    }
    let mut changed = false;
    for held in &entity.groups {
        let Some(mut group) = register.group(held)? else {
            continue;
        };
        let is_of_method = |alias: &Alias| alias.accessor == mount.accessor;
        if group.kind == GroupKind::External
            && group.alias.as_ref().is_some_and(is_of_method)
            && !wanted.iter().any(|it| it.id == group.id)
        {
            group.entities.retain(|member| member != id);
            register.put_group(&group)?;
            changed = true;
        }
    }
    for mut group in wanted {
        if !group.entities.contains(id) {
            group.entities.push(id.clone());
            register.put_group(&group)?;
            changed = true;
        }
    }
    Ok(changed)
}
