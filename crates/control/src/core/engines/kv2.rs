//! Key-value store with versions: `data`, `metadata`, `delete`, `undelete`, `destroy`, `subkeys`.
//!
//! ```text
//! meta/<path>              -> Meta: settings and what became of each version
//! version/<path>/<number>  -> a version's data; the number in 16 hexadecimal digits
//! config                   -> Config of the mount
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context, Engine};
use crate::core::fields::{Fields, go_duration};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::request::Operation;

mod settings;
pub(crate) mod upgrade;

use settings::{Config, KeySettings};

/// Versions kept where neither key nor mount says how many.
const VERSIONS_DEFAULT: u64 = 10;
/// Most versions of a key, whatever is asked for.
const VERSIONS_MAX: u64 = 1000;

/// The engine `kv` with option `version=2`.
pub struct KvV2;

/// What is known of a key besides its data.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    versions: BTreeMap<u64, Version>,
    current: u64,
    oldest: u64,
    created: UnixTime,
    updated: UnixTime,
    settings: KeySettings,
}

/// What became of a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Version {
    created: UnixTime,
    deleted: Option<UnixTime>,
    destroyed: bool,
}

impl Version {
    fn is_alive(&self, now: UnixTime) -> bool {
        !self.destroyed && self.deleted.is_none_or(|at| now < at)
    }
}

impl Meta {
    fn new(now: UnixTime) -> Self {
        Self {
            versions: BTreeMap::new(),
            current: 0,
            oldest: 0,
            created: now,
            updated: now,
            settings: KeySettings::default(),
        }
    }

    fn version_shown(&self, number: u64) -> Option<Map<String, Value>> {
        let version = self.versions.get(&number)?;
        let mut shown = Map::new();
        shown.insert("version".into(), number.into());
        shown.insert("created_time".into(), timestamp(version.created).into());
        let deleted = version.deleted.map(timestamp).unwrap_or_default();
        shown.insert("deletion_time".into(), deleted.into());
        shown.insert("destroyed".into(), version.destroyed.into());
        shown.insert(
            "custom_metadata".into(),
            json!(self.settings.custom_metadata),
        );
        Some(shown)
    }
}

fn meta_at(path: &str) -> String {
    format!("meta/{path}")
}

fn version_at(path: &str, number: u64) -> String {
    format!("version/{path}/{number:016x}")
}

fn meta(ctx: &mut Context<'_, '_>, path: &str) -> Result<Option<Meta>, Refusal> {
    ctx.load(&meta_at(path))
}

fn config(ctx: &mut Context<'_, '_>) -> Result<Config, Refusal> {
    Ok(ctx.load("config")?.unwrap_or_default())
}

