//! How people and groups are shown.

use std::fmt::Display;

use serde_json::{Map, Value, json};

use crate::core::engines::identity::register::Register;
use crate::core::engines::identity::stored::{Alias, Entity, Group, Metadata};
use crate::core::mounts::MountTable;
use crate::core::refusal::Refusal;
use crate::core::reply::timestamp;

fn metadata(metadata: &Metadata) -> Value {
    if metadata.is_empty() {
        Value::Null
    } else {
        json!(metadata)
    }
}

fn none_if_empty<T: serde::Serialize>(list: &[T]) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        json!(list)
    }
}

/// Returns an alias as it is read back; `owner` is the id of the entity or group that has it.
pub fn alias(mounts: &MountTable, alias: &Alias, owner: &impl Display) -> Map<String, Value> {
    let mount = mounts
        .mounts
        .values()
        .find(|mount| mount.accessor == alias.accessor);
    let shown = json!({
        "id": alias.id,
        "canonical_id": owner.to_string(),
        "name": alias.name,
        "mount_accessor": alias.accessor,
        "mount_path": mount.map_or("", |mount| mount.path.as_str()),
        "mount_type": mount.map_or("", |mount| mount.kind.as_str()),
        "metadata": metadata(&alias.metadata),
        "custom_metadata": metadata(&alias.custom),
        "merged_from_canonical_ids": none_if_empty(&alias.merged_from),
        "creation_time": timestamp(alias.created),
        "last_update_time": timestamp(alias.updated),
        "local": false,
        "namespace_id": "root",
    });
    object(shown)
}

/// Returns an entity as it is read back.
pub fn entity(register: &mut Register<'_, '_>, entity: &Entity) -> Result<Value, Refusal> {
    let mounts = register.draft.mounts()?;
    let aliases: Vec<_> = entity
        .aliases
        .iter()
        .map(|it| alias(&mounts, it, &entity.id))
        .collect();
    let all: Vec<_> = register
        .closure(&entity.groups)?
        .into_iter()
        .map(|group| group.id)
        .collect();
    let inherited: Vec<_> = all
        .iter()
        .filter(|id| !entity.groups.contains(id))
        .collect();
    Ok(json!({
        "id": entity.id,
        "name": entity.name,
        "aliases": aliases,
        "metadata": metadata(&entity.metadata),
        "policies": entity.policies,
        "disabled": entity.disabled,
        "direct_group_ids": entity.groups,
        "inherited_group_ids": inherited,
        "group_ids": all,
        "merged_entity_ids": none_if_empty(&entity.merged),
        "creation_time": timestamp(entity.created),
        "last_update_time": timestamp(entity.updated),
        "namespace_id": "root",
        "mfa_secrets": {},
    }))
}

/// Returns a group as it is read back.
pub fn group(mounts: &MountTable, group: &Group) -> Value {
    let own = group
        .alias
        .as_ref()
        .map_or_else(Map::new, |it| alias(mounts, it, &group.id));
    json!({
        "id": group.id,
        "name": group.name,
        "type": group.kind.as_str(),
        "metadata": metadata(&group.metadata),
        "policies": group.policies,
        "member_entity_ids": none_if_empty(&group.entities),
        "member_group_ids": none_if_empty(&group.members),
        "parent_group_ids": none_if_empty(&group.parents),
        "alias": own,
        "modify_index": group.index,
        "creation_time": timestamp(group.created),
        "last_update_time": timestamp(group.updated),
        "namespace_id": "root",
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => unreachable!("made as an object"),
    }
}
