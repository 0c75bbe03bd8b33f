//! What a set of policies allows at a path.
//!
//! A set is compiled once: rules without wildcards stand in a map; the others in the order of their
//! priority, which does not depend on the path, so that the first that matches is the one that counts.
//! Beside them stands which begin with which first segment: a path is compared with the rules of its
//! own mount and with those that begin with a wildcard, and with no others.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::path::ApiPath;
use crate::core::policy::{Capabilities, Policy, Rule};
use crate::core::request::Operation;

/// A set of policies, merged.
#[derive(Debug, Clone, Default)]
pub struct Acl {
    root: bool,
    exact: BTreeMap<String, Rule>,
    /// Those with a wildcard, the highest priority first.
    globs: Vec<Glob>,
    /// Which globs have this first segment.
    headed: BTreeMap<String, Vec<usize>>,
    /// Which globs have a wildcard in their first segment.
    headless: Vec<usize>,
}

/// A pattern with wildcards, and what it says.
#[derive(Debug, Clone)]
struct Glob {
    pattern: Pattern,
    rule: Rule,
}

/// A pattern with wildcards.
#[derive(Debug, Clone)]
struct Pattern {
    /// Without the star at its end.
    text: String,
    /// Whether a star ended it.
    star: bool,
    /// Whether a segment of it stands for any.
    plus: bool,
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
    /// The path as the engine reads it, where that folds names and this one is written otherwise.
    pub folded: Option<&'q ApiPath>,
    /// The request's fields.
    pub data: &'q Map<String, Value>,
    /// How long the response shall be wrapped.
    pub wrap: Option<Duration>,
    /// Whether the path is protected.
    pub sudo: bool,
}

/// A path as rules see it: bare, or with a slash at its end.
#[derive(Clone, Copy)]
struct Spelled<'p> {
    bare: &'p str,
    slash: bool,
}

impl<'p> Spelled<'p> {
    fn starts_with(self, prefix: &str) -> bool {
        self.bare.starts_with(prefix)
            || self.slash && prefix.strip_suffix('/').is_some_and(|it| it == self.bare)
    }

