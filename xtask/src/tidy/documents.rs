//! Documents say what is true of the tree.

use std::collections::BTreeSet;

use super::Finding;
use super::tokens::split;

const DEPENDENCIES: &str = "docs/dependencies.md";
/// The list of the design notes, which stand beside it.
pub const DESIGNS: &str = "docs/design/README.md";

/// Returns direct dependencies without a row in the table, and rows without a dependency.
pub fn dependencies(text: &str, direct: &BTreeSet<String>) -> Vec<Finding> {
    let rows: BTreeSet<String> = text.lines().filter_map(row).collect();
    let missing = direct
        .difference(&rows)
        .map(|name| format!("`{name}` has no row"));
    let stale = rows
        .difference(direct)
        .map(|name| format!("`{name}` is no dependency any more"));
    missing
        .chain(stale)
        .map(|what| Finding::new(DEPENDENCIES, what))
        .collect()
}

/// Returns the package that a row ``| `name` | why | what else |`` is about.
fn row(line: &str) -> Option<String> {
    let rest = line.strip_prefix("| `")?;
    Some(rest.split_once('`')?.0.to_owned())
}

/// Returns the verbs of the program, from the variants of its `Verb`.
pub fn program_verbs(source: &str) -> BTreeSet<String> {
    let tokens = split(source);
    let mut verbs = BTreeSet::new();
    let Some(start) = tokens
        .windows(2)
        .position(|two| two[0].text == "enum" && two[1].text == "Verb")
    else {
        return verbs;
    };
    // A variant stands where no bracket is open but the enum's own.
    let mut depth = 0;
    for token in &tokens[start + 2..] {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            "," | "#" => {}
            variant if depth == 1 => {
                verbs.insert(kebab(variant));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    verbs
}

fn kebab(variant: &str) -> String {
    let mut word = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

/// Returns the commands in a document's blocks of code that neither automation nor program knows.
pub fn commands(
    path: &str,
    text: &str,
    xtask: &BTreeSet<&str>,
    program: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            let words = line
                .split_whitespace()
                .skip_while(|word| ["$", "sudo"].contains(word));
            let words: Vec<&str> = words.take(3).collect();
            let is_unknown = match words[..] {
                ["cargo", "xtask", verb] => !xtask.contains(verb),
                ["bastide", verb, ..] => !verb.starts_with('-') && !program.contains(verb),
                _ => false,
            };
            if is_unknown {
                let what = format!("there is no command `{}`", words.join(" "));
                findings.push(Finding::new(format!("{path}:{}", at + 1), what));
            }
        }
    }
    findings
}

/// Returns the links of a document that lead to nothing in the tree.
pub fn links(path: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let is_there = |target: &str| {
        let folder = format!("{target}/");
        files
            .iter()
            .any(|file| file == target || file.starts_with(&folder))
    };
    linked(path, text)
        .filter(|(_, target)| !is_there(target))
        .map(|(line, target)| {
            let what = format!("the link leads to `{target}`, which is not there");
            Finding::new(format!("{path}:{line}"), what)
        })
        .collect()
}

/// Returns the design notes that their list does not name.
pub fn designs(index: &str, files: &[String]) -> Vec<Finding> {
    let known: BTreeSet<String> = linked(DESIGNS, index).map(|(_, target)| target).collect();
    let folder = DESIGNS.trim_end_matches("README.md");
    files
        .iter()
        .filter(|file| file.starts_with(folder) && *file != DESIGNS && !known.contains(*file))
        .map(|file| Finding::new(DESIGNS, format!("`{file}` is not listed")))
        .collect()
}

/// Returns the places in the tree to which a document links, each with its line.
fn linked<'d>(path: &'d str, text: &'d str) -> impl Iterator<Item = (usize, String)> + 'd {
    text.lines().enumerate().flat_map(move |(at, line)| {
        let links = line.split("](").skip(1);
        links.filter_map(move |rest| Some((at + 1, target(path, rest.split_once(')')?.0)?)))
    })
}

/// Returns where in the tree a link leads; `None`: to the document itself, or out of the tree.
fn target(document: &str, link: &str) -> Option<String> {
    let link = link.split('#').next()?;
    if link.is_empty() || link.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests;
