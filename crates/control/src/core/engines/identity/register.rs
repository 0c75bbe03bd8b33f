//! The register of people and groups: rows, and the indexes that lead to them.
//!
//! ```text
//! entity/ID               an entity with its aliases
//! entity-name/FOLDED      its id
//! entity-alias/ID         the id of the entity that has the alias
//! entity-by/ACCESSOR/NAME the same
//! merged/ID               the id of the entity that this one was merged into
//! group/ID, group-name/FOLDED, group-alias/ID, group-by/ACCESSOR/NAME
//! ```

use bastide_store::{Key, KeyRange};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::draft::{Draft, RANGE_KEYS_MAX, key};
use crate::core::engines::identity::names::folded;
use crate::core::engines::identity::stored::{Alias, AliasId, Entity, EntityId, Group, GroupId};
use crate::core::mounts::{Mount, MountId};
use crate::core::refusal::Refusal;
use crate::core::tables;

/// Most groups of one entity, inherited ones among them: each is read at each request.
pub const GROUPS_MAX: usize = 256;
/// How often merged entities are followed.
const MERGES_MAX: usize = 64;

/// The register, seen through a draft.
pub struct Register<'d, 's> {
    /// The batch in the making.
    pub draft: &'d mut Draft<'s>,
    mount: MountId,
}

impl<'d, 's> Register<'d, 's> {
    /// Returns the register of a mount.
    pub fn of(draft: &'d mut Draft<'s>, mount: &Mount) -> Self {
        let mount = mount.id;
        Self { draft, mount }
    }

    fn key(&self, at: &str) -> Key {
        key(tables::ENGINE, &[&self.mount.0, at.as_bytes()])
    }

    fn load<T: DeserializeOwned>(&mut self, at: &str) -> Result<Option<T>, Refusal> {
        let key = self.key(at);
        self.draft.load(&key)
    }

    fn save<T: Serialize>(&mut self, at: &str, value: &T) -> Result<(), Refusal> {
        let key = self.key(at);
        self.draft.save(key, value)
    }

    fn delete(&mut self, at: &str) {
        let key = self.key(at);
        self.draft.delete(key);
    }

    fn names(&mut self, prefix: &str) -> Result<Vec<String>, Refusal> {
        let start = [&self.mount.0, prefix.as_bytes()].concat();
        let range = KeyRange::prefix(tables::ENGINE, &start);
        let found = self.draft.keys(&range, RANGE_KEYS_MAX)?;
        found
            .iter()
            .map(|key| {
                String::from_utf8(key.rest()[start.len()..].to_vec())
                    .map_err(|error| Refusal::corrupt("name", error))
            })
            .collect()
    }

    /// Returns an entity.
    pub fn entity(&mut self, id: &EntityId) -> Result<Option<Entity>, Refusal> {
        self.load(&format!("entity/{id}"))
    }

    /// Returns the entity whose id a text is, if it is one.
    pub fn entity_by_id(&mut self, text: &str) -> Result<Option<Entity>, Refusal> {
        match EntityId::parse(text) {
            Some(id) => self.entity(&id),
            None => Ok(None),
        }
    }