    /// Its segments; the last is empty if a slash ends it.
    fn segments(self) -> impl Iterator<Item = &'p str> {
        self.bare.split('/').chain(self.slash.then_some(""))
    }
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
        let mut exact = BTreeMap::new();
        let mut globs = BTreeMap::new();
        for (pattern, rule) in policies.into_iter().flat_map(|policy| &policy.rules) {
            let map = if is_glob(pattern) {
                &mut globs
            } else {
                &mut exact
            };
            match map.entry(pattern.clone()) {
                Entry::Vacant(free) => {
                    free.insert(rule.clone());
                }
                Entry::Occupied(mut taken) => merge(taken.get_mut(), rule),
            }
        }
        let mut globs: Vec<Glob> = globs
            .into_iter()
            .map(|(pattern, rule)| Glob {
                pattern: Pattern::new(&pattern),
                rule,
            })
            .collect();
        globs.sort_by(|one, other| other.pattern.priority(&one.pattern));
        let mut headed = BTreeMap::<String, Vec<usize>>::new();
        let mut headless = Vec::new();
        for (at, glob) in globs.iter().enumerate() {
            match glob.pattern.text.split_once('/') {
                Some((head, _)) if head != "+" => {
                    headed.entry(head.to_owned()).or_default().push(at);
                }
                _ => headless.push(at),
            }
        }
        Self {
            root: false,
            exact,
            globs,
            headed,
            headless,
        }
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
        let other = self.objecting(question.operation, rule, question.folded);
        let allowed = std::iter::once(rule)
            .chain(other)
            .all(|rule| allows(rule, question));
        allowed.then_some(Authorised(()))
    }

    /// Returns the rule that counts besides `rule`, which matches a path as it was written: the one for
    /// the same path as its engine reads it, unless that is less specific. Who writes a rule for one
    /// spelling of a name means it, and a rule for its folded form is passed by with no other.
    fn objecting(
        &self,
        operation: Operation,
        rule: &Rule,
        folded: Option<&ApiPath>,
    ) -> Option<&Rule> {
        let other = self.rule(operation, folded?)?;
        (self.place(other) <= self.place(rule)).then_some(other)
    }

    /// Returns the place of a rule in the order of priority, the highest first.
    fn place(&self, rule: &Rule) -> usize {
        let found = self
            .globs
            .iter()
            .position(|glob| std::ptr::eq(&raw const glob.rule, rule));
        found.map_or(0, |at| at + 1)
    }

    /// Returns the capabilities at a path, as `sys/capabilities` tells them. `folded`: as
    /// [`Question::folded`].
    pub fn capabilities(&self, path: &ApiPath, folded: Option<&ApiPath>) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let operation = if path.is_folder() {
            Operation::List
        } else {
            Operation::Read
        };
        let Some(rule) = self.rule(operation, path) else {
            return vec!["deny"];
        };
        match self.objecting(operation, rule, folded) {
            None => rule.capabilities.names(),
            Some(other) => rule.capabilities.and(other.capabilities).names(),
        }
    }

    /// Returns all of it, as `sys/internal/ui/resultant-acl` tells it.
    pub fn shown(&self) -> Map<String, Value> {
        let rule = |rule: &Rule| json!({ "capabilities": rule.capabilities.names() });
        let exact: Map<_, _> = self
            .exact
            .iter()
            .map(|(path, it)| (path.clone(), rule(it)))
            .collect();
        let globs: Map<_, _> = self
            .globs
            .iter()
            .map(|glob| (glob.pattern.text.clone(), rule(&glob.rule)))
            .collect();
        Map::from_iter([
            ("root".to_owned(), self.root.into()),
            ("exact_paths".to_owned(), exact.into()),
            ("glob_paths".to_owned(), globs.into()),
        ])
    }

    /// Returns whether any rule grants something at or below `mount`, such as `secret/`.
    pub fn touches(&self, mount: &str) -> bool {
        let grants = |rule: &Rule| rule.capabilities.names() != ["deny"];
        self.root
            || self
                .exact
                .iter()
                .any(|(path, rule)| grants(rule) && may_lie_below(path, false, mount))
            || self.globs.iter().any(|glob| {
                grants(&glob.rule) && may_lie_below(&glob.pattern.text, glob.pattern.star, mount)
            })
    }

    /// Returns the one rule that counts for an operation at a path.
    ///
    /// Only LIST sees a slash at the end of a path. For all else engines act on the path without it,
    /// and so it is judged: a slash must not lead around a rule that names the thing itself. LIST
    /// prefers what matches with the slash, as `OpenBao` does since 2.6.0: in Vault's order a deny of
    /// what lies below can be stepped over by a rule for the folder's name.
    fn rule(&self, operation: Operation, path: &ApiPath) -> Option<&Rule> {
        let bare = Spelled {
            bare: path.as_str(),
            slash: false,
        };
        if operation != Operation::List {
            return self.exact.get(bare.bare).or_else(|| self.best(bare));
        }
        let folder = Spelled {
            slash: path.is_folder(),
            ..bare
        };
        if folder.slash && !self.exact.is_empty() {
            let found = self.exact.get(&format!("{}/", bare.bare));
            if found.is_some() {
                return found;
            }
        }
        self.exact
            .get(bare.bare)
            .or_else(|| self.best(folder))
            .or_else(|| self.best(bare))
    }

    /// Returns the pattern whose rule decides an operation at a path, and the rule, merged of all that
    /// have this pattern; `None` if no pattern matches.
    pub fn deciding(&self, operation: Operation, path: &ApiPath) -> Option<(String, &Rule)> {
        let deciding = self.rule(operation, path)?;
        let exact = self
            .exact
            .iter()
            .find(|(_, rule)| std::ptr::eq(*rule, deciding));
        let pattern = match exact {
            Some((pattern, _)) => pattern.clone(),
            None => {
                let mut globs = self.globs.iter();
                let glob = globs.find(|glob| std::ptr::eq(&raw const glob.rule, deciding))?;
                let star = if glob.pattern.star { "*" } else { "" };
                format!("{}{star}", glob.pattern.text)
            }
        };
        Some((pattern, deciding))
    }

    /// Returns the rule of the highest priority that matches.
    fn best(&self, path: Spelled<'_>) -> Option<&Rule> {
        let head = path.bare.split('/').next().unwrap_or_default();
        let headed = self.headed.get(head).map(Vec::as_slice).unwrap_or_default();
        let first = |candidates: &[usize], below: usize| {
            candidates
                .iter()
                .copied()
                .take_while(|at| *at < below)
                .find(|at| self.globs[*at].pattern.matches(path))
        };
        let one = first(headed, usize::MAX);
        let other = first(&self.headless, one.unwrap_or(usize::MAX));
        other.or(one).map(|at| &self.globs[at].rule)
    }
}