impl Engine for KvV2 {
    fn kind(&self) -> &'static str {
        "kv-v2"
    }

    fn tends(&self) -> bool {
        true
    }

    fn tend(&self, ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
        upgrade::tend(ctx)
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.path.split_once('/') {
            Some(("data" | "metadata", path)) => Ok(Some(meta(ctx, path)?.is_some())),
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Patch, Read, Update};
        if ctx.mount.converts.is_some() {
            return Err(Refusal::invalid(upgrade::UNDER_WAY));
        }
        if call.folder && call.operation != List {
            // No key's path ends with a slash.
            return Ok(not_a_path());
        }
        let (part, path) = call.path.split_once('/').unwrap_or((call.path, ""));
        match (call.operation, part, path) {
            (Read, "config", "") => Ok(Answer::data(config(ctx)?.shown())),
            (Create | Update, "config", "") => {
                let mut config = config(ctx)?;
                config.update(call.fields())?;
                ctx.save("config", &config)?;
                Ok(Answer::done())
            }
            (List, "metadata", _) => list(ctx, path),
            (_, "data" | "metadata" | "delete" | "undelete" | "destroy" | "subkeys", "") => {
                Err(Refusal::UnsupportedPath)
            }
            (Read, "data", _) => read(ctx, call, path),
            (Create | Update, "data", _) => write(ctx, call, path),
            (Patch, "data", _) => patch(ctx, call, path),
            (Delete, "data", _) => {
                delete(ctx, path, None)?;
                Ok(Answer::done())
            }
            (Create | Update, "delete", _) => {
                let numbers = versions(call)?;
                delete(ctx, path, Some(&numbers))?;
                Ok(Answer::done())
            }
            (Create | Update, "undelete", _) => undelete(ctx, path, &versions(call)?),
            (Create | Update, "destroy", _) => destroy(ctx, path, &versions(call)?),
            (Read, "subkeys", _) => subkeys(ctx, call, path),
            (Read, "metadata", _) => match meta(ctx, path)? {
                Some(meta) => Ok(Answer::data(metadata_shown(&meta))),
                None => Err(Refusal::Absent),
            },
            (Create | Update, "metadata", _) => {
                if !KeySettings::touched_by(call.fields()) {
                    return Ok(Answer::done());
                }
                let now = ctx.now();
                let mut meta = meta(ctx, path)?.unwrap_or_else(|| Meta::new(now));
                meta.settings.update(call.fields())?;
                meta.updated = now;
                ctx.save(&meta_at(path), &meta)?;
                mandated(ctx, call)
            }
            (Patch, "metadata", _) => {
                let mut meta = meta(ctx, path)?.ok_or(Refusal::Absent)?;
                meta.settings.patch(call.fields())?;
                meta.updated = ctx.now();
                ctx.save(&meta_at(path), &meta)?;
                mandated(ctx, call)
            }
            (Delete, "metadata", _) => remove(ctx, path),
            (_, "config", "") => Err(Refusal::UnsupportedOperation),
            (_, "data" | "delete" | "undelete" | "destroy" | "subkeys", _) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Ok(not_a_path()),
        }
    }
}

fn not_a_path() -> Answer {
    Answer::from(Reply::AbsentData(Map::new())).warn(
        "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API \
         endpoints to use.",
    )
}

/// Says that a key cannot do without check-and-set where its mount wants it.
fn mandated(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let without = call.fields().flag("cas_required")? == Some(false);
    if without && config(ctx)?.cas_required {
        return Ok(Answer::done().warn(
            "\"cas_required\" set to false, but is mandated by backend config. This value will be \
             ignored.",
        ));
    }
    Ok(Answer::done())
}

fn list(ctx: &mut Context<'_, '_>, path: &str) -> Result<Answer, Refusal> {
    let folder = match path {
        "" => "meta/".to_owned(),
        path => format!("meta/{path}/"),
    };
    Answer::keys(ctx.list(&folder)?)
}

fn versions(call: &Call<'_>) -> Result<Vec<u64>, Refusal> {
    let numbers = call.fields().list("versions")?.unwrap_or_default();
    if numbers.is_empty() {
        return Err(Refusal::invalid("No version number provided"));
    }
    let wrong = || Refusal::invalid("version numbers must be positive integers");
    numbers
        .iter()
        .map(|number| number.parse().map_err(|_| wrong()))
        .collect()
}

/// A version that was asked for: the key's metadata, the number, and the data while it lives.
struct Found {
    meta: Arc<Meta>,
    number: u64,
    data: Option<Value>,
}

fn find(
    ctx: &mut Context<'_, '_>,
    fields: Fields<'_>,
    path: &str,
) -> Result<Option<Found>, Refusal> {
    let now = ctx.now();
    let Some(meta) = ctx.load_shared::<Meta>(&meta_at(path))? else {
        return Ok(None);
    };
    let number = match fields.count("version")?.unwrap_or(0) {
        0 => meta.current,
        number => number,
    };
    let Some(version) = meta.versions.get(&number) else {
        return Ok(None);
    };
    let data = if version.is_alive(now) {
        let data = ctx.load(&version_at(path, number))?;
        Some(data.ok_or_else(|| Refusal::corrupt("version", "its data is missing"))?)
    } else {
        None
    };
    Ok(Some(Found { meta, number, data }))
}

fn read(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let found = find(ctx, call.fields(), path)?.ok_or(Refusal::Absent)?;
    let shown = found.meta.version_shown(found.number);
    let mut data = Map::new();
    let alive = found.data.is_some();
    data.insert("data".into(), found.data.unwrap_or(Value::Null));
    data.insert("metadata".into(), shown.map_or(Value::Null, Value::Object));
    Ok(if alive {
        Answer::data(data)
    } else {
        Reply::AbsentData(data).into()
    })
}

