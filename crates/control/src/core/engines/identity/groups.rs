//! `identity/group`: groups of people and of groups.

use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::names::Name;
use crate::core::engines::identity::register::{GROUPS_MAX, Register};
use crate::core::engines::identity::stored::{EntityId, Group, GroupId, GroupKind, Metadata};
use crate::core::engines::identity::{LIST_INFO_MAX, listed, metadata, policies, register, shown};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Most entities of one group: a row has them all.
const ENTITIES_MAX: usize = 10_000;
/// Most groups in one group.
const MEMBERS_MAX: usize = 1_000;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    match (call.operation, rest) {
        (Update, []) => {
            let fields = call.fields();
            match (fields.text("id")?, fields.text("name")?) {
                (Some(id), _) if !id.is_empty() => by_id(ctx, call, &id),
                (_, Some(name)) if !name.is_empty() => by_name(ctx, call, &name),
                _ => write(ctx, call, None, None),
            }
        }
        (List, ["id"]) => list(ctx, true),
        (List, ["name"]) => list(ctx, false),
        (Update, ["id", id]) => by_id(ctx, call, id),
        (Read, ["id", id]) => {
            let found = register(ctx).group_by_id(id)?;
            read(ctx, found)
        }
        (Delete, ["id", id]) => {
            let found = register(ctx).group_by_id(id)?;
            delete(ctx, found)
        }
        (_, ["name", name @ ..]) if !name.is_empty() => {
            let name = name.join("/");
            match call.operation {
                Update => by_name(ctx, call, &name),
                Read => {
                    let found = register(ctx).group_named(&name)?;
                    read(ctx, found)
                }
                Delete => {
                    let found = register(ctx).group_named(&name)?;
                    delete(ctx, found)
                }
                _ => Err(Refusal::UnsupportedOperation),
            }
        }
        (_, [] | ["id" | "name"] | ["id", _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn read(ctx: &mut Context<'_, '_>, found: Option<Group>) -> Result<Answer, Refusal> {
    let group = found.ok_or(Refusal::Absent)?;
    let mounts = ctx.draft.mounts()?;
    Ok(Answer::json(shown::group(&mounts, &group)))
}

fn delete(ctx: &mut Context<'_, '_>, found: Option<Group>) -> Result<Answer, Refusal> {
    if let Some(group) = found {
        register(ctx).drop_group(&group)?;
    }
    Ok(Answer::done())
}

fn by_id(ctx: &mut Context<'_, '_>, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let found = register(ctx).group_by_id(id)?;
    let group = found.ok_or_else(|| Refusal::invalid("invalid group ID"))?;
    let name = call.fields().text("name")?.filter(|it| !it.is_empty());
    let name = name.map(|name| Name::parse("group", &name)).transpose()?;
    write(ctx, call, Some(group), name)
}

fn by_name(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    match register(ctx).group_named(name)? {
        Some(group) => write(ctx, call, Some(group), None),
        None => write(ctx, call, None, Some(Name::parse("group", name)?)),
    }
}

/// Makes a group of a kind, which is not written yet; it has a name of its own if none is given.
pub(super) fn new(ctx: &mut Context<'_, '_>, kind: GroupKind, name: Option<Name>) -> Group {
    let now = ctx.now();
    let name = name.unwrap_or_else(|| Name::draw("group", ctx.entropy()));
    Group {
        id: GroupId::draw(ctx.entropy()),
        name,
        kind,
        metadata: Metadata::new(),
        policies: Vec::new(),
        entities: Vec::new(),
        members: Vec::new(),
        parents: Vec::new(),
        alias: None,
        index: 0,
        created: now,
        updated: now,
    }
}

fn kind(call: &Call<'_>) -> Result<Option<GroupKind>, Refusal> {
    match call.fields().text("type")?.as_deref() {
        None | Some("") => Ok(None),
        Some("internal") => Ok(Some(GroupKind::Internal)),
        Some("external") => Ok(Some(GroupKind::External)),
        Some(other) => Err(Refusal::invalid(format!("invalid group type {other:?}"))),
    }
}

fn write(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    old: Option<Group>,
    name: Option<Name>,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let is_new = old.is_none();
    let asked = kind(call)?;
    let mut group = match old {
        Some(group) => {
            if asked.is_some_and(|kind| kind != group.kind) {
                return Err(Refusal::invalid("group type cannot be changed"));
            }
            group
        }
        None => new(ctx, asked.unwrap_or(GroupKind::Internal), name.clone()),
    };
    if let Some(name) = name {
        let taken = register(ctx).group_named(name.as_str())?;
        if taken.is_some_and(|other| other.id != group.id) {
            return Err(Refusal::invalid("group name is already in use"));
        }
        group.name = name;
    }
    if let Some(policies) = policies(fields)? {
        group.policies = policies;
    }
    if let Some(metadata) = metadata(fields, "metadata")? {
        group.metadata = metadata;
    }
    if let Some(ids) = fields.list("member_entity_ids")? {
        if group.kind == GroupKind::External {
            return Err(Refusal::invalid(
                "member entities can't be set manually for external groups",
            ));
        }
        group.entities = entities(&mut register(ctx), &ids)?;
    }
    if let Some(ids) = fields.list("member_group_ids")? {
        if group.kind == GroupKind::External {
            return Err(Refusal::invalid(
                "member groups can't be set for external groups",
            ));
        }
        group.members = members(&mut register(ctx), &group, &ids)?;
    }
    group.index += 1;
    group.updated = ctx.now();
    register(ctx).put_group(&group)?;
    if !is_new {
        return Ok(Answer::done());
    }
    Ok(Answer::json(json!({ "id": group.id, "name": group.name })))
}

fn entities(register: &mut Register<'_, '_>, ids: &[String]) -> Result<Vec<EntityId>, Refusal> {
    if ENTITIES_MAX < ids.len() {
        return Err(Refusal::invalid(format!(
            "more than {ENTITIES_MAX} entities in one group"
        )));
    }
    let mut found = Vec::with_capacity(ids.len());
    for id in ids.iter().filter(|id| !id.is_empty()) {
        let entity = register.entity_by_id(id)?;
        let entity = entity.ok_or_else(|| Refusal::invalid(format!("invalid entity ID {id:?}")))?;
        found.push(entity.id);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Returns the groups to be in `group`. None of them may have it inside.
fn members(
    register: &mut Register<'_, '_>,
    group: &Group,
    ids: &[String],
) -> Result<Vec<GroupId>, Refusal> {
    if MEMBERS_MAX < ids.len() {
        return Err(Refusal::invalid(format!(
            "more than {MEMBERS_MAX} groups in one group"
        )));
    }
    let above = register.closure(&group.parents)?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids.iter().filter(|id| !id.is_empty()) {
        let member = register.group_by_id(id)?;
        let member = member.ok_or_else(|| Refusal::invalid(format!("invalid group ID {id:?}")))?;
        let is_above = above.iter().any(|it| it.id == member.id);
        if member.id == group.id || is_above {
            return Err(Refusal::invalid(format!(
                "cyclic relationship detected for member group ID {:?}",
                member.id.to_string()
            )));
        }
        if GROUPS_MAX <= member.parents.len() && !member.parents.contains(&group.id) {
            return Err(Refusal::invalid(format!(
                "group {id:?} is in {GROUPS_MAX} groups already"
            )));
        }
        found.push(member.id);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn list(ctx: &mut Context<'_, '_>, by_id: bool) -> Result<Answer, Refusal> {
    let mut register = register(ctx);
    let ids = register.group_ids()?;
    if LIST_INFO_MAX < ids.len() && by_id {
        return listed(ids, Map::new());
    }
    let mounts = register.draft.mounts()?;
    let mut keys = Vec::with_capacity(ids.len());
    let mut info = Map::new();
    for id in ids.iter().filter_map(|id| GroupId::parse(id)) {
        let Some(group) = register.group(&id)? else {
            continue;
        };
        let alias = match &group.alias {
            Some(alias) => Value::Object(shown::alias(&mounts, alias, &group.id)),
            None => json!({}),
        };
        let (key, other) = if by_id {
            (group.id.to_string(), json!({ "name": group.name }))
        } else {
            (group.name.to_string(), json!({ "id": group.id }))
        };
        let mut told = other;
        told["num_member_entities"] = group.entities.len().into();
        told["num_parent_groups"] = group.parents.len().into();
        told["alias"] = alias;
        info.insert(key.clone(), told);
        keys.push(key);
    }
    keys.sort();
    listed(keys, info)
}
