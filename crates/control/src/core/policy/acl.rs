//! What a set of policies allows at a path.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::path::ApiPath;
use crate::core::policy::{Capabilities, Policy, Rule};
use crate::core::request::Operation;

/// A set of policies, merged.
#[derive(Debug, Clone, Default)]
pub struct Acl {
    root: bool,
    exact: BTreeMap<String, Rule>,
    globs: BTreeMap<String, Rule>,
}

/// Proof that a call is allowed. Only [`Acl::authorise`] makes one; engines are called with it alone.
#[derive(Debug)]
#[must_use]
pub struct Authorised(());

impl Authorised {
    /// A call on a path that needs no token.
    pub(crate) fn open() -> Self {
        Self(())
    }
}

/// What is asked for.
pub struct Question<'q> {
    /// The operation.
    pub operation: Operation,
    /// The path.
    pub path: &'q ApiPath,
    /// The request's fields.
    pub data: &'q Map<String, Value>,
    /// How long the response shall be wrapped.
    pub wrap: Option<Duration>,
    /// Whether the path is protected.
    pub sudo: bool,
}

impl Acl {
    /// The set that allows everything.
    pub fn root() -> Self {
        Self {
            root: true,
            ..Self::default()
        }
    }

    /// Merges policies: the same pattern's capabilities are united, and there `deny` wins.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Self {
        let mut this = Self::default();
        for (pattern, rule) in policies.into_iter().flat_map(|policy| &policy.rules) {
            let map = if is_glob(pattern) {
                &mut this.globs
            } else {
                &mut this.exact
            };
            match map.entry(pattern.clone()) {
                Entry::Vacant(free) => {
                    free.insert(rule.clone());
                }
                Entry::Occupied(mut taken) => merge(taken.get_mut(), rule),
            }
        }
        this
    }

    /// Returns whether the set is that of root.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Decides. `None`: denied.
    pub fn authorise(&self, question: &Question<'_>) -> Option<Authorised> {
        if self.root {
            return Some(Authorised(()));
        }
        let rule = self.rule(question.operation, question.path)?;
        let needed = match question.operation {
            Operation::Create => Capabilities::CREATE,
            Operation::Read => Capabilities::READ,
            Operation::Update => Capabilities::UPDATE,
            Operation::Patch => Capabilities::PATCH,
            Operation::Delete => Capabilities::DELETE,
            Operation::List => Capabilities::LIST,
        };
        let sudo = !question.sudo || rule.capabilities.has(Capabilities::SUDO);
        let allowed = rule.capabilities.has(needed)
            && sudo
            && wrapping_allows(rule, question.wrap)
            && parameters_allow(rule, question);
        allowed.then_some(Authorised(()))
    }

    /// Returns the capabilities at a path, as `sys/capabilities` tells them.
    pub fn capabilities(&self, path: &ApiPath) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let operation = if path.is_folder() {
            Operation::List
        } else {
            Operation::Read
        };
        self.rule(operation, path)
            .map_or_else(|| vec!["deny"], |rule| rule.capabilities.names())
    }

    /// Returns whether any rule grants something at or below `mount`, such as `secret/`.
    pub fn touches(&self, mount: &str) -> bool {
        self.root
            || self.exact.iter().chain(&self.globs).any(|(pattern, rule)| {
                rule.capabilities.names() != ["deny"] && may_lie_below(pattern, mount)
            })
    }

    fn rule(&self, operation: Operation, path: &ApiPath) -> Option<&Rule> {
        let bare = path.as_str();
        if operation != Operation::List && !path.is_folder() {
            return self.exact.get(bare).or_else(|| self.best(bare));
        }
        let folder = format!("{bare}/");
        self.exact
            .get(&folder)
            .or_else(|| self.exact.get(bare))
            .or_else(|| self.best(&folder))
            .or_else(|| self.best(bare))
    }

    fn best(&self, path: &str) -> Option<&Rule> {
        self.globs
            .iter()
            .filter(|(pattern, _)| matches(pattern, path))
            .max_by(|(one, _), (other, _)| priority(one, other))
            .map(|(_, rule)| rule)
    }
}

fn is_glob(pattern: &str) -> bool {
    pattern.ends_with('*') || pattern.split('/').any(|segment| segment == "+")
}