fn given(call: &Call<'_>) -> Result<Map<String, Value>, Refusal> {
    match call.data.get("data") {
        Some(Value::Object(data)) => Ok(data.clone()),
        Some(Value::Null) | None => Err(Refusal::invalid("no data provided")),
        Some(_) => Err(Refusal::invalid("data must be a map")),
    }
}

/// Judges the option `cas`: 0 means that the key must not have a version yet.
fn check_and_set(call: &Call<'_>, config: &Config, meta: &Meta) -> Result<(), Refusal> {
    let options = call.fields().object("options")?;
    let cas = match options {
        Some(options) => Fields(options)
            .int("cas")
            .map_err(|_| Refusal::invalid("error parsing check-and-set parameter"))?,
        None => None,
    };
    match cas {
        Some(cas) if u64::try_from(cas) != Ok(meta.current) => Err(Refusal::invalid(
            "check-and-set parameter did not match the current version",
        )),
        None if config.cas_required || meta.settings.cas_required => Err(Refusal::invalid(
            "check-and-set parameter required for this call",
        )),
        _ => Ok(()),
    }
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let data = given(call)?;
    let now = ctx.now();
    let config = config(ctx)?;
    let meta = meta(ctx, path)?.unwrap_or_else(|| Meta::new(now));
    check_and_set(call, &config, &meta)?;
    append(ctx, path, &config, meta, Value::Object(data))
}

fn patch(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let change = given(call)?;
    let known = meta(ctx, path)?.ok_or(Refusal::Absent)?;
    let config = config(ctx)?;
    check_and_set(call, &config, &known)?;
    let empty = Map::new();
    let found = find(ctx, Fields(&empty), path)?.ok_or(Refusal::Absent)?;
    let Some(mut data) = found.data else {
        // As a write answers, not as a read does.
        let shown = found.meta.version_shown(found.number);
        return Ok(Reply::AbsentData(shown.unwrap_or_default()).into());
    };
    merge(&mut data, &Value::Object(change));
    append(ctx, path, &config, known, data)
}

