//! Parsed keys, remembered: parsing is a function of what is stored, so this changes nothing but
//! time. They live in the engine, and go with it when the server is sealed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::material::Material;
use super::stored::{self, Ring};
use crate::core::engine::Context;
use crate::core::mounts::MountId;
use crate::core::refusal::Refusal;

/// Most parsed keys of either generation: an RSA pair takes some 5 KB.
const GENERATION_MAX: usize = 2048;

type Place = (MountId, u32, String);

/// Parsed keys. What was not used while as many others were goes first.
#[derive(Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: BTreeMap<Place, (u64, Arc<Material>)>,
    old: BTreeMap<Place, (u64, Arc<Material>)>,
}

impl Generations {
    fn find(&mut self, place: &Place, epoch: u64) -> Option<Arc<Material>> {
        if let Some((at, found)) = self.young.get(place) {
            return (*at == epoch).then(|| Arc::clone(found));
        }
        let (at, found) = self.old.remove(place)?;
        let result = (at == epoch).then(|| Arc::clone(&found));
        self.insert(place.clone(), at, found);
        result
    }

    fn insert(&mut self, place: Place, epoch: u64, material: Arc<Material>) {
        if GENERATION_MAX <= self.young.len() {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, (epoch, material));
    }
}

impl Cache {
    /// Returns a version's keys. `ring` is the key as it is stored now.
    pub(super) fn material(
        &self,
        ctx: &mut Context<'_, '_>,
        ring: &Ring,
        name: &str,
        number: u32,
    ) -> Result<Arc<Material>, Refusal> {
        let place = (ctx.mount.id, number, name.to_owned());
        let known = self.lock().find(&place, ring.epoch);
        if let Some(found) = known {
            return Ok(found);
        }
        let version = stored::version(ctx, name, number)?;
        let parsed = Material::parse(ring.kind, ring.derived, &version);
        let parsed =
            parsed.ok_or_else(|| Refusal::corrupt("key version", "it cannot be parsed"))?;
        let parsed = Arc::new(parsed);
        // What is written in this decision may never be committed, so it is not remembered.
        if !ctx.draft.is_written() {
            self.lock().insert(place, ring.epoch, Arc::clone(&parsed));
        }
        Ok(parsed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many keys are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let known = self.lock();
        known.young.len() + known.old.len()
    }
}