/// Returns whether a path of a policy has a wildcard.
fn is_glob(pattern: &str) -> bool {
    pattern.ends_with('*') || pattern.split('/').any(|segment| segment == "+")
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        let (text, star) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        Self {
            text: text.to_owned(),
            star,
            plus: text.split('/').any(|segment| segment == "+"),
        }
    }

    /// Returns which pattern has the higher priority, by Vault's published rules.
    fn priority(&self, other: &Self) -> Ordering {
        let rank = |pattern: &Self| {
            let first = match pattern.text.find('+') {
                // Vault takes the first plus sign for the first wildcard, though it may be a letter.
                Some(at) if pattern.plus => at,
                _ => pattern.text.len(),
            };
            let pluses = pattern.text.split('/').filter(|it| *it == "+").count();
            (first, !pattern.star, Reverse(pluses), pattern.text.len())
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.text.cmp(&other.text))
    }

    fn matches(&self, path: Spelled<'_>) -> bool {
        if !self.plus {
            return path.starts_with(&self.text);
        }
        let mut segments = path.segments();
        let mut patterns = self.text.split('/').peekable();
        while let Some(wanted) = patterns.next() {
            let Some(segment) = segments.next() else {
                return false;
            };
            let is_last = patterns.peek().is_none();
            let is_equal = wanted == "+"
                || wanted == segment
                || is_last && self.star && segment.starts_with(wanted);
            if !is_equal {
                return false;
            }
        }
        self.star || segments.next().is_none()
    }
}

/// Returns whether `pattern` can match the mount or something below it.
fn may_lie_below(pattern: &str, star: bool, mount: &str) -> bool {
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
    // The shorter of both, so that what is wrapped lives as briefly as anybody asks for.
    into.min_wrap = [into.min_wrap, other.min_wrap].into_iter().flatten().min();
    into.max_wrap = [into.max_wrap, other.max_wrap].into_iter().flatten().min();
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

fn allows(rule: &Rule, question: &Question<'_>) -> bool {
    let needed = match question.operation {
        Operation::Create => Capabilities::CREATE,
        Operation::Read => Capabilities::READ,
        Operation::Update => Capabilities::UPDATE,
        Operation::Patch => Capabilities::PATCH,
        Operation::Delete => Capabilities::DELETE,
        Operation::List => Capabilities::LIST,
    };
    let sudo = !question.sudo || rule.capabilities.has(Capabilities::SUDO);
    rule.capabilities.has(needed)
        && sudo
        && wrapping_allows(rule, question.wrap)
        && parameters_allow(rule, question)
}

/// Returns whether a rule lets an answer be wrapped for so long, or not at all.
pub fn wrapping_allows(rule: &Rule, wrap: Option<Duration>) -> bool {
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
    let data = question.data;
    // Policies hold these names in lower case; whoever asks must spell them so.
    if !rule.required.iter().all(|name| data.contains_key(name)) {
        return false;
    }
    if data.is_empty() || rule.denied.is_empty() && rule.allowed.is_empty() {
        return true;
    }
    let listed = |values: &Vec<Value>, value: &Value| {
        values.is_empty() || values.iter().any(|wanted| value_matches(wanted, value))
    };
    if rule.denied.contains_key("*") {
        return false;
    }
    let any_other = rule.allowed.is_empty() || rule.allowed.contains_key("*");
    data.iter().all(|(name, value)| {
        let name = name.to_lowercase();
        let is_denied = rule
            .denied
            .get(&name)
            .is_some_and(|values| listed(values, value));
        let is_allowed = match rule.allowed.get(&name) {
            Some(values) => listed(values, value),
            None => any_other,
        };
        !is_denied && is_allowed
    })
}

fn value_matches(wanted: &Value, value: &Value) -> bool {
    let (Value::String(wanted), Value::String(value)) = (wanted, value) else {
        return wanted == value;
    };
    // A lone star is a star.
    if wanted.len() < 2 {
        return wanted == value;
    }
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(rest), Some(_)) => value.contains(&rest[..rest.len() - 1]),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        (None, None) => wanted == value,
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
