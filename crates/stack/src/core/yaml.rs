//! YAML text to a tree that remembers where each node stands.
//!
//! The tree is smaller than YAML: one document, no tags, keys are scalars and unique. Aliases are
//! expanded and merge keys (`<<`) applied, both bounded by [`NODES_MAX`], so that a small file cannot
//! grow into a large tree.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

/// Most nodes of a tree after aliases are expanded.
const NODES_MAX: usize = 50_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// A position in the text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: usize,
    pub column: usize,
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    /// A scalar; `plain` if it was written without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<Entry>),
}

/// A key of a map and what it maps to.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub at: At,
    pub value: Node,
}

/// Why the text is not such a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    pub at: At,
    pub what: String,
}

impl Node {
    /// Whether nothing was written (`key:`, `key: ~`, `key: null`).
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What kind of node this is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads the one document of `text`; `None` if there is none.
pub fn read(text: &str) -> Result<Option<Node>, YamlError> {
    let options = serde_saphyr::granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
    };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| YamlError {
            at: At {
                line: error.marker().line(),
                column: error.marker().col() + 1,
            },
            what: format!("the file is not YAML: {}", error.info()),
        })?;
        builder.take(event, &span)?;
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    at: At,
    anchor: usize,
    nodes_before: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Entries,
        key: Option<(String, At, bool)>,
    },
}

/// The entries of a map, with an index by key.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    /// Where in `list`, and how it came there.
    index: BTreeMap<String, (usize, Origin)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Written,
    Merged,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let at = At {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        let refuse = |what: &str| YamlError {
            at,
            what: what.to_owned(),
        };
        let tagged = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, _, tag)
            | Event::MappingStart(_, _, tag) => tag.is_some(),
            _ => false,
        };
        if tagged {
            return Err(refuse("tags (`!…`) are not understood here"));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if 1 < self.documents {
                    return Err(refuse("a second document begins here; only one is read"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let text = text.into_owned();
                let node = Node {
                    at,
                    value: Value::Scalar { text, plain },
                };
                self.count(at, 1)?;
                if anchor != 0 {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.place(node)?;
            }
            Event::Alias(anchor) => {
                // An alias inside its own anchor has no node yet.
                let (node, size) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| refuse("this alias refers to itself"))?;
                self.count(at, size)?;
                self.place(node)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(at, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, key) = (Entries::default(), None);
                self.begin(at, anchor, OpenKind::Map { entries, key })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, at: At, more: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if NODES_MAX < self.nodes {
            let what = format!("the file has more than {NODES_MAX} nodes, aliases expanded");
            return Err(YamlError { at, what });
        }
        Ok(())
    }

    fn begin(&mut self, at: At, anchor: usize, kind: OpenKind) -> Result<(), YamlError> {
        let nodes_before = self.nodes;
        self.count(at, 1)?;
        if DEPTH_MAX <= self.open.len() {
            let what = format!("the file nests deeper than {DEPTH_MAX} levels");
            return Err(YamlError { at, what });
        }
        self.open.push(Open {
            at,
            anchor,
            nodes_before,
            kind,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let open = self.open.pop().expect("the parser ends what it began");
        let value = match open.kind {
            OpenKind::List(nodes) => Value::List(nodes),
            OpenKind::Map { entries, .. } => Value::Map(entries.list),
        };
        let node = Node { at: open.at, value };
        if open.anchor != 0 {
            let size = self.nodes - open.nodes_before;
            self.anchors.insert(open.anchor, (node.clone(), size));
        }
        self.place(node)
    }

    /// Puts a finished node where it belongs: root, list, key or value.
    fn place(&mut self, node: Node) -> Result<(), YamlError> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(nodes)) => nodes.push(node),
            Some(OpenKind::Map { entries, key }) => match key.take() {
                None => {
                    let Value::Scalar { text, plain } = node.value else {
                        return Err(YamlError {
                            at: node.at,
                            what: "a key is a list or a map; only texts can be keys".to_owned(),
                        });
                    };
                    *key = Some((text, node.at, plain));
                }
                Some((text, at, true)) if text == "<<" => entries.merge(at, node)?,
                Some((key, at, _)) => entries.write(Entry {
                    key,
                    at,
                    value: node,
                })?,
            },
        }
        Ok(())
    }
}

impl Entries {
    /// Adds an entry that is written in the map itself; it wins over a merged one.
    fn write(&mut self, entry: Entry) -> Result<(), YamlError> {
        match self.index.get_mut(&entry.key) {
            Some((position, origin @ Origin::Merged)) => {
                *origin = Origin::Written;
                self.list[*position] = entry;
            }
            Some((position, Origin::Written)) => {
                let line = self.list[*position].at.line;
                return Err(YamlError {
                    at: entry.at,
                    what: format!("key `{}` was already given at line {line}", entry.key),
                });
            }
            None => self.append(entry, Origin::Written),
        }
        Ok(())
    }

    /// Applies a merge key (YAML 1.1, "Merge Key Language-Independent Type"): what is there wins.
    fn merge(&mut self, at: At, from: Node) -> Result<(), YamlError> {
        let maps = match from.value {
            Value::List(nodes) => nodes,
            _ => vec![from],
        };
        for map in maps {
            let Value::Map(entries) = map.value else {
                let what = "`<<` takes a map or a list of maps".to_owned();
                return Err(YamlError { at, what });
            };
            for entry in entries {
                if !self.index.contains_key(&entry.key) {
                    self.append(entry, Origin::Merged);
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: Entry, origin: Origin) {
        self.index
            .insert(entry.key.clone(), (self.list.len(), origin));
        self.list.push(entry);
    }
}

#[cfg(test)]
mod tests;
