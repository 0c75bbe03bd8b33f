//! `cargo xtask tidy`: the rules on which the architecture rests.
//!
//! Each rule is a pure function from text or a graph to findings; this module reads the world and
//! prints.

mod clocks;
mod corpora;
mod documents;
mod graph;
mod layers;
mod licence;
mod purity;
mod size;
mod source;
mod tokens;
mod unsafety;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::Context;
use cargo_metadata::Metadata;

use self::source::Source;
use crate::workspace::{cargo, metadata, musl_target, output, root};
use crate::{VERBS, say};

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a file, with a line where there is one.
    place: String,
    /// What is wrong there, and what is expected.
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }

    fn at(source: &Source, line: usize, what: impl Into<String>) -> Self {
        Self::new(format!("{}:{line}", source.path), what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks every rule, prints what is broken, and returns whether nothing is.
pub fn run() -> anyhow::Result<bool> {
    let metadata = metadata()?;
    let sources = rust_sources()?;
    let layers = layers::Layers::parse(&read("layers.toml")?)?;

    let mut findings = Vec::new();
    findings.extend(layers.check(&layers::edges(&metadata)));
    findings.extend(purity::check(&sources));
    findings.extend(unsafety::check(&sources));
    findings.extend(clocks::check(&sources));
    findings.extend(fuzzing()?);
    findings.extend(graph::check(&metadata, &built_packages()?));
    findings.extend(documents::dependencies(
        &read("docs/dependencies.md")?,
        &direct(&metadata),
    ));
    let verbs: BTreeSet<&str> = VERBS
        .iter()
        .filter_map(|(verb, _)| verb.split(' ').next())
        .collect();
    let program = documents::program_verbs(&read("crates/bastide/src/cli.rs")?);
    for document in ["README.md", "docs/operations.md"] {
        findings.extend(documents::commands(
            document,
            &read(document)?,
            &verbs,
            &program,
        ));
    }
    let files = tracked()?;
    findings.extend(documents::designs(&read(documents::DESIGNS)?, &files));
    for path in &files {
        // What is no text holds no words.
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        findings.extend(words::check(path, &text));
        if std::path::Path::new(path).extension() == Some("md".as_ref()) {
            findings.extend(documents::links(path, &text, &files));
        }
    }

    for length in size::check(&sources) {
        say::note(&format!("long: {length}"));
    }
    for finding in &findings {
        say::data(&format!("tidy: {finding}"));
    }
    let count = findings.len();
    let (crates, files) = (metadata.workspace_packages().len(), sources.len());
    say::note(&format!(
        "tidy: {count} findings in {crates} crates, {files} files"
    ));
    Ok(findings.is_empty())
}

fn fuzzing() -> anyhow::Result<Vec<Finding>> {
    let (mut modules, mut cases) = (Vec::new(), Vec::new());
    for path in tracked()? {
        if corpora::is_module(&path) {
            let text = read(&path)?;
            modules.push((path, text));
        } else if corpora::folder(&path).is_some() {
            let length = fs::metadata(root().join(&path)).map_or(0, |about| about.len());
            cases.push((path, length));
        }
    }
    Ok(corpora::check(&modules, &read(corpora::PROGRAM)?, &cases))
}

/// Returns the files that git tracks or would track.
fn tracked() -> anyhow::Result<Vec<String>> {
    let mut list = Command::new("git");
    list.current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let paths = output(&mut list)?;
    let exists = |path: &&str| root().join(path).is_file();
    Ok(paths.lines().filter(exists).map(str::to_owned).collect())
}

fn rust_sources() -> anyhow::Result<Vec<Source>> {
    let rust = |path: &String| {
        std::path::Path::new(path)
            .extension()
            .is_some_and(|extension| extension == "rs")
    };
    let paths = tracked()?.into_iter().filter(rust);
    paths
        .map(|path| Ok(Source::new(path.clone(), &read(&path)?)))
        .collect()
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("could not read `{path}`"))
}

/// Returns the names of the packages that are really built for a Linux host: the metadata's graph
/// also has those that only a feature nobody asked for would bring.
fn built_packages() -> anyhow::Result<BTreeSet<String>> {
    let mut tree = cargo();
    tree.args([
        "tree",
        "--workspace",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    tree.args(["--format", "{p}", "--target", &musl_target()]);
    let lines = output(&mut tree)?;
    Ok(lines
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Returns the packages of others that a crate of ours names.
fn direct(metadata: &Metadata) -> BTreeSet<String> {
    let packages = metadata.workspace_packages();
    let dependencies = packages.iter().flat_map(|package| &package.dependencies);
    dependencies
        .filter(|one| one.path.is_none())
        .map(|one| one.name.clone())
        .collect()
}
