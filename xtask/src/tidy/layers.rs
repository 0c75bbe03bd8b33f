//! Which crate may use which: `layers.toml` against the workspace.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata};
use serde::Deserialize;

use super::Finding;

const FILE: &str = "layers.toml";

/// What `layers.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Per crate of ours, the crates of ours that it may use.
    #[serde(rename = "layers")]
    permitted: BTreeMap<String, BTreeSet<String>>,
    /// The crates of ours that tests of any crate may use besides.
    tests: BTreeSet<String>,
    /// Per crate of others that is guarded, the crates of ours that may use it.
    guarded: BTreeMap<String, BTreeSet<String>>,
}

/// A dependency of a crate of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The crate of ours, without the common prefix.
    pub from: String,
    /// What it uses.
    pub to: Target,
    /// Whether only its tests use it.
    pub is_for_tests: bool,
}

/// What a crate uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A crate of ours, without the common prefix.
    Own(String),
    /// A package of others.
    Foreign(String),
}

impl Layers {
    /// Reads the file's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).with_context(|| format!("could not read `{FILE}`"))
    }

    /// Returns the edges that are not permitted, and cycles in what is permitted.
    pub fn check(&self, edges: &[Edge]) -> Vec<Finding> {
        let refused = edges.iter().filter_map(|edge| self.refuse(edge));
        let cycles = self
            .permitted
            .keys()
            .filter(|name| self.reaches_itself(name));
        let cycles = cycles.map(|name| Finding::new(FILE, format!("`{name}` may use itself")));
        refused.chain(cycles).collect()
    }

    fn refuse(&self, edge: &Edge) -> Option<Finding> {
        let Some(permitted) = self.permitted.get(&edge.from) else {
            return Some(Finding::new(
                FILE,
                format!("crate `{}` has no line", edge.from),
            ));
        };
        let from = &edge.from;
        let what = match &edge.to {
            Target::Own(to) if permitted.contains(to) => return None,
            Target::Own(to) if edge.is_for_tests && self.tests.contains(to) => return None,
            Target::Own(to) => format!("`{from}` may not use `{to}`"),
            Target::Foreign(_) if edge.is_for_tests => return None,
            Target::Foreign(to) => match self.guarded.get(to) {
                Some(permitted) if !permitted.contains(from) => {
                    format!("`{from}` may not use `{to}`, which is guarded")
                }
                _ => return None,
            },
        };
        Some(Finding::new(format!("{}/Cargo.toml", folder(from)), what))
    }

    fn reaches_itself(&self, name: &str) -> bool {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![name];
        while let Some(next) = ahead.pop() {
            for to in self.permitted.get(next).into_iter().flatten() {
                if reached.insert(to) {
                    ahead.push(to);
                }
            }
        }
        reached.iter().any(|reached| *reached == name)
    }
}

fn folder(name: &str) -> String {
    if name == "xtask" {
        name.to_owned()
    } else {
        format!("crates/{name}")
    }
}

/// Returns every dependency of the workspace's crates.
pub fn edges(metadata: &Metadata) -> Vec<Edge> {
    let own = |name: &str| name.strip_prefix("bastide-").unwrap_or(name).to_owned();
    let mut edges = Vec::new();
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            let to = match dependency.path {
                Some(_) => Target::Own(own(&dependency.name)),
                None => Target::Foreign(dependency.name.clone()),
            };
            let is_for_tests = dependency.kind == DependencyKind::Development;
            edges.push(Edge {
                from: own(&package.name),
                to,
                is_for_tests,
            });
        }
    }
    edges
}

#[cfg(test)]
mod tests;