/// Merges a patch (RFC 7396): objects deeply, null deletes, all else replaces.
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(object) = into {
        for (key, value) in patch {
            if value.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Writes the next version, and drops those beyond the number to keep.
fn append(
    ctx: &mut Context<'_, '_>,
    path: &str,
    config: &Config,
    mut meta: Meta,
    data: Value,
) -> Result<Answer, Refusal> {
    let now = ctx.now();
    meta.current += 1;
    meta.updated = now;
    let version = Version {
        created: now,
        deleted: delete_after(config, &meta.settings).map(|after| now.plus(after)),
        destroyed: false,
    };
    meta.versions.insert(meta.current, version);
    let keep = match meta.settings.max_versions.max(config.max_versions) {
        0 => VERSIONS_DEFAULT,
        keep => keep.min(VERSIONS_MAX),
    };
    // What is told as the oldest is 0 until as many are there as are kept, as in Vault.
    if keep <= meta.current - meta.oldest {
        meta.oldest = meta.current - keep + 1;
    }
    while let Some(first) = meta.versions.first_entry() {
        if meta.oldest <= *first.key() {
            break;
        }
        ctx.delete(&version_at(path, *first.key()));
        first.remove();
    }
    ctx.save(&version_at(path, meta.current), &data)?;
    ctx.save(&meta_at(path), &meta)?;
    let shown = meta.version_shown(meta.current);
    Ok(Answer::data(shown.expect("the version was just written")))
}

/// Returns the smaller delay of mount and key; zero means none, and so does a mount that never deletes.
fn delete_after(config: &Config, settings: &KeySettings) -> Option<Duration> {
    if config.never_deletes {
        return None;
    }
    [config.delete_version_after, settings.delete_version_after]
        .into_iter()
        .filter(|millis| *millis != 0)
        .min()
        .map(Duration::from_millis)
}

fn delete(ctx: &mut Context<'_, '_>, path: &str, numbers: Option<&[u64]>) -> Result<(), Refusal> {
    let now = ctx.now();
    let Some(mut meta) = meta(ctx, path)? else {
        return Ok(());
    };
    let current = [meta.current];
    for number in numbers.unwrap_or(&current) {
        if let Some(version) = meta.versions.get_mut(number)
            && version.is_alive(now)
        {
            version.deleted = Some(now);
        }
    }
    ctx.save(&meta_at(path), &meta)
}

fn undelete(ctx: &mut Context<'_, '_>, path: &str, numbers: &[u64]) -> Result<Answer, Refusal> {
    let config = config(ctx)?;
    let now = ctx.now();
    let Some(mut meta) = meta(ctx, path)? else {
        return Ok(Answer::done());
    };
    let after = delete_after(&config, &meta.settings);
    for number in numbers {
        if let Some(version) = meta.versions.get_mut(number)
            && !version.destroyed
        {
            version.deleted = after.map(|after| now.plus(after));
        }
    }
    ctx.save(&meta_at(path), &meta)?;
    Ok(Answer::done())
}

fn destroy(ctx: &mut Context<'_, '_>, path: &str, numbers: &[u64]) -> Result<Answer, Refusal> {
    let Some(mut meta) = meta(ctx, path)? else {
        return Ok(Answer::done());
    };
    for number in numbers {
        if let Some(version) = meta.versions.get_mut(number) {
            version.destroyed = true;
            ctx.delete(&version_at(path, *number));
        }
    }
    ctx.save(&meta_at(path), &meta)?;
    Ok(Answer::done())
}

fn remove(ctx: &mut Context<'_, '_>, path: &str) -> Result<Answer, Refusal> {
    if let Some(meta) = meta(ctx, path)? {
        for number in meta.versions.keys() {
            ctx.delete(&version_at(path, *number));
        }
        ctx.delete(&meta_at(path));
    }
    Ok(Answer::done())
}

fn metadata_shown(meta: &Meta) -> Map<String, Value> {
    let versions: Map<String, Value> = meta
        .versions
        .iter()
        .map(|(number, version)| {
            let shown = json!({
                "created_time": timestamp(version.created),
                "deletion_time": version.deleted.map(timestamp).unwrap_or_default(),
                "destroyed": version.destroyed,
            });
            (number.to_string(), shown)
        })
        .collect();
    let mut shown = Map::new();
    shown.insert("versions".into(), Value::Object(versions));
    shown.insert("current_version".into(), meta.current.into());
    shown.insert("oldest_version".into(), meta.oldest.into());
    shown.insert("created_time".into(), timestamp(meta.created).into());
    shown.insert("updated_time".into(), timestamp(meta.updated).into());
    shown.insert("max_versions".into(), meta.settings.max_versions.into());
    shown.insert("cas_required".into(), meta.settings.cas_required.into());
    let after = Duration::from_millis(meta.settings.delete_version_after);
    shown.insert("delete_version_after".into(), go_duration(after).into());
    shown.insert(
        "custom_metadata".into(),
        json!(meta.settings.custom_metadata),
    );
    shown
}

fn subkeys(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let depth = call.fields().count("depth")?.unwrap_or(0);
    let found = find(ctx, call.fields(), path)?.ok_or(Refusal::Absent)?;
    let shown = found.meta.version_shown(found.number);
    let mut answer = Map::new();
    let alive = found.data.is_some();
    let keys = found
        .data
        .map_or(Value::Null, |data| hollow(&data, depth, 1));
    answer.insert("subkeys".into(), keys);
    answer.insert("metadata".into(), json!(shown));
    Ok(if alive {
        Answer::data(answer)
    } else {
        Reply::AbsentData(answer).into()
    })
}

/// Returns the keys of an object with null for each value, down to `depth` if that is not 0.
fn hollow(value: &Value, depth: u64, level: u64) -> Value {
    match value {
        Value::Object(object) if depth == 0 || level <= depth => {
            let hollowed = object
                .iter()
                .map(|(key, value)| (key.clone(), hollow(value, depth, level + 1)))
                .collect();
            Value::Object(hollowed)
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
