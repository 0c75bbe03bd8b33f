//! `identity/entity-alias` and `identity/group-alias`: names at auth methods.

use std::fmt::Display;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::names::alias_name;
use crate::core::engines::identity::stored::{Alias, AliasId, Entity, Group, GroupKind, Metadata};
use crate::core::engines::identity::{
    LIST_INFO_MAX, entities, groups, listed, metadata, register, shown,
};
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Returns the auth method with this accessor.
fn method(ctx: &mut Context<'_, '_>, accessor: &str) -> Result<Arc<Mount>, Refusal> {
    let mounts = ctx.draft.mounts()?;
    let found = mounts
        .mounts
        .values()
        .find(|mount| mount.accessor == accessor && mount.is_auth());
    let invalid = || Refusal::invalid(format!("invalid mount accessor {accessor:?}"));
    found.cloned().ok_or_else(invalid)
}

fn text(call: &Call<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let text = call.fields().text(name)?;
    Ok(text.filter(|text| !text.is_empty()))
}

pub(super) fn of_entities(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    match (call.operation, rest) {
        (Update, []) => match text(call, "id")? {
            Some(id) => update(ctx, call, &id),
            None => create(ctx, call),
        },
        (Update, ["id", id]) => update(ctx, call, id),
        (Read, ["id", id]) => {
            let (entity, at) = owner(ctx, id)?.ok_or(Refusal::Absent)?;
            let mounts = ctx.draft.mounts()?;
            let shown = shown::alias(&mounts, &entity.aliases[at], &entity.id);
            Ok(Answer::data(shown))
        }
        (Delete, ["id", id]) => {
            if let Some((mut entity, at)) = owner(ctx, id)? {
                entity.aliases.remove(at);
                entity.updated = ctx.now();
                register(ctx).put_entity(&entity)?;
            }
            Ok(Answer::done())
        }
        (List, ["id"]) => list_of_entities(ctx),
        (_, [] | ["id"] | ["id", _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

/// Returns the entity that has an alias, and which of its aliases it is.
fn owner(ctx: &mut Context<'_, '_>, id: &str) -> Result<Option<(Entity, usize)>, Refusal> {
    let Some(id) = AliasId::parse(id) else {
        return Ok(None);
    };
    let Some(entity) = register(ctx).entity_of_alias(&id)? else {
        return Ok(None);
    };
    let at = entity.aliases.iter().position(|alias| alias.id == id);
    Ok(at.map(|at| (entity, at)))
}

fn canonical(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<Entity>, Refusal> {
    let id = match text(call, "canonical_id")? {
        Some(id) => Some(id),
        None => text(call, "entity_id")?,
    };
    let Some(id) = id else {
        return Ok(None);
    };
    let found = register(ctx).entity_by_id(&id)?;
    let entity = found.ok_or_else(|| Refusal::invalid("invalid entity ID in 'canonical_id'"))?;
    Ok(Some(entity))
}

fn create(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let (Some(name), Some(accessor)) = (text(call, "name")?, text(call, "mount_accessor")?) else {
        return Err(Refusal::invalid(
            "'id' or 'mount_accessor' and 'name' must be provided",
        ));
    };
    let mount = method(ctx, &accessor)?;
    let name = alias_name(&mount.kind, &name)?;
    if let Some(entity) = register(ctx).entity_by(&accessor, &name)? {
        let has = |alias: &Alias| alias.accessor == accessor && alias.name == name;
        let at = entity.aliases.iter().position(has);
        let at = at.ok_or_else(|| Refusal::corrupt("alias", "its entity does not have it"))?;
        return change(ctx, call, entity, at);
    }
    let mut entity = match canonical(ctx, call)? {
        Some(entity) => entity,
        None => entities::new(ctx, None),
    };
    free(&entity, &accessor)?;
    let alias = new(ctx, call, accessor, name)?;
    let answer = told(&alias, &entity.id);
    entity.aliases.push(alias);
    entity.updated = ctx.now();
    register(ctx).put_entity(&entity)?;
    Ok(answer)
}

fn new(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    accessor: String,
    name: String,
) -> Result<Alias, Refusal> {
    let now = ctx.now();
    Ok(Alias {
        id: AliasId::draw(ctx.entropy()),
        accessor,
        name,
        metadata: Metadata::new(),
        custom: metadata(call.fields(), "custom_metadata")?.unwrap_or_default(),
        merged_from: Vec::new(),
        created: now,
        updated: now,
    })
}

/// An entity has one name at each auth method, or two people's logins could be one's.
fn free(entity: &Entity, accessor: &str) -> Result<(), Refusal> {
    if entity.aliases.iter().any(|it| it.accessor == accessor) {
        return Err(Refusal::invalid(
            "Alias already exists for requested entity and mount accessor",
        ));
    }
    Ok(())
}

fn told(alias: &Alias, owner: &impl Display) -> Answer {
    Answer::json(json!({ "id": alias.id, "canonical_id": owner.to_string() }))
}

fn update(ctx: &mut Context<'_, '_>, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let invalid = || Refusal::invalid("invalid alias ID provided");
    let (entity, at) = owner(ctx, id)?.ok_or_else(invalid)?;
    change(ctx, call, entity, at)
}

/// Changes an alias of an entity, or moves it to another.
fn change(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    mut entity: Entity,
    at: usize,
) -> Result<Answer, Refusal> {
    let before = entity.aliases[at].clone();
    let mut alias = before.clone();
    if let Some(accessor) = text(call, "mount_accessor")? {
        alias.accessor = accessor;
    }
    if let Some(name) = text(call, "name")? {
        alias.name = name;
    }
    let mount = method(ctx, &alias.accessor)?;
    alias.name = alias_name(&mount.kind, &alias.name)?;
    if let Some(custom) = metadata(call.fields(), "custom_metadata")? {
        alias.custom = custom;
    }
    let target = canonical(ctx, call)?.filter(|target| target.id != entity.id);
    if alias == before && target.is_none() {
        return Ok(Answer::done());
    }
    if (&alias.accessor, &alias.name) != (&before.accessor, &before.name)
        && register(ctx)
            .entity_by(&alias.accessor, &alias.name)?
            .is_some()
    {
        return Err(Refusal::invalid(
            "alias with combination of mount accessor and name already exists",
        ));
    }
    let now = ctx.now();
    alias.updated = now;
    entity.aliases.remove(at);
    entity.updated = now;
    let mut register = register(ctx);
    let mut holder = match target {
        Some(target) => {
            register.put_entity(&entity)?;
            target
        }
        None => entity,
    };
    free(&holder, &alias.accessor)?;
    let answer = told(&alias, &holder.id);
    holder.aliases.push(alias);
    holder.updated = now;
    register.put_entity(&holder)?;
    Ok(answer)
}

fn list_of_entities(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let mut register = register(ctx);
    let ids = register.entity_alias_ids()?;
    if LIST_INFO_MAX < ids.len() {
        return listed(ids, Map::new());
    }
    let mounts = register.draft.mounts()?;
    let mut info = Map::new();
    for id in ids.iter().filter_map(|id| AliasId::parse(id)) {
        if let Some(entity) = register.entity_of_alias(&id)?
            && let Some(alias) = entity.aliases.iter().find(|alias| alias.id == id)
        {
            let shown = shown::alias(&mounts, alias, &entity.id);
            info.insert(id.to_string(), Value::Object(shown));
        }
    }
    listed(ids, info)
}

pub(super) fn of_groups(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    match (call.operation, rest) {
        (Update, []) => {
            let id = text(call, "id")?;
            write_of_group(ctx, call, id.as_deref())
        }
        (Update, ["id", id]) => write_of_group(ctx, call, Some(id)),
        (Read, ["id", id]) => {
            let (group, alias) = holder(ctx, id)?.ok_or(Refusal::Absent)?;
            let mounts = ctx.draft.mounts()?;
            let shown = shown::alias(&mounts, &alias, &group.id);
            Ok(Answer::data(shown))
        }
        (Delete, ["id", id]) => {
            if let Some((mut group, _)) = holder(ctx, id)? {
                // Who was in it by this name is in it no more: nobody could say so later.
                group.alias = None;
                group.entities.clear();
                group.updated = ctx.now();
                register(ctx).put_group(&group)?;
            }
            Ok(Answer::done())
        }
        (List, ["id"]) => list_of_groups(ctx),
        (_, [] | ["id"] | ["id", _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn holder(ctx: &mut Context<'_, '_>, id: &str) -> Result<Option<(Group, Alias)>, Refusal> {
    let Some(id) = AliasId::parse(id) else {
        return Ok(None);
    };
    let group = register(ctx).group_of_alias(&id)?;
    Ok(group.and_then(|group| {
        let alias = group.alias.clone()?;
        Some((group, alias))
    }))
}

fn write_of_group(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    id: Option<&str>,
) -> Result<Answer, Refusal> {
    let before = match id {
        None => None,
        Some(id) => {
            let found = holder(ctx, id)?;
            Some(found.ok_or_else(|| Refusal::invalid("invalid group alias ID"))?)
        }
    };
    let name = text(call, "name")?.ok_or_else(|| Refusal::invalid("missing alias name"))?;
    let accessor =
        text(call, "mount_accessor")?.ok_or_else(|| Refusal::invalid("missing mount_accessor"))?;
    let target = match text(call, "canonical_id")? {
        None => None,
        Some(id) => {
            let found = register(ctx).group_by_id(&id)?;
            let group = found
                .ok_or_else(|| Refusal::invalid("invalid group ID given in 'canonical_id'"))?;
            if group.kind != GroupKind::External {
                return Err(Refusal::invalid("alias can't be set on an internal group"));
            }
            Some(group)
        }
    };
    let mount = method(ctx, &accessor)?;
    let name = alias_name(&mount.kind, &name)?;
    if let Some((group, alias)) = &before
        && alias.name == name
        && alias.accessor == accessor
        && target.as_ref().is_none_or(|target| target.id == group.id)
    {
        return Ok(Answer::done());
    }
    if let Some(other) = register(ctx).group_by(&accessor, &name)?
        && before
            .as_ref()
            .is_none_or(|(group, _)| group.id != other.id)
    {
        return Err(Refusal::invalid(
            "combination of mount and group alias name is already in use",
        ));
    }
    let now = ctx.now();
    let mut alias = match &before {
        Some((_, alias)) => alias.clone(),
        None => new(ctx, call, accessor.clone(), name.clone())?,
    };
    (alias.accessor, alias.name, alias.updated) = (accessor, name, now);
    let mut group = match (before, target) {
        (Some((mut old, _)), Some(target)) if old.id != target.id => {
            old.alias = None;
            old.entities.clear();
            old.updated = now;
            register(ctx).put_group(&old)?;
            target
        }
        (Some((old, _)), _) => old,
        (None, Some(target)) => target,
        (None, None) => groups::new(ctx, GroupKind::External, None),
    };
    let answer = told(&alias, &group.id);
    let is_named_so =
        |known: &Alias| (&known.accessor, &known.name) == (&alias.accessor, &alias.name);
    if !group.alias.as_ref().is_some_and(is_named_so) {
        // Who was in it by another name is in it no more: the method of that name would never say so.
        group.entities.clear();
    }
    group.alias = Some(alias);
    group.index += 1;
    group.updated = now;
    register(ctx).put_group(&group)?;
    Ok(answer)
}

fn list_of_groups(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let mut register = register(ctx);
    let ids = register.group_alias_ids()?;
    if LIST_INFO_MAX < ids.len() {
        return listed(ids, Map::new());
    }
    let mounts = register.draft.mounts()?;
    let mut info = Map::new();
    for id in ids.iter().filter_map(|id| AliasId::parse(id)) {
        if let Some(group) = register.group_of_alias(&id)?
            && let Some(alias) = &group.alias
        {
            let shown = shown::alias(&mounts, alias, &group.id);
            info.insert(id.to_string(), Value::Object(shown));
        }
    }
    listed(ids, info)
}
