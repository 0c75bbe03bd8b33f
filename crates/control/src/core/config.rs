//! Vault's configuration file, in HCL or JSON: listeners, storage, seals, times to live, and our own
//! `compat`. Texts in, settings and warnings out; no file is read here.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::fields::{Fields, parse_bool, parse_duration};
use crate::core::lockout::Configured;
use crate::core::mounts::TTL_DEFAULT;
use crate::core::policy::hcl;

mod listener;
mod seals;

pub use listener::{ClientCertificates, Encryption, ListenerSettings};
use seals::Meant;
pub use seals::{SealSettings, TransitSettings};

/// Longest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Most listeners of a server.
const LISTENERS_MAX: usize = 64;

/// Whose defaults hold where Vault's clients need what strangers should not be given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compat {
    /// As OpenBao: `sys/generate-root` and `sys/rekey` take a token, and audit devices are made in the
    /// configuration.
    #[default]
    Strict,
    /// As Vault: both are open to whoever reaches the server, and root may make audit devices.
    Vault,
}

/// How long leases and tokens live where neither mount nor request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttls {
    /// Where nothing is asked for. Not zero, and not longer than `max`.
    pub default: Duration,
    /// At most. Not zero.
    pub max: Duration,
}

impl Default for Ttls {
    fn default() -> Self {
        Self {
            default: TTL_DEFAULT,
            max: TTL_DEFAULT,
        }
    }
}

/// Where a server keeps what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In memory: it ends with the process.
    Memory,
    /// In a folder.
    Folder(PathBuf),
}

/// What configuration files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the API is served; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Where it is kept.
    pub storage: Storage,
    /// What opens the store by itself; none: shares alone open it.
    pub seals: Vec<SealSettings>,
    /// Kinds of seals that no longer open the store.
    pub seals_disabled: Vec<String>,
    /// Whose defaults hold.
    pub compat: Compat,
    /// How long things live.
    pub ttls: Ttls,
    /// When names of auth methods are locked.
    pub lockouts: Configured,
    /// What the cluster is called.
    pub cluster_name: Option<String>,
    /// Which messages are logged, in Vault's words.
    pub log_level: Option<String>,
    /// Where the process notes its number.
    pub pid_file: Option<PathBuf>,
    /// What is in the files and means nothing here; for the log.
    pub warnings: Vec<String>,
}

/// Why a configuration cannot be used: in which file, what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration `{file}`: {what}")]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// Reads files, each by its name and text; what a later one says replaces what an earlier one said, but
/// listeners and seals add up.
pub fn parse(files: &[(String, String)]) -> Result<Config, ConfigError> {
    let mut draft = Draft::default();
    for (file, text) in files {
        draft.read(file, text).map_err(|what| ConfigError {
            file: file.clone(),
            what,
        })?;
    }
    draft.finish().map_err(|what| ConfigError {
        file: files
            .last()
            .map_or_else(String::new, |(file, _)| file.clone()),
        what,
    })
}

/// Something that a file says, at a line if that is known.
struct Entry {
    line: Option<usize>,
    key: String,
    label: Option<String>,
    value: Value,
}

/// What holds labelled blocks.
const BLOCKS: &[&str] = &[
    "listener",
    "storage",
    "backend",
    "seal",
    "ha_storage",
    "ha_backend",
    "user_lockout",
];
/// What Vault knows, and what makes no difference here whatever it says.
const SILENT: &[&str] = &[
    "disable_mlock",
    "disable_cache",
    "cache_size",
    "disable_clustering",
    "api_addr",
    "cluster_addr",
    "log_format",
    "disable_printable_check",
    "disable_sealwrap",
    "disable_performance_standby",
    "disable_sentinel_trace",
];
/// What Vault knows, and what is not served here.
const UNSERVED: &[&str] = &[
    "administrative_namespace_path",
    "allow_audit_log_prefixing",
    "detect_deadlocks",
    "enable_multiseal",
    "enable_response_header_hostname",
    "enable_response_header_raft_node_id",
    "experiments",
    "imprecise_lease_role_tracking",
    "introspection_endpoint",
    "license_path",
    "log_file",
    "log_requests_level",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "plugin_directory",
    "plugin_file_permissions",
    "plugin_file_uid",
    "plugin_tmpdir",
    "raw_storage_endpoint",
    "reporting",
    "request_limiter",
    "service_registration",
    "telemetry",
    "unsafe_allow_api_audit_creation",
];

