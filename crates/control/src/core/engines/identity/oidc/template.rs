//! Templates of claims: JSON in which `{{name}}` stands for a value, as JSON.

use std::time::Duration;

use bastide_api::UnixTime;
use serde_json::{Map, Value, json};

use crate::core::fields::parse_duration;
use crate::core::identity::EntityFacts;

/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 16 << 10;
/// Longest text that a template may become, in bytes.
const FILLED_BYTES_MAX: usize = 48 << 10;
/// Claims that are not a template's to set.
pub const RESERVED: &[&str] = &[
    "iat",
    "aud",
    "exp",
    "iss",
    "sub",
    "namespace",
    "nonce",
    "auth_time",
    "at_hash",
    "c_hash",
    "jti",
];

/// Why a template gives no claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is too long, or became so.
    #[error("error parsing template: it is too long")]
    Long,
    /// `{{` and `}}` do not match.
    #[error("error parsing template: unbalanced templating characters")]
    Unbalanced,
    /// A name that stands for nothing.
    #[error("error parsing template: unknown name `{0}`")]
    Unknown(String),
    /// What it became is no JSON object.
    #[error("error parsing template JSON: it is not an object")]
    Json,
    /// It sets what it may not.
    #[error("top level key {0:?} not allowed. Restricted keys: {keys}", keys = RESERVED.join(", "))]
    Reserved(String),
}

/// Returns the claims of a template, for an entity and a time. An empty template gives none. Names of
/// what the entity does not have give `""`, `{}` or `[]`.
pub fn claims(
    template: &str,
    entity: &EntityFacts,
    now: UnixTime,
) -> Result<Map<String, Value>, TemplateError> {
    if template.is_empty() {
        return Ok(Map::new());
    }
    if TEMPLATE_BYTES_MAX < template.len() {
        return Err(TemplateError::Long);
    }
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or(TemplateError::Unbalanced)?;
        let name = name.trim();
        let value = value(name, entity, now)
            .ok_or_else(|| TemplateError::Unknown(name.chars().take(128).collect()))?;
        filled.push_str(before);
        filled.push_str(&value.to_string());
        if FILLED_BYTES_MAX < filled.len() {
            return Err(TemplateError::Long);
        }
        rest = after;
    }
    // Braces that close nothing are JSON's own.
    filled.push_str(rest);
    let claims: Map<String, Value> =
        serde_json::from_str(&filled).map_err(|_| TemplateError::Json)?;
    match claims.keys().find(|key| RESERVED.contains(&key.as_str())) {
        Some(key) => Err(TemplateError::Reserved(key.clone())),
        None => Ok(claims),
    }
}

fn value(name: &str, entity: &EntityFacts, now: UnixTime) -> Option<Value> {
    if let Some(rest) = name.strip_prefix("time.now") {
        return time(rest, now);
    }
    match name {
        "identity.entity.metadata" => return Some(json!(entity.metadata)),
        "identity.entity.groups.ids" => {
            let ids: Vec<_> = entity.groups.iter().map(|group| &group.id).collect();
            return Some(json!(ids));
        }
        "identity.entity.groups.names" => {
            let names: Vec<_> = entity.groups.iter().map(|group| &group.name).collect();
            return Some(json!(names));
        }
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("identity.entity.aliases.")
        && let Some((accessor, field @ ("metadata" | "custom_metadata"))) = rest.split_once('.')
    {
        let alias = entity.aliases.get(accessor);
        let told = alias.map(|alias| match field {
            "metadata" => &alias.metadata,
            _ => &alias.custom_metadata,
        });
        return Some(told.map_or_else(|| json!({}), |told| json!(told)));
    }
    let known = ["identity.entity.", "identity.groups."];
    known
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then(|| entity.value(name).unwrap_or_default().into())
}

/// `time.now`, `time.now.plus.1h`, `time.now.minus.5m`: seconds since 1970.
fn time(rest: &str, now: UnixTime) -> Option<Value> {
    if rest.is_empty() {
        return Some(now.as_secs().into());
    }
    let secs = |text: &str| parse_duration(text).as_ref().map(Duration::as_secs);
    if let Some(text) = rest.strip_prefix(".plus.") {
        return Some(now.as_secs().saturating_add(secs(text)?).into());
    }
    let text = rest.strip_prefix(".minus.")?;
    Some(now.as_secs().saturating_sub(secs(text)?).into())
}
