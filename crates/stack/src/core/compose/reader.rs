//! Takes values out of the tree and collects what is wrong with them.

use std::collections::BTreeMap;

use super::ComposeError;
use crate::core::yaml::{At, Entry, Node, Value};

const ERRORS_MAX: usize = 100;
/// Longest quotation of the file in a message, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Collects errors and notes while the file is read.
#[derive(Default)]
pub struct Reader {
    errors: BTreeMap<(At, String), Option<String>>,
    notes: Vec<String>,
}

/// The entries of a map whose keys are known.
pub struct Fields<'a>(BTreeMap<&'a str, &'a Node>);

impl<'a> Fields<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.0.get(key).copied()
    }
}

impl Reader {
    /// Records an error. The same error at the same place (an alias used twice) counts once.
    pub fn error(&mut self, at: At, what: impl Into<String>, hint: Option<&str>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors
                .insert((at, what.into()), hint.map(str::to_owned));
        }
    }

    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    pub fn into_notes(self) -> Vec<String> {
        self.notes
    }

    pub fn into_errors(self) -> Vec<ComposeError> {
        let error = |((at, what), hint): ((At, String), Option<String>)| ComposeError {
            line: at.line,
            column: at.column,
            what,
            hint,
        };
        self.errors.into_iter().map(error).collect()
    }

    /// Takes a map as it is. `what` names it in messages.
    pub fn entries<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [Entry]> {
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        self.error(
            node.at,
            format!("{what} takes a map, not {}", node.kind()),
            None,
        );
        None
    }

    /// Takes a list as it is.
    pub fn list<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [Node]> {
        if let Value::List(nodes) = &node.value {
            return Some(nodes);
        }
        self.error(
            node.at,
            format!("{what} takes a list, not {}", node.kind()),
            None,
        );
        None
    }

    /// Takes a map with known keys. Every other key is an error: with the reason that `refused`
    /// gives, or with the known key that looks most like it.
    pub fn fields<'a>(
        &mut self,
        node: &'a Node,
        context: &str,
        known: &[&str],
        refused: fn(&str) -> Option<&'static str>,
    ) -> Option<Fields<'a>> {
        let entries = self.entries(node, context)?;
        let mut fields = BTreeMap::new();
        for entry in entries {
            if known.contains(&entry.key.as_str()) {
                fields.insert(entry.key.as_str(), &entry.value);
            } else if let Some(reason) = refused(&entry.key) {
                // An empty reason: an extension, which compose defines as ignored.
                if !reason.is_empty() {
                    let what = format!("`{}` is refused in {context}", quote(&entry.key));
                    self.error(entry.at, what, Some(reason));
                }
            } else {
                let what = format!("key `{}` is not known in {context}", quote(&entry.key));
                let hint = match nearest(&entry.key, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.error(entry.at, what, Some(&hint));
            }
        }
        Some(Fields(fields))
    }

    /// Takes a value as text, with `$$` turned into `$`. Variables are refused.
    pub fn text(&mut self, node: &Node) -> Option<String> {
        let Value::Scalar { text, .. } = &node.value else {
            self.error(
                node.at,
                format!("a value is expected here, not {}", node.kind()),
                None,
            );
            return None;
        };
        if node.is_null() {
            self.error(node.at, "a value is expected here, not nothing", None);
            return None;
        }
        if text.contains('\0') {
            self.error(node.at, "a value cannot hold a zero byte", None);
            return None;
        }
        let mut plain = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(dollar) = rest.find('$') {
            plain.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            let Some(after) = rest.strip_prefix('$') else {
                let hint = "write the value itself, or `$$` for a dollar sign";
                let what = format!("variables are not supported: `{}`", quote(text));
                self.error(node.at, what, Some(hint));
                return None;
            };
            plain.push('$');
            rest = after;
        }
        plain.push_str(rest);
        Some(plain)
    }

    /// Takes a value that `read` understands; `expected` says what it is.
    pub fn value<T>(
        &mut self,
        node: &Node,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node)?;
        let value = read(&text);
        if value.is_none() {
            let what = format!("`{}` is not {expected}", quote(&text));
            self.error(node.at, what, None);
        }
        value
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, node: &Node) -> Option<bool> {
        self.value(node, "`true` or `false`", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// Takes a whole number from 0 to `max`.
    pub fn number(&mut self, node: &Node, max: u32) -> Option<u32> {
        self.value(node, &format!("a whole number from 0 to {max}"), |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number <= max)
        })
    }
}

/// Returns where `key` stands in a map.
pub fn key_position(node: &Node, key: &str) -> Option<At> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(entry.at)
}

/// Cuts foreign text down for a message.
pub fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(QUOTE_CHARS_MAX)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect();
    if quoted.len() < text.len() && QUOTE_CHARS_MAX < text.chars().count() {
        quoted.push('…');
    }
    quoted
}

/// Returns the known key that at most two typing errors turn into `key`.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    const LENGTH_MAX: usize = 40;
    if LENGTH_MAX < key.len() {
        return None;
    }
    known
        .iter()
        .map(|candidate| (distance(key.as_bytes(), candidate.as_bytes()), *candidate))
        .filter(|(distance, _)| *distance <= 2 && *distance < key.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
