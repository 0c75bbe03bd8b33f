//! The settings of a mount and of a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::fields::{Fields, go_duration};
use crate::core::refusal::Refusal;

/// Most entries of custom metadata.
const CUSTOM_MAX: usize = 64;
const CUSTOM_KEY_BYTES_MAX: usize = 128;
const CUSTOM_VALUE_BYTES_MAX: usize = 512;

/// The settings of a mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Config {
    pub max_versions: u64,
    pub cas_required: bool,
    /// In milliseconds; 0: never.
    pub delete_version_after: u64,
}

impl Config {
    pub(super) fn shown(&self) -> Map<String, Value> {
        let after = std::time::Duration::from_millis(self.delete_version_after);
        let mut shown = Map::new();
        shown.insert("max_versions".into(), self.max_versions.into());
        shown.insert("cas_required".into(), self.cas_required.into());
        shown.insert("delete_version_after".into(), go_duration(after).into());
        shown
    }

    pub(super) fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        if let Some(number) = fields.count("max_versions")? {
            self.max_versions = number;
        }
        if let Some(flag) = fields.flag("cas_required")? {
            self.cas_required = flag;
        }
        if let Some(millis) = delete_after(fields)? {
            self.delete_version_after = millis;
        }
        Ok(())
    }
}

/// The settings of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct KeySettings {
    pub max_versions: u64,
    pub cas_required: bool,
    /// In milliseconds; 0: as the mount says.
    pub delete_version_after: u64,
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

const NAMES: [&str; 4] = [
    "max_versions",
    "cas_required",
    "delete_version_after",
    "custom_metadata",
];

impl KeySettings {
    pub(super) fn touched_by(fields: Fields<'_>) -> bool {
        NAMES.iter().any(|name| fields.get(name).is_some())
    }

    pub(super) fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        if let Some(number) = fields.count("max_versions")? {
            self.max_versions = number;
        }
        if let Some(flag) = fields.flag("cas_required")? {
            self.cas_required = flag;
        }
        if let Some(millis) = delete_after(fields)? {
            self.delete_version_after = millis;
        }
        if let Some(custom) = fields.pairs("custom_metadata")? {
            check_custom(&custom)?;
            self.custom_metadata = Some(custom);
        }
        Ok(())
    }

    /// Merges: null resets a setting, and deletes an entry of the custom metadata.
    pub(super) fn patch(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        let reset = |name: &str| fields.0.get(name).is_some_and(Value::is_null);
        if reset("max_versions") {
            self.max_versions = 0;
        }
        if reset("cas_required") {
            self.cas_required = false;
        }
        if reset("delete_version_after") {
            self.delete_version_after = 0;
        }
        if reset("custom_metadata") {
            self.custom_metadata = None;
        }
        let mut others = fields.0.clone();
        if let Some(Value::Object(change)) = others.remove("custom_metadata") {
            let mut custom = json!(self.custom_metadata.clone().unwrap_or_default());
            super::merge(&mut custom, &Value::Object(change));
            let merged = Map::from_iter([("custom_metadata".to_owned(), custom)]);
            self.update(Fields(&merged))?;
        }
        self.update(Fields(&others))
    }
}

/// Returns the delay in milliseconds, if given; a negative one means none.
fn delete_after(fields: Fields<'_>) -> Result<Option<u64>, Refusal> {
    match fields.get("delete_version_after") {
        Some(Value::String(text)) if text.starts_with('-') => Ok(Some(0)),
        Some(Value::Number(number)) if number.as_i64().is_some_and(|it| it < 0) => Ok(Some(0)),
        _ => Ok(fields
            .duration("delete_version_after")?
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX))),
    }
}

fn check_custom(custom: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let wrong = |why: &str| {
        Err(Refusal::invalid(format!(
            "custom_metadata validation failed: {why}"
        )))
    };
    if CUSTOM_MAX < custom.len() {
        return wrong("payload must contain at most 64 keys");
    }
    for (key, value) in custom {
        let printable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !printable(key) || !printable(value) {
            return wrong("keys and values must be printable and not empty");
        }
        if CUSTOM_KEY_BYTES_MAX < key.len() || CUSTOM_VALUE_BYTES_MAX < value.len() {
            return wrong("a key has at most 128 bytes and a value at most 512");
        }
    }
    Ok(())
}
