//! Which digest a name meant when it was pushed to this node.

use std::collections::BTreeMap;

use bastide_stack::{Digest, ImageRef};
use serde::{Deserialize, Serialize};

/// Most names. The program refuses more instead of forgetting one.
pub const NAMES_MAX: usize = 10_000;

/// Names in their one spelling, and what they mean. This is also the stored format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Version of the format.
    format: u32,
    names: BTreeMap<String, Digest>,
}

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node already knows {NAMES_MAX} names of images")]
pub struct Full;

impl Names {
    /// The format that this program writes.
    pub const FORMAT: u32 = 1;

    pub fn new() -> Self {
        Self {
            format: Self::FORMAT,
            names: BTreeMap::new(),
        }
    }

    /// Whether this program can read the table.
    pub fn is_known_format(&self) -> bool {
        self.format == Self::FORMAT
    }

    pub fn get(&self, image: &ImageRef) -> Option<Digest> {
        self.names.get(&canonical(image)).copied()
    }

    pub fn insert(&mut self, image: &ImageRef, digest: Digest) -> Result<(), Full> {
        let name = canonical(image);
        if NAMES_MAX <= self.names.len() && !self.names.contains_key(&name) {
            return Err(Full);
        }
        self.names.insert(name, digest);
        Ok(())
    }

    /// Forgets the names whose digest does not hold.
    pub fn retain(&mut self, mut holds: impl FnMut(Digest) -> bool) {
        self.names.retain(|_, digest| holds(*digest));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.names
            .iter()
            .map(|(name, digest)| (name.as_str(), *digest))
    }
}

/// The one spelling of a name: `hello`, `docker.io/library/hello` and `hello:latest` are one image.
fn canonical(image: &ImageRef) -> String {
    let name = image.name();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    format!("{name}:{}", image.tag().unwrap_or("latest"))
}