#[derive(Default)]
struct Draft {
    listeners: Vec<ListenerSettings>,
    storage: Option<Storage>,
    seals: Vec<SealSettings>,
    seals_disabled: Vec<String>,
    compat: Compat,
    default_ttl: Option<Duration>,
    max_ttl: Option<Duration>,
    lockouts: Configured,
    cluster_name: Option<String>,
    log_level: Option<String>,
    pid_file: Option<PathBuf>,
    warnings: Vec<String>,
}

impl Draft {
    fn read(&mut self, file: &str, text: &str) -> Result<(), String> {
        if CONFIG_BYTES_MAX < text.len() {
            return Err(format!("it is longer than {CONFIG_BYTES_MAX} bytes"));
        }
        for entry in entries(text)? {
            let at = match entry.line {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            };
            self.take(&at, entry).map_err(|what| match what.1 {
                Some(line) => format!("line {line}: {}", what.0),
                None => what.0,
            })?;
        }
        Ok(())
    }

    fn take(&mut self, at: &str, entry: Entry) -> Result<(), (String, Option<usize>)> {
        let line = entry.line;
        self.apply(at, entry).map_err(|what| (what, line))
    }

    fn apply(&mut self, at: &str, entry: Entry) -> Result<(), String> {
        let Entry {
            key, label, value, ..
        } = entry;
        match (key.as_str(), label) {
            ("listener", Some(kind)) => {
                if LISTENERS_MAX <= self.listeners.len() {
                    return Err(format!("more than {LISTENERS_MAX} listeners"));
                }
                let fields = Block::new(format!("listener {kind}"), value)?;
                let listener = ListenerSettings::read(&kind, fields, at, &mut self.warnings)?;
                self.listeners.push(listener);
            }
            ("storage" | "backend", Some(kind)) => {
                let fields = Block::new(format!("storage {kind}"), value)?;
                self.storage = Some(storage(&kind, fields, at, &mut self.warnings)?);
            }
            ("seal", Some(kind)) => {
                let fields = Block::new(format!("seal {kind}"), value)?;
                match SealSettings::read(&kind, fields, at, &mut self.warnings)? {
                    Meant::Seal(seal) => self.seals.push(seal),
                    Meant::Not(kind) => self.seals_disabled.push(kind),
                    Meant::Shares => {}
                }
            }
            ("user_lockout", Some(kind)) => {
                let block = Block::new(format!("user_lockout {kind}"), value)?;
                self.lock(kind, block, at)?;
            }
            ("ha_storage" | "ha_backend", _) => {
                return Err("`ha_storage` is not served: one server keeps its own store".to_owned());
            }
            ("entropy", _) => return Err("`entropy` is not served".to_owned()),
            (key, Some(_)) if BLOCKS.contains(&key) => return Err(format!("`{key}` has no kind")),
            (_, _) => self.plain(at, &key, &value)?,
        }
        Ok(())
    }

