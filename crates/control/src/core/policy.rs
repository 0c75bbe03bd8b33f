//! Policies: which capabilities a path has, in Vault's language.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::fields::parse_duration;

pub mod acl;
pub mod builtin;
pub mod compiled;
pub mod hcl;

/// Longest text of a policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 256 << 10;
/// Most path blocks of a policy.
const RULES_MAX: usize = 4096;

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse policy: {0}")]
pub struct PolicyError(String);

/// What one may do at a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Create what is not there.
    pub const CREATE: Self = Self(1);
    /// Delete.
    pub const DELETE: Self = Self(1 << 1);
    /// List.
    pub const LIST: Self = Self(1 << 2);
    /// Merge.
    pub const PATCH: Self = Self(1 << 3);
    /// Read.
    pub const READ: Self = Self(1 << 4);
    /// What is protected besides.
    pub const SUDO: Self = Self(1 << 5);
    /// Write what is there.
    pub const UPDATE: Self = Self(1 << 6);
    /// Nothing, whatever else is said.
    pub const DENY: Self = Self(1 << 7);

    /// Names, in the order of the alphabet.
    const NAMES: [(&'static str, Self); 7] = [
        ("create", Self::CREATE),
        ("delete", Self::DELETE),
        ("list", Self::LIST),
        ("patch", Self::PATCH),
        ("read", Self::READ),
        ("sudo", Self::SUDO),
        ("update", Self::UPDATE),
    ];

    /// Returns the union; `deny` swallows the rest.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let both = Self(self.0 | other.0);
        if both.0 & Self::DENY.0 != 0 {
            Self::DENY
        } else {
            both
        }
    }

    /// Returns what is in both; `deny` is nothing.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0 & !Self::DENY.0)
    }

    /// Returns whether all of `other` are among these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0 && self.0 & Self::DENY.0 == 0
    }

    /// Returns the names, sorted; `deny` if there are none.
    pub fn names(self) -> Vec<&'static str> {
        let names: Vec<_> = Self::NAMES
            .iter()
            .filter(|(_, capability)| self.has(*capability))
            .map(|(name, _)| *name)
            .collect();
        if names.is_empty() {
            vec!["deny"]
        } else {
            names
        }
    }
}

/// What a path block says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// What one may do.
    pub capabilities: Capabilities,
    /// If not empty, the only parameters allowed, each with its values; no values: any.
    pub allowed: BTreeMap<String, Vec<Value>>,
    /// Parameters that are denied, each with its values; no values: any.
    pub denied: BTreeMap<String, Vec<Value>>,
    /// Parameters that must be there.
    pub required: Vec<String>,
    /// Shortest time for which the response must be wrapped.
    pub min_wrap: Option<Duration>,
    /// Longest time for which the response must be wrapped.
    pub max_wrap: Option<Duration>,
}

/// A policy: patterns and what they say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Pattern and rule, in the order of the text.
    pub rules: Vec<(String, Rule)>,
}

impl Policy {
    /// Parses a policy in HCL or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if POLICY_BYTES_MAX < text.len() {
            return Err(PolicyError(format!("longer than {POLICY_BYTES_MAX} bytes")));
        }
        let blocks = if text.trim_start().starts_with('{') {
            json_blocks(text)?
        } else {
            hcl_blocks(text)?
        };
        if RULES_MAX < blocks.len() {
            return Err(PolicyError(format!("more than {RULES_MAX} paths")));
        }
        let rules = blocks.into_iter().map(|(path, block)| {
            let wrong = |what: String| PolicyError(format!("path \"{path}\": {what}"));
            let pattern = path.strip_prefix('/').unwrap_or(&path).to_owned();
            if pattern.contains("+*") {
                return Err(wrong(
                    "invalid use of wildcards ('+*' is forbidden)".to_owned(),
                ));
            }
            let rule = rule(&block).map_err(wrong)?;
            Ok((pattern, rule))
        });
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the names between the braces of its patterns.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|(pattern, _)| {
            let parts = pattern.split("{{").skip(1);
            parts.filter_map(|part| Some(part.split_once("}}")?.0.trim()))
        })
    }

    /// Puts values into the templates of the patterns; rules whose template has no value, or whose
    /// value could widen the pattern, are left out.
    #[must_use]
    pub fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Self {
        let rules = self
            .rules
            .iter()
            .filter_map(|(pattern, rule)| Some((fill(pattern, &value)?, rule.clone())))
            .collect();
        Self { rules }
    }
}

fn fill<'v>(pattern: &str, value: &impl Fn(&str) -> Option<&'v str>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}")?;
        let value = value(name.trim())?;
        if value.is_empty() || value.contains(['/', '+', '*']) {
            return None;
        }
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

type Blocks = Vec<(String, Map<String, Value>)>;

