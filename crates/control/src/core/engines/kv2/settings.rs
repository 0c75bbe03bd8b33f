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
    /// In milliseconds; 0: as the key says.
    pub delete_version_after: u64,
    /// Whether no version is deleted by time, whatever its key says.
    #[serde(default)]
    pub never_deletes: bool,
}

impl Config {
    pub(super) fn shown(&self) -> Map<String, Value> {
        let after = if self.never_deletes {
            // A negative duration, as it was given.
            "-1s".to_owned()
        } else {
            go_duration(std::time::Duration::from_millis(self.delete_version_after))
        };
        let mut shown = Map::new();
        shown.insert("max_versions".into(), self.max_versions.into());
        shown.insert("cas_required".into(), self.cas_required.into());
        shown.insert("delete_version_after".into(), after.into());
        shown
    }

    pub(super) fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        if let Some(number) = fields.count("max_versions")? {
            self.max_versions = number;
        }
        if let Some(flag) = fields.flag("cas_required")? {
            self.cas_required = flag;
        }
        match delete_after(fields)? {
            None => {}
            Some(After::Never) => {
                self.delete_version_after = 0;
                self.never_deletes = true;
            }
            Some(After::Millis(millis)) => {
                self.delete_version_after = millis;
                self.never_deletes = false;
            }
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
        match delete_after(fields)? {
            None => {}
            Some(After::Never) => {
                return Err(Refusal::invalid(
                    "cannot provide negative value for delete_version_after",
                ));
            }
            Some(After::Millis(millis)) => self.delete_version_after = millis,
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

/// After which time a version is deleted.
enum After {
    /// In milliseconds.
    Millis(u64),
    /// Never: a negative time was given.
    Never,
}

/// Returns the delay, if given.
fn delete_after(fields: Fields<'_>) -> Result<Option<After>, Refusal> {
    match fields.get("delete_version_after") {
        Some(Value::String(text)) if text.starts_with('-') => Ok(Some(After::Never)),
        Some(Value::Number(number)) if number.as_i64().is_some_and(|it| it < 0) => {
            Ok(Some(After::Never))
        }
        _ => Ok(fields.duration("delete_version_after")?.map(|after| {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            // Less than a millisecond is not *never*.
            After::Millis(millis.max(u64::from(!after.is_zero())))
        })),
    }
}

fn check_custom(custom: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let wrong = |why: String| {
        Err(Refusal::invalid(format!(
            "custom_metadata validation failed: {why}"
        )))
    };
    if CUSTOM_MAX < custom.len() {
        return wrong(format!(
            "payload must contain at most {CUSTOM_MAX} keys, provided {}",
            custom.len()
        ));
    }
    for (key, value) in custom {
        let (key_len, value_len) = (key.len(), value.len());
        if key_len == 0 || CUSTOM_KEY_BYTES_MAX < key_len {
            return wrong(format!(
                "length of key {key:?} is {key_len} but must be 0 < len(key) <= \
                 {CUSTOM_KEY_BYTES_MAX}"
            ));
        }
        if value_len == 0 || CUSTOM_VALUE_BYTES_MAX < value_len {
            return wrong(format!(
                "length of value for key {key:?} is {value_len} but must be 0 < len(value) <= \
                 {CUSTOM_VALUE_BYTES_MAX}"
            ));
        }
        if key.chars().any(char::is_control) {
            return wrong(format!("key {key:?} contains unprintable characters"));
        }
        if value.chars().any(char::is_control) {
            return wrong(format!(
                "value for key {key:?} contains unprintable characters"
            ));
        }
    }
    Ok(())
}