    fn lock(&mut self, kind: String, mut block: Block, at: &str) -> Result<(), String> {
        if !["all", "userpass", "ldap", "approle"].contains(&kind.as_str()) {
            return Err(format!(
                "user_lockout is of `all`, `userpass`, `ldap` or `approle`, and not `{}`",
                shown(&kind)
            ));
        }
        let fields: Map<String, Value> = [
            "lockout_threshold",
            "lockout_duration",
            "lockout_counter_reset",
            "disable_lockout",
        ]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), block.take(name)?)))
        .collect();
        let settings = self.lockouts.entry(kind).or_default();
        settings
            .update(Fields(&fields))
            .map_err(|refusal| refusal.to_string())?;
        block.rest(at, &mut self.warnings);
        Ok(())
    }

    fn plain(&mut self, at: &str, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "compat" => {
                self.compat = match text(key, value)?.as_str() {
                    "vault" => Compat::Vault,
                    "" | "strict" => Compat::Strict,
                    other => {
                        return Err(format!(
                            "compat is `vault` or `strict`, and not `{}`",
                            shown(other)
                        ));
                    }
                }
            }
            "default_lease_ttl" => self.default_ttl = duration(key, value)?,
            "max_lease_ttl" => self.max_ttl = duration(key, value)?,
            "cluster_name" => self.cluster_name = filled(key, value)?,
            "log_level" => self.log_level = filled(key, value)?,
            "pid_file" => self.pid_file = filled(key, value)?.map(PathBuf::from),
            "ui" => {
                if flag(key, value)? {
                    self.warnings
                        .push(format!("{at}: no user interface is served"));
                }
            }
            _ if SILENT.contains(&key) => {}
            _ if UNSERVED.contains(&key) => {
                self.warnings
                    .push(format!("{at}: `{key}` has no effect here"));
            }
            _ => self.warnings.push(unknown(key, at)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Config, String> {
        if self.listeners.is_empty() {
            return Err("no `listener` is configured".to_owned());
        }
        let storage = self
            .storage
            .ok_or("a `storage` is needed: `file`, `raft` (both kept in a folder) or `inmem`")?;
        let max = self.max_ttl.unwrap_or(TTL_DEFAULT);
        // A longest life that is shorter than the usual one is meant for both.
        let default = self.default_ttl.unwrap_or(TTL_DEFAULT.min(max));
        if max < default {
            return Err("default_lease_ttl is longer than max_lease_ttl".to_owned());
        }
        Ok(Config {
            listeners: self.listeners,
            storage,
            seals: self.seals,
            seals_disabled: self.seals_disabled,
            compat: self.compat,
            ttls: Ttls { default, max },
            lockouts: self.lockouts,
            cluster_name: self.cluster_name,
            log_level: self.log_level,
            pid_file: self.pid_file,
            warnings: self.warnings,
        })
    }
}

/// Reads a text in whichever of the two languages it is.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    if text.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("line {}: it is not valid JSON", error.line()))?;
        let Value::Object(fields) = value else {
            return Err("it is not a JSON object".to_owned());
        };
        for (key, value) in fields {
            spread(None, key.to_ascii_lowercase(), value, &mut entries)?;
        }
        return Ok(entries);
    }
    for item in hcl::parse(text).map_err(|error| error.to_string())? {
        let (line, key) = (Some(item.line), item.key.to_ascii_lowercase());
        match &item.labels[..] {
            [] => spread(line, key, item.value, &mut entries)?,
            [label] => entries.push(Entry {
                line,
                key,
                label: Some(label.clone()),
                value: item.value,
            }),
            _ => return Err(format!("line {}: `{key}` has too many labels", item.line)),
        }
    }
    Ok(entries)
}

/// Writes `listener = {tcp = …}` and `listener = [{tcp = […]}]` as `listener "tcp" …` once for each.
fn spread(
    line: Option<usize>,
    key: String,
    value: Value,
    to: &mut Vec<Entry>,
) -> Result<(), String> {
    if !BLOCKS.contains(&key.as_str()) {
        to.push(Entry {
            line,
            key,
            label: None,
            value,
        });
        return Ok(());
    }
    let wrong = || format!("`{key}` is no block with a kind");
    for block in many(value) {
        let Value::Object(kinds) = block else {
            return Err(wrong());
        };
        for (kind, bodies) in kinds {
            for body in many(bodies) {
                to.push(Entry {
                    line,
                    key: key.clone(),
                    label: Some(kind.clone()),
                    value: body,
                });
            }
        }
    }
    Ok(())
}

