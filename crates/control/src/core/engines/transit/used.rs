//! The keys that one request uses, and how often.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::material::Material;
use super::named::Named;
use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// The versions' keys that a request uses, each with how often.
#[derive(Default)]
pub(super) struct Used(BTreeMap<u32, (Arc<Material>, u64)>);

impl Used {
    pub fn get(
        &mut self,
        ctx: &mut Context<'_, '_>,
        named: &Named<'_>,
        version: u32,
    ) -> Result<Arc<Material>, Refusal> {
        if let Some((known, times)) = self.0.get_mut(&version) {
            *times += 1;
            return Ok(Arc::clone(known));
        }
        let found = named.material(ctx, version)?;
        self.0.insert(version, (Arc::clone(&found), 1));
        Ok(found)
    }

    pub fn counts(self) -> Vec<(u32, Arc<Material>, u64)> {
        let each = self.0.into_iter();
        each.map(|(version, (material, times))| (version, material, times))
            .collect()
    }
}