/// Returns which pattern has the higher priority, by Vault's published rules.
fn priority(one: &str, other: &str) -> Ordering {
    let rank = |pattern: &str| {
        let star = pattern.ends_with('*');
        let mut first = if star {
            pattern.len() - 1
        } else {
            pattern.len()
        };
        let mut offset = 0;
        let mut pluses = 0;
        for segment in pattern.split('/') {
            if segment == "+" {
                first = first.min(offset);
                pluses += 1;
            }
            offset += segment.len() + 1;
        }
        (first, !star, Reverse(pluses), pattern.len())
    };
    rank(one).cmp(&rank(other)).then_with(|| one.cmp(other))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, star) = match pattern.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (pattern, false),
    };
    let mut segments = path.split('/');
    let mut patterns = pattern.split('/').peekable();
    while let Some(wanted) = patterns.next() {
        let Some(segment) = segments.next() else {
            return false;
        };
        let last = patterns.peek().is_none();
        let equal = match wanted {
            _ if last && star => segment.starts_with(wanted),
            "+" => !segment.is_empty(),
            _ => segment == wanted,
        };
        if !equal {
            return false;
        }
    }
    star || segments.next().is_none()
}

/// Returns whether `pattern` can match the mount or something below it.
fn may_lie_below(pattern: &str, mount: &str) -> bool {
    let (pattern, star) = match pattern.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (pattern, false),
    };
    let mut patterns = pattern.split('/').peekable();
    for segment in mount.trim_end_matches('/').split('/') {
        let Some(wanted) = patterns.next() else {
            return false;
        };
        let last = patterns.peek().is_none();
        match wanted {
            _ if last && star => return segment.starts_with(wanted),
            "+" => {}
            _ if segment == wanted => {}
            _ => return false,
        }
    }
    true
}

fn merge(into: &mut Rule, other: &Rule) {
    into.capabilities = into.capabilities.with(other.capabilities);
    merge_parameters(&mut into.allowed, &other.allowed);
    merge_parameters(&mut into.denied, &other.denied);
    for name in &other.required {
        if !into.required.contains(name) {
            into.required.push(name.clone());
        }
    }
    into.min_wrap = [into.min_wrap, other.min_wrap].into_iter().flatten().min();
    into.max_wrap = [into.max_wrap, other.max_wrap].into_iter().flatten().max();
}

/// Unites lists of values; an empty list is any value, and swallows others.
fn merge_parameters(into: &mut BTreeMap<String, Vec<Value>>, other: &BTreeMap<String, Vec<Value>>) {
    for (name, values) in other {
        match into.entry(name.clone()) {
            Entry::Vacant(free) => {
                free.insert(values.clone());
            }
            Entry::Occupied(mut taken) => {
                let list = taken.get_mut();
                if list.is_empty() || values.is_empty() {
                    list.clear();
                } else {
                    list.extend(values.iter().cloned());
                }
            }
        }
    }
}

fn wrapping_allows(rule: &Rule, wrap: Option<Duration>) -> bool {
    match (rule.min_wrap, rule.max_wrap, wrap) {
        (None, None, _) => true,
        (_, _, None) => false,
        (min, max, Some(wrap)) => {
            min.is_none_or(|min| min <= wrap) && max.is_none_or(|max| wrap <= max)
        }
    }
}

fn parameters_allow(rule: &Rule, question: &Question<'_>) -> bool {
    let judged = matches!(
        question.operation,
        Operation::Create | Operation::Read | Operation::Update | Operation::Patch
    );
    if !judged {
        return true;
    }
    let lower: BTreeMap<String, &Value> = question
        .data
        .iter()
        .map(|(key, value)| (key.to_lowercase(), value))
        .collect();
    if rule.required.iter().any(|name| !lower.contains_key(name)) {
        return false;
    }
    let listed = |values: &Vec<Value>, value: &Value| {
        values.is_empty() || values.iter().any(|wanted| value_matches(wanted, value))
    };
    if rule.denied.contains_key("*") && !lower.is_empty() {
        return false;
    }
    let denied = |(name, value): (&String, &&Value)| {
        rule.denied
            .get(name)
            .is_some_and(|values| listed(values, value))
    };
    if lower.iter().any(denied) {
        return false;
    }
    let allowed = |(name, value): (&String, &&Value)| match rule.allowed.get(name) {
        Some(values) => listed(values, value),
        None => rule.allowed.contains_key("*"),
    };
    rule.allowed.is_empty() || lower.iter().all(allowed)
}

fn value_matches(wanted: &Value, value: &Value) -> bool {
    let (Value::String(wanted), Value::String(value)) = (wanted, value) else {
        return wanted == value;
    };
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(rest), Some(_)) => value.contains(rest.trim_end_matches('*')),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        (None, None) => wanted == value,
    }
}

#[cfg(test)]
mod tests;