fn many(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        other => vec![other],
    }
}

fn storage(
    kind: &str,
    mut fields: Block,
    at: &str,
    warnings: &mut Vec<String>,
) -> Result<Storage, String> {
    let storage = match kind {
        "inmem" => Storage::Memory,
        "file" | "raft" => {
            let path = fields.text("path")?;
            let path = path.ok_or_else(|| format!("`path` of storage `{kind}` is missing"))?;
            Storage::Folder(PathBuf::from(path))
        }
        other => {
            return Err(format!(
                "Unknown storage type {}: `file`, `raft` and `inmem` are served",
                shown(other)
            ));
        }
    };
    if fields.take("retry_join").is_some() {
        return Err("`retry_join` is not served: one server keeps its own store".to_owned());
    }
    for silent in ["node_id", "performance_multiplier", "max_entry_size"] {
        fields.take(silent);
    }
    fields.rest(at, warnings);
    Ok(storage)
}

/// The fields of a block that are not yet read.
struct Block {
    what: String,
    fields: Map<String, Value>,
}

impl Block {
    fn new(what: String, value: Value) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Ok(Self {
                fields: fields
                    .into_iter()
                    .map(|(key, value)| (key.to_ascii_lowercase(), value))
                    .collect(),
                what,
            }),
            Value::Null => Ok(Self {
                what,
                fields: Map::new(),
            }),
            _ => Err(format!("`{}` is no block", shown(&what))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let value = self.take(name);
        Ok(value.map(|it| filled(name, &it)).transpose()?.flatten())
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        let value = self.take(name);
        Ok(value.map(|it| flag(name, &it)).transpose()? == Some(true))
    }

    /// A whole number.
    fn whole(&mut self, name: &str) -> Result<Option<i64>, String> {
        let value = self.take(name);
        Ok(value.map(|it| whole(name, &it)).transpose()?.flatten())
    }

    /// Warns of what is left.
    fn rest(self, at: &str, warnings: &mut Vec<String>) {
        for key in self.fields.keys() {
            warnings.push(unknown(&format!("{} {key}", self.what), at));
        }
    }
}

fn unknown(key: &str, at: &str) -> String {
    let key = shown(key);
    format!("unknown or unsupported field {key} found in configuration at {at}")
}

/// Cuts what a file holds to what a message may.
fn shown(text: &str) -> String {
    let safe = text.chars().filter(|c| !c.is_control());
    safe.take(64).collect()
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("`{name}` is no text")),
    }
}

fn filled(name: &str, value: &Value) -> Result<Option<String>, String> {
    text(name, value).map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn flag(name: &str, value: &Value) -> Result<bool, String> {
    let read = match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.is_empty() => Some(false),
        Value::String(text) => parse_bool(text),
        Value::Number(number) => match number.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    };
    read.ok_or_else(|| format!("`{name}` is neither true nor false"))
}

fn whole(name: &str, value: &Value) -> Result<Option<i64>, String> {
    let read = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    };
    let read = read.ok_or_else(|| format!("`{name}` is no whole number"))?;
    Ok(Some(read))
}

/// A time; zero is as if nothing was said, as in Vault.
fn duration(name: &str, value: &Value) -> Result<Option<Duration>, String> {
    let read = match value {
        Value::String(text) if text.is_empty() => Some(Duration::ZERO),
        Value::String(text) => parse_duration(text),
        Value::Number(number) => number.as_u64().map(Duration::from_secs),
        _ => None,
    };
    let read = read.ok_or_else(|| format!("`{name}` is no time, such as 768h"))?;
    if !read.is_zero() && read < Duration::from_secs(1) {
        return Err(format!("`{name}` is shorter than a second"));
    }
    Ok(Some(read).filter(|read| !read.is_zero()))
}

#[cfg(test)]
mod tests;
