//! Sets of policies, compiled once for all tokens that have the same.
//!
//! A set is kept under the names of its policies and under a number that changes whenever any policy
//! does, so that a policy that is written or deleted counts from the next request on. Where a policy
//! has templates, what they stand for is a part of the key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::policy::Policy;
use crate::core::policy::acl::Acl;

/// Most sets that are kept.
const SETS_MAX: usize = 1024;
/// Most fillings of one set with templates that are kept.
const FILLINGS_MAX: usize = 1024;

/// The policies of some tokens.
pub struct Set {
    policies: Vec<Arc<Policy>>,
    /// What stands between the braces of their patterns; sorted, once each.
    templates: Vec<String>,
    filled: Mutex<BTreeMap<Vec<Option<String>>, Arc<Acl>>>,
    /// Without templates there is but one.
    plain: Option<Arc<Acl>>,
}

impl Set {
    /// Compiles policies, unless they have templates: those are compiled when they are filled.
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        let mut templates: Vec<String> = policies
            .iter()
            .flat_map(|policy| policy.templates())
            .map(str::to_owned)
            .collect();
        templates.sort();
        templates.dedup();
        let plain = templates.is_empty().then(|| {
            let filled: Vec<_> = policies.iter().map(|it| it.fill(|_| None)).collect();
            Arc::new(Acl::new(&filled))
        });
        Self {
            policies,
            templates,
            filled: Mutex::default(),
            plain,
        }
    }

    /// Returns the merged policies, with what templates stand for.
    pub fn acl<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Arc<Acl> {
        if let Some(plain) = &self.plain {
            return Arc::clone(plain);
        }
        let values: Vec<Option<String>> = self
            .templates
            .iter()
            .map(|name| value(name).map(str::to_owned))
            .collect();
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = filled.get(&values) {
            return Arc::clone(known);
        }
        let policies: Vec<_> = self.policies.iter().map(|it| it.fill(&value)).collect();
        let acl = Arc::new(Acl::new(&policies));
        if FILLINGS_MAX <= filled.len() {
            filled.clear();
        }
        filled.insert(values, Arc::clone(&acl));
        acl
    }
}

/// Remembers sets of policies.
#[derive(Default)]
pub struct Compiled(Mutex<Sets>);

#[derive(Default)]
struct Sets {
    version: u64,
    by_names: BTreeMap<String, Arc<Set>>,
}

/// The key of a set. Names may hold any letter, so each stands behind its length.
fn key<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let mut key = String::with_capacity(64);
    for name in names {
        let _ = write!(key, "{}:{name}", name.len());
    }
    key
}

impl Compiled {
    /// Returns the set of these names as it is at `version`, or makes and keeps it. Versions rise: one
    /// that is older than the last is made, and not kept.
    pub fn get<'n, E>(
        &self,
        version: u64,
        names: impl Iterator<Item = &'n String>,
        make: impl FnOnce() -> Result<Set, E>,
    ) -> Result<Arc<Set>, E> {
        let key = key(names);
        {
            let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if sets.version < version {
                sets.version = version;
                sets.by_names.clear();
            }
            if sets.version == version
                && let Some(known) = sets.by_names.get(&key)
            {
                return Ok(Arc::clone(known));
            }
        }
        let set = Arc::new(make()?);
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.version == version {
            if SETS_MAX <= sets.by_names.len() {
                sets.by_names.clear();
            }
            sets.by_names.insert(key, Arc::clone(&set));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests;
