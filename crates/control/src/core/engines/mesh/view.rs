//! The entries of the view, in the storage of the mount `mesh/`.
//!
//! Each stands at `view/<entry>` as the text that members get, byte for byte, so that what is signed
//! is what is stored, and a watch needs to know nothing of engines.

use std::collections::BTreeMap;

use bastide_api::EntryKey;
use bastide_api::history::{HISTORY, History, LOG_KEY};
use bastide_store::{BarrierError, Key, KeyRange, OpenSnapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::audit::log;
use crate::core::draft::key;
use crate::core::engine::Context;
use crate::core::mounts::MountId;
use crate::core::refusal::Refusal;
use crate::core::tables;

/// The mount whose storage holds the view.
pub const MOUNT: &str = "mesh/";

const PREFIX: &str = "view/";
/// Most entries of a view. Agents take no more either.
const ENTRIES_MAX: usize = 16_384;

/// Writes an entry of the view. `ctx` may be of any mount.
pub fn publish(
    ctx: &mut Context<'_, '_>,
    entry: &EntryKey,
    value: &impl Serialize,
) -> Result<(), Refusal> {
    ctx.within(MOUNT)?.save(&format!("{PREFIX}{entry}"), value)
}

/// Writes the history that stands in the view.
pub(super) fn publish_history(ctx: &mut Context<'_, '_>, history: &History) -> Result<(), Refusal> {
    ctx.within(MOUNT)?
        .save(&format!("{PREFIX}{HISTORY}"), history)
}

/// Writes the key that verifies checkpoints of the audit log into the view.
pub(super) fn publish_log_key(ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
    let key = log::key(ctx.draft.source().barrier()).to_string();
    ctx.within(MOUNT)?.save(&format!("{PREFIX}{LOG_KEY}"), &key)
}

/// Reads the history that stands in the view.
pub(super) fn read_history(ctx: &mut Context<'_, '_>) -> Result<Option<History>, Refusal> {
    ctx.within(MOUNT)?.load(&format!("{PREFIX}{HISTORY}"))
}

/// Takes an entry out of the view. `ctx` may be of any mount.
pub fn withdraw(ctx: &mut Context<'_, '_>, entry: &EntryKey) -> Result<(), Refusal> {
    ctx.within(MOUNT)?.delete(&format!("{PREFIX}{entry}"));
    Ok(())
}

/// Reads an entry of the view. `ctx` may be of any mount.
pub fn read<T: DeserializeOwned>(
    ctx: &mut Context<'_, '_>,
    entry: &EntryKey,
) -> Result<Option<T>, Refusal> {
    ctx.within(MOUNT)?.load(&format!("{PREFIX}{entry}"))
}

/// Returns the keys of the entries that begin with `prefix`, without it. `ctx` may be of any mount.
pub fn list(ctx: &mut Context<'_, '_>, prefix: &str) -> Result<Vec<String>, Refusal> {
    ctx.within(MOUNT)?.keys(&format!("{PREFIX}{prefix}"))
}

/// Returns which entry of the view a key of the store is, if it is one; `mount` is that of `mesh/`.
pub fn entry_of(mount: MountId, key: &Key) -> Option<&str> {
    if key.table() != tables::ENGINE {
        return None;
    }
    let rest = key.rest().strip_prefix(&mount.0)?;
    std::str::from_utf8(rest.strip_prefix(PREFIX.as_bytes())?).ok()
}

/// Returns all entries of the view.
pub fn entries(
    snapshot: &OpenSnapshot,
    mount: MountId,
) -> Result<BTreeMap<String, String>, BarrierError> {
    let prefix = [&mount.0, PREFIX.as_bytes()].concat();
    let range = KeyRange::prefix(tables::ENGINE, prefix);
    let found = snapshot.range(&range, ENTRIES_MAX)?;
    Ok(found
        .into_iter()
        .filter_map(|(key, value)| {
            let entry = entry_of(mount, &key)?.to_owned();
            Some((entry, text(value.expose())))
        })
        .collect())
}

/// Returns one entry of the view.
pub fn entry(
    snapshot: &OpenSnapshot,
    mount: MountId,
    entry: &str,
) -> Result<Option<String>, BarrierError> {
    let at = key(
        tables::ENGINE,
        &[&mount.0, PREFIX.as_bytes(), entry.as_bytes()],
    );
    let value = snapshot.get(&at)?;
    Ok(value.map(|value| text(value.expose())))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
