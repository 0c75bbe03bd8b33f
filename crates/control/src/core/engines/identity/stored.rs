//! What the mount `identity/` stores of people and groups.

use std::collections::BTreeMap;
use std::fmt;

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};

use crate::core::engines::identity::names::Name;
use crate::core::entropy::Entropy;

/// Letters of an id: a UUID's.
const ID_BYTES: usize = 36;

/// Defines an id that is 36 letters: the form of a UUID in lower case.
macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Draws a new one.
            pub fn draw(entropy: &mut Entropy) -> Self {
                Self(entropy.uuid())
            }

            /// Parses one, in either case; `None` if the text is none.
            pub fn parse(text: &str) -> Option<Self> {
                let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
                (text.len() == ID_BYTES && text.chars().all(plain))
                    .then(|| Self(text.to_ascii_lowercase()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(EntityId, "Names an entity for ever.");
id!(GroupId, "Names a group for ever.");
id!(AliasId, "Names an alias for ever.");

/// What people tell of an entity, a group or an alias.
pub type Metadata = BTreeMap<String, String>;

/// A name of an entity or an external group at an auth method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// Its id.
    pub id: AliasId,
    /// The auth method's accessor.
    pub accessor: String,
    /// The name there, folded as the method folds it.
    pub name: String,
    /// What the auth method told at the last login.
    #[serde(default)]
    pub metadata: Metadata,
    /// What people told.
    #[serde(default)]
    pub custom: Metadata,
    /// The entities that had it before they were merged.
    #[serde(default)]
    pub merged_from: Vec<EntityId>,
    /// When it was made.
    pub created: UnixTime,
    /// When it was last changed.
    pub updated: UnixTime,
}

/// Somebody, by whatever method he logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its id.
    pub id: EntityId,
    /// Its name; no two differ by case or Unicode form alone.
    pub name: Name,
    /// What people tell of it.
    #[serde(default)]
    pub metadata: Metadata,
    /// Policies besides those of its tokens; never `root`.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Whether its tokens are refused.
    #[serde(default)]
    pub disabled: bool,
    /// Its names; one at each auth method.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// The groups that it is a member of by itself.
    #[serde(default)]
    pub groups: Vec<GroupId>,
    /// Entities that were merged into it.
    #[serde(default)]
    pub merged: Vec<EntityId>,
    /// When it was made.
    pub created: UnixTime,
    /// When it was last changed.
    pub updated: UnixTime,
}

/// Whether people or an auth method say who is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// People.
    Internal,
    /// An auth method, by the group's alias.
    External,
}

impl GroupKind {
    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// A group: its members have its policies and those of the groups that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name; no two differ by case or Unicode form alone.
    pub name: Name,
    /// Who says who is in it.
    pub kind: GroupKind,
    /// What people tell of it.
    #[serde(default)]
    pub metadata: Metadata,
    /// Its policies; never `root`.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The entities in it.
    #[serde(default)]
    pub entities: Vec<EntityId>,
    /// The groups in it.
    #[serde(default)]
    pub members: Vec<GroupId>,
    /// The groups that it is in.
    #[serde(default)]
    pub parents: Vec<GroupId>,
    /// Its name at an auth method, if it is external.
    #[serde(default)]
    pub alias: Option<Alias>,
    /// How often it was changed.
    #[serde(default)]
    pub index: u64,
    /// When it was made.
    pub created: UnixTime,
    /// When it was last changed.
    pub updated: UnixTime,
}
