//! What Bastide is built from: licences, sources, bans.

use std::collections::BTreeSet;

use cargo_metadata::{Metadata, Package};

use super::{Finding, licence};

/// Packages that may not be built, and why.
const BANNED: [(&str, &str); 6] = [
    ("native-tls", "there is one TLS stack, rustls"),
    ("openssl", "there is one TLS stack, rustls"),
    ("openssl-sys", "there is one TLS stack, rustls"),
    ("ring", "aws-lc-rs has what it has"),
    (
        "rustls-native-certs",
        "trust is pinned, not taken from the machine",
    ),
    ("serde_yaml", "it is no longer maintained: serde-saphyr"),
];

/// What the rules know of a package.
#[derive(Debug)]
struct Fact<'a> {
    name: &'a str,
    licence: Option<&'a str>,
    source: Origin,
}

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The common registry, whose packages the lock file pins by hash.
    Registry,
    /// This checkout.
    Own,
    /// Anywhere else.
    Other,
}

/// Returns what breaks a rule among the packages that are `built`.
pub fn check(metadata: &Metadata, built: &BTreeSet<String>) -> Vec<Finding> {
    let packages = metadata.packages.iter();
    let is_built = |package: &&Package| built.contains(package.name.as_str());
    let facts: Vec<Fact<'_>> = packages.filter(is_built).map(fact).collect();
    let mut findings = judge(&facts);
    for package in metadata.workspace_packages() {
        for dependency in package.dependencies.iter().filter(|one| one.path.is_none()) {
            if dependency.req.to_string() == "*" {
                let what = format!("`{}` has no version", dependency.name);
                findings.push(Finding::new(package.manifest_path.as_str(), what));
            }
        }
    }
    findings
}

fn fact(package: &Package) -> Fact<'_> {
    let source = match &package.source {
        None => Origin::Own,
        Some(source) if source.is_crates_io() => Origin::Registry,
        Some(_) => Origin::Other,
    };
    Fact {
        name: &package.name,
        licence: package.license.as_deref(),
        source,
    }
}

fn judge(facts: &[Fact<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for fact in facts {
        let mut find = |what: String| findings.push(Finding::new("Cargo.lock", what));
        let name = fact.name;
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            find(format!("`{name}` is built, which is banned: {why}"));
        }
        if fact.source == Origin::Other {
            find(format!("`{name}` does not come from the registry"));
        }
        match fact.licence {
            Some(expression) if licence::is_allowed(expression) => {}
            Some(expression) => find(format!("`{name}` has the licence `{expression}`")),
            None => find(format!("`{name}` says no licence")),
        }
    }
    findings
}

#[cfg(test)]
mod tests;
