//! Taking the data of the first version over: each value becomes the first version of its key.
//!
//! The data moves from the mount's old storage to its new one in pieces, each of which is one commit;
//! what is in between is in one of the two.

use bastide_store::KeyRange;
use serde_json::Value;

use super::{Meta, Version, meta_at, version_at};
use crate::core::engine::Context;
use crate::core::mounts;
use crate::core::refusal::Refusal;
use crate::core::tables;

/// Most values that one step takes over.
const STEP_MAX: usize = 256;

/// What Vault says meanwhile; clients try again.
pub(crate) const UNDER_WAY: &str = "Upgrading from non-versioned to versioned data. This backend \
    will be unavailable for a brief period and will resume service shortly.";

/// Takes over a piece. Returns whether nothing is left.
pub(crate) fn step(ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
    let Some(old) = ctx.mount.converts else {
        return Ok(true);
    };
    let now = ctx.now();
    let all = KeyRange::prefix(tables::ENGINE, old.0);
    let keys = ctx.draft.keys(&all, STEP_MAX)?;
    for key in &keys {
        let path = std::str::from_utf8(&key.rest()[old.0.len()..])
            .map_err(|error| Refusal::corrupt("key", error))?
            .to_owned();
        let data: Value = ctx
            .draft
            .load(key)?
            .ok_or_else(|| Refusal::corrupt("key", "listed but absent"))?;
        let mut meta = Meta::new(now);
        meta.current = 1;
        meta.versions.insert(
            1,
            Version {
                created: now,
                deleted: None,
                destroyed: false,
            },
        );
        ctx.save(&version_at(&path, 1), &data)?;
        ctx.save(&meta_at(&path), &meta)?;
        ctx.draft.delete(key.clone());
    }
    Ok(keys.len() < STEP_MAX)
}

/// Does the next step, and opens the mount after the last. Returns whether there is more to do.
pub(super) fn tend(ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
    if ctx.mount.converts.is_none() {
        return Ok(false);
    }
    if !step(ctx)? {
        return Ok(true);
    }
    let mut mount = (*ctx.mount).clone();
    mount.converts = None;
    mounts::save(ctx.draft, &mount)?;
    Ok(false)
}