    /// Returns an entity; one that was merged into another is that other.
    pub fn entity_now(&mut self, id: &EntityId) -> Result<Option<Entity>, Refusal> {
        let mut id = id.clone();
        for _ in 0..MERGES_MAX {
            if let Some(entity) = self.entity(&id)? {
                return Ok(Some(entity));
            }
            match self.load(&format!("merged/{id}"))? {
                Some(into) => id = into,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn entity_at(&mut self, at: &str) -> Result<Option<Entity>, Refusal> {
        match self.load::<EntityId>(at)? {
            Some(id) => self.entity(&id),
            None => Ok(None),
        }
    }

    /// Returns the entity with this name, in whatever case.
    pub fn entity_named(&mut self, name: &str) -> Result<Option<Entity>, Refusal> {
        self.entity_at(&format!("entity-name/{}", folded(name)))
    }

    /// Returns the entity that has an alias.
    pub fn entity_of_alias(&mut self, id: &AliasId) -> Result<Option<Entity>, Refusal> {
        self.entity_at(&format!("entity-alias/{id}"))
    }

    /// Returns the entity that has this name at an auth method.
    pub fn entity_by(&mut self, accessor: &str, name: &str) -> Result<Option<Entity>, Refusal> {
        self.entity_at(&format!("entity-by/{accessor}/{name}"))
    }

    /// Returns the ids of all entities.
    pub fn entity_ids(&mut self) -> Result<Vec<String>, Refusal> {
        self.names("entity/")
    }

    /// Returns the ids of all aliases of entities.
    pub fn entity_alias_ids(&mut self) -> Result<Vec<String>, Refusal> {
        self.names("entity-alias/")
    }

    /// Writes an entity, and what leads to it.
    pub fn put_entity(&mut self, entity: &Entity) -> Result<(), Refusal> {
        let row = format!("entity/{}", entity.id);
        if let Some(before) = self.load::<Entity>(&row)? {
            self.unlist_entity(&before, Some(entity));
        }
        self.save(&format!("entity-name/{}", entity.name.key()), &entity.id)?;
        for alias in &entity.aliases {
            self.save(&format!("entity-alias/{}", alias.id), &entity.id)?;
            self.save(&by("entity-by", alias), &entity.id)?;
        }
        self.save(&row, entity)
    }

    /// Deletes what leads to an entity, but for what leads to its new form.
    fn unlist_entity(&mut self, before: &Entity, now: Option<&Entity>) {
        let is_kept = |alias: &Alias| {
            now.is_some_and(|now| {
                let same = |it: &Alias| {
                    (&it.id, &it.accessor, &it.name) == (&alias.id, &alias.accessor, &alias.name)
                };
                now.aliases.iter().any(same)
            })
        };
        if now.is_none_or(|now| now.name.key() != before.name.key()) {
            self.delete(&format!("entity-name/{}", before.name.key()));
        }
        for alias in before.aliases.iter().filter(|alias| !is_kept(alias)) {
            self.delete(&format!("entity-alias/{}", alias.id));
            self.delete(&by("entity-by", alias));
        }
    }

    /// Deletes an entity; it leaves its groups.
    pub fn drop_entity(&mut self, entity: &Entity) -> Result<(), Refusal> {
        for id in &entity.groups {
            if let Some(mut group) = self.group(id)? {
                group.entities.retain(|member| *member != entity.id);
                self.save(&format!("group/{id}"), &group)?;
            }
        }
        self.unlist_entity(entity, None);
        self.delete(&format!("entity/{}", entity.id));
        for merged in &entity.merged {
            self.delete(&format!("merged/{merged}"));
        }
        Ok(())
    }

    /// Notes that an entity is now another. It must have been dropped.
    pub fn note_merge(&mut self, from: &EntityId, into: &EntityId) -> Result<(), Refusal> {
        self.save(&format!("merged/{from}"), into)
    }

    /// Returns a group.
    pub fn group(&mut self, id: &GroupId) -> Result<Option<Group>, Refusal> {
        self.load(&format!("group/{id}"))
    }

    /// Returns the group whose id a text is, if it is one.
    pub fn group_by_id(&mut self, text: &str) -> Result<Option<Group>, Refusal> {
        match GroupId::parse(text) {
            Some(id) => self.group(&id),
            None => Ok(None),
        }
    }

    fn group_at(&mut self, at: &str) -> Result<Option<Group>, Refusal> {
        match self.load::<GroupId>(at)? {
            Some(id) => self.group(&id),
            None => Ok(None),
        }
    }

    /// Returns the group with this name, in whatever case.
    pub fn group_named(&mut self, name: &str) -> Result<Option<Group>, Refusal> {
        self.group_at(&format!("group-name/{}", folded(name)))
    }

    /// Returns the group that has an alias.
    pub fn group_of_alias(&mut self, id: &AliasId) -> Result<Option<Group>, Refusal> {
        self.group_at(&format!("group-alias/{id}"))
    }

    /// Returns the external group that has this name at an auth method.
    pub fn group_by(&mut self, accessor: &str, name: &str) -> Result<Option<Group>, Refusal> {
        self.group_at(&format!("group-by/{accessor}/{name}"))
    }

    /// Returns the ids of all groups.
    pub fn group_ids(&mut self) -> Result<Vec<String>, Refusal> {
        self.names("group/")
    }

    /// Returns the ids of all aliases of groups.
    pub fn group_alias_ids(&mut self) -> Result<Vec<String>, Refusal> {
        self.names("group-alias/")
    }

    /// Writes a group, what leads to it, and in its members that they are.
    pub fn put_group(&mut self, group: &Group) -> Result<(), Refusal> {
        let row = format!("group/{}", group.id);
        let before: Option<Group> = self.load(&row)?;
        self.save(&row, group)?;
        if let Some(before) = &before {
            self.unlist_group(before, Some(group))?;
        }
        self.save(&format!("group-name/{}", group.name.key()), &group.id)?;
        if let Some(alias) = &group.alias {
            self.save(&format!("group-alias/{}", alias.id), &group.id)?;
            self.save(&by("group-by", alias), &group.id)?;
        }
        let was_in = |id: &EntityId| before.as_ref().is_some_and(|it| it.entities.contains(id));
        for id in group.entities.iter().filter(|id| !was_in(id)) {
            let entity = self.load::<Entity>(&format!("entity/{id}"))?;
            let Some(mut entity) = entity else {
                return Err(Refusal::invalid(format!("invalid entity ID {id:?}")));
            };
            entity.groups.push(group.id.clone());
            if GROUPS_MAX < entity.groups.len() {
                return Err(Refusal::invalid(format!(
                    "entity {id:?} is in {GROUPS_MAX} groups already"
                )));
            }
            self.save(&format!("entity/{id}"), &entity)?;
        }
        let held = |id: &GroupId| before.as_ref().is_some_and(|it| it.members.contains(id));
        for id in group.members.iter().filter(|id| !held(id)) {
            let Some(mut member) = self.group(id)? else {
                return Err(Refusal::invalid(format!("invalid group ID {id:?}")));
            };
            member.parents.push(group.id.clone());
            self.save(&format!("group/{id}"), &member)?;
        }
        Ok(())
    }

    fn unlist_group(&mut self, before: &Group, now: Option<&Group>) -> Result<(), Refusal> {
        if now.is_none_or(|now| now.name.key() != before.name.key()) {
            self.delete(&format!("group-name/{}", before.name.key()));
        }
        if let Some(alias) = &before.alias
            && now.is_none_or(|now| now.alias.as_ref() != Some(alias))
        {
            self.delete(&format!("group-alias/{}", alias.id));
            self.delete(&by("group-by", alias));
        }
        for id in &before.entities {
            if now.is_some_and(|now| now.entities.contains(id)) {
                continue;
            }
            if let Some(mut entity) = self.load::<Entity>(&format!("entity/{id}"))? {
                entity.groups.retain(|group| *group != before.id);
                self.save(&format!("entity/{id}"), &entity)?;
            }
        }
        for id in &before.members {
            if now.is_some_and(|now| now.members.contains(id)) {
                continue;
            }
            if let Some(mut member) = self.group(id)? {
                member.parents.retain(|parent| *parent != before.id);
                self.save(&format!("group/{id}"), &member)?;
            }
        }
        Ok(())
    }

    /// Deletes a group; its members leave it.
    pub fn drop_group(&mut self, group: &Group) -> Result<(), Refusal> {
        self.unlist_group(group, None)?;
        for id in &group.parents {
            if let Some(mut parent) = self.group(id)? {
                parent.members.retain(|member| *member != group.id);
                self.save(&format!("group/{id}"), &parent)?;
            }
        }
        self.delete(&format!("group/{}", group.id));
        Ok(())
    }

    /// Returns these groups and all that they are in, nearest first, each once.
    pub fn closure(&mut self, direct: &[GroupId]) -> Result<Vec<Group>, Refusal> {
        let mut found: Vec<Group> = Vec::new();
        let mut todo: Vec<GroupId> = direct.to_vec();
        let mut next = 0;
        while let Some(id) = todo.get(next).cloned() {
            next += 1;
            let Some(group) = self.group(&id)? else {
                continue;
            };
            for parent in &group.parents {
                if !todo.contains(parent) {
                    todo.push(parent.clone());
                }
            }
            if GROUPS_MAX < todo.len() {
                return Err(Refusal::Forbidden(format!(
                    "whoever asks is in more than {GROUPS_MAX} groups"
                )));
            }
            found.push(group);
        }
        Ok(found)
    }
}

fn by(index: &str, alias: &Alias) -> String {
    format!("{index}/{}/{}", alias.accessor, alias.name)
}
