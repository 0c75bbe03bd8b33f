//! Compose text to [`Stack`], strictly: what is not understood is an error with its line.

mod deploy;
mod mounts;
mod reader;
mod refused;
mod service;
mod units;

use std::collections::BTreeMap;

use bastide_api::{ServiceName, StackName};

use self::reader::Reader;
use super::model::{Service, Stack, Volume, VolumeName};
use super::yaml::{self, At, Node};

/// Longest compose file, in bytes.
pub const COMPOSE_BYTES_MAX: usize = 1 << 20;
/// Most services of one stack.
pub const SERVICES_MAX: usize = 100;
/// The nodes' own names stand where a stack of this name would put its services'.
const STACK_RESERVED: &str = "node";
/// Most volumes of one stack.
const VOLUMES_MAX: usize = 100;

/// Something in a compose file that cannot be taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ComposeError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead, or why it is refused.
    pub hint: Option<String>,
}

/// Reads a compose file as the stack `name`.
///
/// On failure returns everything that is wrong, in the order of the file (at most 100 errors); where
/// the text is not YAML, the first place alone.
pub fn parse(name: &StackName, text: &str) -> Result<Stack, Vec<ComposeError>> {
    let mut reader = Reader::default();
    let start = At { line: 1, column: 1 };
    if COMPOSE_BYTES_MAX < text.len() {
        reader.error(
            start,
            format!("the file is longer than {COMPOSE_BYTES_MAX} bytes"),
            None,
        );
        return Err(reader.into_errors());
    }
    let stack = match yaml::read(text) {
        Ok(Some(root)) => read_root(&mut reader, name, &root),
        Ok(None) => {
            reader.error(start, "the file is empty", Some("begin with `services:`"));
            None
        }
        Err(error) => {
            reader.error(error.at, error.what, None);
            None
        }
    };
    match stack {
        Some(mut stack) if !reader.failed() => {
            stack.notes = reader.into_notes();
            Ok(stack)
        }
        _ => Err(reader.into_errors()),
    }
}

/// Returns the name that a compose file gives its stack. Whether it is one, and whether the rest of
/// the file is good, is for [`parse`] to tell.
pub fn declared_name(text: &str) -> Option<String> {
    if COMPOSE_BYTES_MAX < text.len() {
        return None;
    }
    let root = yaml::read(text).ok()??;
    let mut unheard = Reader::default();
    let entries = unheard.entries(&root, "the file")?;
    let entry = entries.iter().find(|entry| entry.key == "name")?;
    unheard.text(&entry.value)
}

fn read_root(reader: &mut Reader, name: &StackName, root: &Node) -> Option<Stack> {
    const KEYS: &[&str] = &["name", "version", "services", "volumes"];
    let fields = reader.fields(root, "the file", KEYS, refused::in_file)?;
    if let Some(node) = fields.get("version") {
        reader.note(format!(
            "line {}: `version` says nothing any more",
            node.at.line
        ));
    }
    if name.as_str() == STACK_RESERVED {
        let what = format!("a stack cannot be named `{STACK_RESERVED}`");
        reader.error(
            root.at,
            what,
            Some("the nodes have their names there; take another name"),
        );
    }
    if let Some(declared) = fields.get("name").and_then(|node| reader.text(node)) {
        let at = fields.get("name").map_or(root.at, |node| node.at);
        if declared != name.as_str() {
            let what = format!("the file names the stack `{declared}`, the command `{name}`");
            reader.error(at, what, Some("delete `name` or use the same name"));
        }
    }
    let volumes = fields.get("volumes").map(|node| read_volumes(reader, node));
    let Some(node) = fields.get("services") else {
        reader.error(root.at, "the file has no `services`", None);
        return None;
    };
    let volumes = volumes.unwrap_or_default();
    let mut services = BTreeMap::new();
    let entries = reader.entries(node, "`services`")?;
    if entries.is_empty() {
        reader.error(node.at, "`services` is empty", None);
    }
    for entry in entries {
        if SERVICES_MAX <= services.len() {
            let what = format!("a stack has at most {SERVICES_MAX} services");
            reader.error(entry.at, what, None);
            break;
        }
        let key = match entry.key.parse::<ServiceName>() {
            Ok(key) => key,
            Err(error) => {
                let hint = "the name becomes a DNS label: write it with letters, digits and `-`";
                reader.error(entry.at, error.to_string(), Some(hint));
                continue;
            }
        };
        if let Some(service) = service::read(reader, &key, entry) {
            check_volumes(reader, &entry.value, &service, &volumes);
            services.insert(key, service);
        }
    }
    Some(Stack {
        name: name.clone(),
        services,
        volumes,
        notes: Vec::new(),
    })
}

fn read_volumes(reader: &mut Reader, node: &Node) -> BTreeMap<VolumeName, Volume> {
    let mut volumes = BTreeMap::new();
    if node.is_null() {
        return volumes;
    }
    for entry in reader.entries(node, "`volumes`").unwrap_or_default() {
        if VOLUMES_MAX <= volumes.len() {
            reader.error(
                entry.at,
                format!("a stack has at most {VOLUMES_MAX} volumes"),
                None,
            );
            break;
        }
        let Ok(name) = entry.key.parse::<VolumeName>() else {
            let what = format!("`{}` is not the name of a volume", entry.key);
            let hint = "letters, digits, `_`, `.` and `-`, at most 64 bytes";
            reader.error(entry.at, what, Some(hint));
            continue;
        };
        let mut volume = Volume::default();
        if !entry.value.is_null() {
            let context = format!("volume `{name}`");
            let fields = reader.fields(&entry.value, &context, &["labels"], refused::in_volume);
            if let Some(labels) = fields.as_ref().and_then(|fields| fields.get("labels")) {
                volume.labels = service::labels(reader, labels);
            }
        }
        volumes.insert(name, volume);
    }
    volumes
}

/// Each volume that a service mounts must be declared, so that a typing error makes no new volume.
fn check_volumes(
    reader: &mut Reader,
    node: &Node,
    service: &Service,
    volumes: &BTreeMap<VolumeName, Volume>,
) {
    for mount in &service.volumes {
        if !volumes.contains_key(&mount.volume) {
            let what = format!("volume `{}` is not declared", mount.volume);
            let hint = format!(
                "add to the end of the file: `volumes: {{{}: }}`",
                mount.volume
            );
            let at = reader::key_position(node, "volumes").unwrap_or(node.at);
            reader.error(at, what, Some(&hint));
        }
    }
}

#[cfg(test)]
mod tests;
