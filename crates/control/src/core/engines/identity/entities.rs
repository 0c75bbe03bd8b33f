//! `identity/entity`: people, by id and by name.

use bastide_api::UnixTime;
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::names::Name;
use crate::core::engines::identity::stored::{Entity, EntityId, Metadata};
use crate::core::engines::identity::{
    LIST_INFO_MAX, listed, merge, metadata, policies, register, shown,
};
use crate::core::entropy::Entropy;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Most entities that one request deletes.
const BATCH_MAX: usize = 1_000;

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
                (Some(id), _) if !id.is_empty() => update(ctx, call, &id),
                (_, Some(name)) if !name.is_empty() => by_name(ctx, call, &name),
                _ => create(ctx, call, None),
            }
        }
        (Update, ["merge"]) => merge::merge(ctx, call),
        (Update, ["batch-delete"]) => batch_delete(ctx, call),
        (List, ["id"]) => list(ctx, Listed::Ids),
        (List, ["name"]) => list(ctx, Listed::Names),
        (Read, ["id", id]) => {
            let found = register(ctx).entity_by_id(id)?;
            read(ctx, found)
        }
        (Update, ["id", id]) => update(ctx, call, id),
        (Delete, ["id", id]) => {
            let found = register(ctx).entity_by_id(id)?;
            delete(ctx, found)
        }
        (_, ["name", name @ ..]) if !name.is_empty() => {
            let name = name.join("/");
            match call.operation {
                Update => by_name(ctx, call, &name),
                Read => {
                    let found = register(ctx).entity_named(&name)?;
                    read(ctx, found)
                }
                Delete => {
                    let found = register(ctx).entity_named(&name)?;
                    delete(ctx, found)
                }
                _ => Err(Refusal::UnsupportedOperation),
            }
        }
        (_, [] | ["merge" | "batch-delete" | "id" | "name"] | ["id", _]) => {
            Err(Refusal::UnsupportedOperation)
        }
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn read(ctx: &mut Context<'_, '_>, found: Option<Entity>) -> Result<Answer, Refusal> {
    let entity = found.ok_or(Refusal::Absent)?;
    Ok(Answer::json(shown::entity(&mut register(ctx), &entity)?))
}

fn delete(ctx: &mut Context<'_, '_>, found: Option<Entity>) -> Result<Answer, Refusal> {
    if let Some(entity) = found {
        register(ctx).drop_entity(&entity)?;
    }
    Ok(Answer::done())
}

fn by_name(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    match register(ctx).entity_named(name)? {
        Some(entity) => change(ctx, call, entity, false),
        None => create(ctx, call, Some(Name::parse("entity", name)?)),
    }
}

fn update(ctx: &mut Context<'_, '_>, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let found = register(ctx).entity_by_id(id)?;
    let entity = found.ok_or_else(|| Refusal::invalid("entity not found from id"))?;
    change(ctx, call, entity, true)
}

fn create(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: Option<Name>,
) -> Result<Answer, Refusal> {
    let mut entity = new(ctx, name);
    fill(call, &mut entity)?;
    register(ctx).put_entity(&entity)?;
    Ok(Answer::json(json!({
        "id": entity.id,
        "name": entity.name,
        "aliases": null,
    })))
}

/// Makes an entity, which is not written yet.
pub(super) fn new(ctx: &mut Context<'_, '_>, name: Option<Name>) -> Entity {
    let now = ctx.now();
    fresh(ctx.entropy(), now, name)
}

/// Makes an entity of a time; it has a name of its own if none is given.
pub(super) fn fresh(entropy: &mut Entropy, now: UnixTime, name: Option<Name>) -> Entity {
    let id = EntityId::draw(entropy);
    let name = name.unwrap_or_else(|| Name::draw("entity", entropy));
    Entity {
        id,
        name,
        metadata: Metadata::new(),
        policies: Vec::new(),
        disabled: false,
        aliases: Vec::new(),
        groups: Vec::new(),
        merged: Vec::new(),
        created: now,
        updated: now,
    }
}

fn fill(call: &Call<'_>, entity: &mut Entity) -> Result<(), Refusal> {
    let fields = call.fields();
    if let Some(metadata) = metadata(fields, "metadata")? {
        entity.metadata = metadata;
    }
    if let Some(policies) = policies(fields)? {
        entity.policies = policies;
    }
    if let Some(disabled) = fields.flag("disabled")? {
        entity.disabled = disabled;
    }
    Ok(())
}

fn change(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    mut entity: Entity,
    renames: bool,
) -> Result<Answer, Refusal> {
    if renames && let Some(name) = call.fields().text("name")?.filter(|it| !it.is_empty()) {
        let name = Name::parse("entity", &name)?;
        let taken = register(ctx).entity_named(name.as_str())?;
        if taken.is_some_and(|other| other.id != entity.id) {
            return Err(Refusal::invalid("entity name is already in use"));
        }
        entity.name = name;
    }
    fill(call, &mut entity)?;
    entity.updated = ctx.now();
    register(ctx).put_entity(&entity)?;
    Ok(Answer::done())
}

fn batch_delete(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let ids = call.fields().list("entity_ids")?.unwrap_or_default();
    if ids.is_empty() {
        return Err(Refusal::invalid("missing entity ids to delete"));
    }
    if BATCH_MAX < ids.len() {
        return Err(Refusal::invalid(format!(
            "more than {BATCH_MAX} entities in one request"
        )));
    }
    for id in ids.iter().filter_map(|id| EntityId::parse(id)) {
        let found = register(ctx).entity(&id)?;
        delete(ctx, found)?;
    }
    Ok(Answer::done())
}

/// What a list holds.
enum Listed {
    Ids,
    Names,
}

fn list(ctx: &mut Context<'_, '_>, what: Listed) -> Result<Answer, Refusal> {
    let mut register = register(ctx);
    let ids = register.entity_ids()?;
    if LIST_INFO_MAX < ids.len() && matches!(what, Listed::Ids) {
        return listed(ids, Map::new());
    }
    let mounts = register.draft.mounts()?;
    let mut keys = Vec::with_capacity(ids.len());
    let mut info = Map::new();
    for id in ids.iter().filter_map(|id| EntityId::parse(id)) {
        let Some(entity) = register.entity(&id)? else {
            continue;
        };
        let aliases: Vec<Value> = entity
            .aliases
            .iter()
            .map(|it| Value::Object(shown::alias(&mounts, it, &entity.id)))
            .collect();
        let key = match what {
            Listed::Ids => entity.id.to_string(),
            Listed::Names => entity.name.to_string(),
        };
        let told = match what {
            Listed::Ids => json!({ "name": entity.name, "aliases": aliases }),
            Listed::Names => json!({ "id": entity.id, "aliases": aliases }),
        };
        info.insert(key.clone(), told);
        keys.push(key);
    }
    keys.sort();
    listed(keys, info)
}
