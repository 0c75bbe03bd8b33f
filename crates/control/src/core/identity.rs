//! What is known of whoever holds a token: the entity behind it, its names at auth methods, its groups.
//!
//! The pipeline asks the engine behind the mount `identity/` for it, once when somebody logs in
//! ([`crate::core::engine::Engine::entity_of`]) and once for each request of a token that belongs to
//! an entity ([`crate::core::engine::Engine::entity`]). Without such a mount nobody is known, and
//! tokens belong to no entity.

use std::collections::BTreeMap;

/// The name under which an auth method knows whoever logged in. One name at one mount is one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alias {
    /// The name, such as a user's or a role's id.
    pub name: String,
    /// What the method knows of the name. Not secret; policies can be templated with it.
    pub metadata: BTreeMap<String, String>,
}

/// An entity, as policies and requests see it at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityFacts {
    /// Its id: what tokens name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What people noted about it.
    pub metadata: BTreeMap<String, String>,
    /// Its own policies and those of all its groups, those of groups that hold its groups too:
    /// sorted, once each.
    pub policies: Vec<String>,
    /// Whether its tokens are refused.
    pub disabled: bool,
    /// Its aliases, by the accessor of the mount that they are of.
    pub aliases: BTreeMap<String, AliasFacts>,
    /// The groups that it is in, directly or through others.
    pub groups: Vec<GroupFacts>,
}

/// An entity's name at one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AliasFacts {
    /// The alias's id.
    pub id: String,
    /// The name.
    pub name: String,
    /// What the auth method said at the last login.
    pub metadata: BTreeMap<String, String>,
    /// What people noted about it.
    pub custom_metadata: BTreeMap<String, String>,
}

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What people noted about it.
    pub metadata: BTreeMap<String, String>,
}

impl EntityFacts {
    /// Returns what a template such as `identity.entity.metadata.team` stands for; `None` if it
    /// stands for nothing.
    pub fn value(&self, template: &str) -> Option<&str> {
        let rest = template.strip_prefix("identity.")?;
        if let Some(rest) = rest.strip_prefix("entity.") {
            return self.of_entity(rest);
        }
        let rest = rest.strip_prefix("groups.")?;
        if let Some(rest) = rest.strip_prefix("ids.") {
            let (id, field) = rest.split_once('.')?;
            let group = self.groups.iter().find(|group| group.id == id)?;
            return match field {
                "name" => Some(&group.name),
                _ => Some(group.metadata.get(field.strip_prefix("metadata.")?)?),
            };
        }
        let rest = rest.strip_prefix("names.")?;
        // A name may hold dots: the longest that fits is meant.
        let group = |name: &str| self.groups.iter().find(|group| group.name == name);
        rest.rmatch_indices('.').find_map(|(dot, _)| {
            let (name, field) = (&rest[..dot], &rest[dot + 1..]);
            match field.strip_prefix("metadata.") {
                Some(key) => Some(group(name)?.metadata.get(key)?.as_str()),
                None if field == "id" => Some(group(name)?.id.as_str()),
                None => None,
            }
        })
    }

    fn of_entity(&self, rest: &str) -> Option<&str> {
        match rest {
            "id" => return Some(&self.id),
            "name" => return Some(&self.name),
            _ => {}
        }
        if let Some(key) = rest.strip_prefix("metadata.") {
            return Some(self.metadata.get(key)?);
        }
        let (accessor, field) = rest.strip_prefix("aliases.")?.split_once('.')?;
        let alias = self.aliases.get(accessor)?;
        match field {
            "id" => return Some(&alias.id),
            "name" => return Some(&alias.name),
            _ => {}
        }
        match field.strip_prefix("custom_metadata.") {
            Some(key) => Some(alias.custom_metadata.get(key)?),
            None => Some(alias.metadata.get(field.strip_prefix("metadata.")?)?),
        }
    }
}

#[cfg(test)]
mod tests;