fn hcl_blocks(text: &str) -> Result<Blocks, PolicyError> {
    let mut blocks = Vec::new();
    for item in hcl::parse(text).map_err(|error| PolicyError(error.to_string()))? {
        match (item.key.as_str(), item.labels.as_slice(), item.value) {
            ("name", [], Value::String(_)) => {}
            ("path", [path], Value::Object(block)) => blocks.push((path.clone(), block)),
            ("path", [], Value::Object(paths)) => object_blocks(paths, &mut blocks)?,
            (key, ..) => {
                return Err(PolicyError(format!(
                    "line {}: invalid key \"{key}\"",
                    item.line
                )));
            }
        }
    }
    Ok(blocks)
}

fn object_blocks(paths: Map<String, Value>, blocks: &mut Blocks) -> Result<(), PolicyError> {
    for (path, block) in paths {
        match block {
            Value::Object(block) => blocks.push((path, block)),
            _ => return Err(PolicyError(format!("path \"{path}\": expected an object"))),
        }
    }
    Ok(())
}

fn json_blocks(text: &str) -> Result<Blocks, PolicyError> {
    let invalid = |what: &str| PolicyError(what.to_owned());
    let Ok(Value::Object(top)) = serde_json::from_str(text) else {
        return Err(invalid("not valid JSON"));
    };
    let mut blocks = Vec::new();
    for (key, value) in top {
        match (key.as_str(), value) {
            ("name", Value::String(_)) => {}
            ("path", Value::Object(paths)) => object_blocks(paths, &mut blocks)?,
            ("path", Value::Array(list)) => {
                for value in list {
                    let Value::Object(paths) = value else {
                        return Err(invalid("expected an object in `path`"));
                    };
                    object_blocks(paths, &mut blocks)?;
                }
            }
            _ => return Err(PolicyError(format!("invalid key \"{key}\""))),
        }
    }
    Ok(blocks)
}

fn rule(block: &Map<String, Value>) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for (key, value) in block {
        match key.as_str() {
            "capabilities" => {
                for name in texts(value)? {
                    rule.capabilities = rule.capabilities.with(capability(&name)?);
                }
            }
            "policy" => {
                let old = value.as_str().unwrap_or_default();
                rule.capabilities = rule.capabilities.with(old_policy(old)?);
            }
            "allowed_parameters" => rule.allowed = parameters(value)?,
            "denied_parameters" => rule.denied = parameters(value)?,
            "required_parameters" => {
                let names = texts(value)?;
                rule.required = names.iter().map(|name| name.to_lowercase()).collect();
            }
            "min_wrapping_ttl" => rule.min_wrap = limit(value)?,
            "max_wrapping_ttl" => rule.max_wrap = limit(value)?,
            "comment" => {}
            _ => return Err(format!("invalid key \"{key}\"")),
        }
    }
    if let (Some(min), Some(max)) = (rule.min_wrap, rule.max_wrap)
        && max < min
    {
        return Err("max_wrapping_ttl cannot be less than min_wrapping_ttl".to_owned());
    }
    Ok(rule)
}

fn capability(name: &str) -> Result<Capabilities, String> {
    if name == "deny" {
        return Ok(Capabilities::DENY);
    }
    Capabilities::NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, capability)| *capability)
        .ok_or_else(|| format!("invalid capability \"{name}\""))
}

fn old_policy(name: &str) -> Result<Capabilities, String> {
    use Capabilities as C;
    let read = C::READ.with(C::LIST);
    let write = read.with(C::CREATE).with(C::UPDATE).with(C::DELETE);
    match name {
        "deny" => Ok(C::DENY),
        "read" => Ok(read),
        "write" => Ok(write),
        "sudo" => Ok(write.with(C::SUDO)),
        _ => Err(format!("invalid policy \"{name}\"")),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or("expected a list of strings")?;
    list.iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| "expected a list of strings".to_owned())
}

fn parameters(value: &Value) -> Result<BTreeMap<String, Vec<Value>>, String> {
    let object = value.as_object().ok_or("expected a map of lists")?;
    object
        .iter()
        .map(|(key, value)| {
            let list = value.as_array().cloned();
            list.map(|list| (key.to_lowercase(), list))
                .ok_or_else(|| format!("parameter \"{key}\": expected a list"))
        })
        .collect()
}

/// Reads a limit of a wrapping's time: 0 is none, as in Vault.
fn limit(value: &Value) -> Result<Option<Duration>, String> {
    let given = match value {
        Value::String(text) => parse_duration(text),
        Value::Number(number) => number.as_u64().map(Duration::from_secs),
        _ => None,
    };
    let given = given.ok_or_else(|| "expected a duration".to_owned())?;
    Ok((!given.is_zero()).then_some(given))
}

#[cfg(test)]
mod tests;
