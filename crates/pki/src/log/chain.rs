//! Reading a log line by line, and finding what is wrong with it.

use std::fmt;

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::tree::{Edge, Hash, leaf_hash, line_hash};

/// What is wrong with a log, at a line that is counted from 0 as its `seq` counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A line is no record.
    NotARecord,
    /// Lines are missing: from this one to the one before the line that stands there.
    Missing {
        /// The first of them.
        from: u64,
        /// The line that stands there.
        until: u64,
    },
    /// A line stands where another belongs, which came before it.
    Misplaced {
        /// The line that stands there.
        found: u64,
        /// The line that belongs there.
        expected: u64,
    },
    /// A line is not what was written: the line after it names another hash.
    Changed {
        /// Which line.
        line: u64,
    },
    /// The log ends before a checkpoint: what came after is cut off.
    Cut {
        /// The first line that is missing.
        from: u64,
        /// How many lines the checkpoint tells of.
        known: u64,
    },
    /// The log is not the one that the checkpoint is of, at this line or before it: an older one was
    /// put back and went on, or lines were written anew.
    Forked {
        /// The last line that the checkpoint tells of.
        line: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => write!(f, "this is no record"),
            Self::Missing { from, until } if from + 1 == *until => {
                write!(f, "line {from} is missing")
            }
            Self::Missing { from, until } => write!(f, "lines {from} to {} are missing", until - 1),
            Self::Misplaced { found, expected } => {
                write!(f, "line {found} stands where line {expected} belongs")
            }
            Self::Changed { line } => write!(f, "line {line} was changed after it was written"),
            Self::Cut { from, known } => write!(
                f,
                "the log is cut: lines {from} to {} are missing at its end",
                known - 1
            ),
            Self::Forked { line } => write!(
                f,
                "the log is not the one that the checkpoint is of, at line {line} or before it: an \
                 older one was put back, or lines were written anew"
            ),
        }
    }
}

/// A fault, and where: the how manieth line that was given, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is wrong.
    pub fault: Fault,
    /// At which line that was given; `None`: at the end.
    pub at: Option<u64>,
}

/// The line that was read last.
struct Last {
    number: u64,
    hash: Hash,
    /// Where the line was found not to follow the one before it, and which that is.
    parted: Option<u64>,
}

/// Reads the lines of a log in order, from one file or several.
pub struct Chain {
    /// Checkpoints to hold it against, by size.
    checkpoints: Vec<Checkpoint>,
    given: u64,
    first: Option<u64>,
    last: Option<Last>,
    /// The tree, while the lines are whole from the first on.
    tree: Option<Edge>,
    found: Vec<Found>,
}

impl Chain {
    /// Begins. `checkpoints`: what the log is held against.
    pub fn new(mut checkpoints: Vec<Checkpoint>) -> Self {
        checkpoints.sort_by_key(|checkpoint| checkpoint.size);
        Self {
            checkpoints,
            given: 0,
            first: None,
            last: None,
            tree: Some(Edge::default()),
            found: Vec::new(),
        }
    }

    /// Returns the number of the first line that was read.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// Returns the number of the line after the last that was read.
    pub fn next(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.number + 1)
    }

    fn note(&mut self, fault: Fault) {
        let at = Some(self.given);
        self.found.push(Found { fault, at });
    }

    /// Takes in the next line, without its end.
    pub fn take(&mut self, line: &[u8]) {
        self.judge(line);
        self.given += 1;
    }

    fn judge(&mut self, line: &[u8]) {
        let Some((number, previous)) = parsed(line) else {
            self.tree = None;
            return self.note(Fault::NotARecord);
        };
        let hash = line_hash(line);
        let mut parted = None;
        match self.last.take() {
            None => {
                self.first = Some(number);
                if number != 0 {
                    self.tree = None;
                }
            }
            Some(last) if number == last.number + 1 => {
                if previous != HEXLOWER.encode(&last.hash) {
                    // Either it or the one before: the next line tells.
                    if let Some(line) = last.parted {
                        let is_it = |found: &Found| found.fault == Fault::Changed { line };
                        if let Some(at) = self.found.iter().rposition(is_it) {
                            self.found.remove(at);
                        }
                    }
                    self.note(Fault::Changed { line: last.number });
                    parted = Some(last.number);
                    self.tree = None;
                }
            }
            Some(last) => {
                self.tree = None;
                let expected = last.number + 1;
                self.note(if expected < number {
                    Fault::Missing {
                        from: expected,
                        until: number,
                    }
                } else {
                    Fault::Misplaced {
                        found: number,
                        expected,
                    }
                });
            }
        }
        if let Some(tree) = &mut self.tree {
            tree.push(leaf_hash(&hash), &mut Vec::new());
        }
        self.last = Some(Last {
            number,
            hash,
            parted,
        });
        self.compare(number, &hash);
    }

    /// Holds the line against checkpoints that end with it.
    fn compare(&mut self, number: u64, hash: &Hash) {
        let root = |tree: &Option<Edge>| tree.as_ref().map(Edge::root);
        let differs = self
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.size == number + 1)
            .any(|checkpoint| {
                checkpoint.line.is_some_and(|line| line != *hash)
                    || root(&self.tree).is_some_and(|root| root != checkpoint.root)
            });
        if differs {
            self.note(Fault::Forked { line: number });
        }
    }

    /// Ends, and returns what was found, in order.
    pub fn end(mut self) -> Vec<Found> {
        let next = self.next();
        if let Some(known) = self.checkpoints.last().map(|checkpoint| checkpoint.size)
            && next < known
        {
            self.found.push(Found {
                fault: Fault::Cut { from: next, known },
                at: None,
            });
        }
        self.found
    }
}

fn parsed(line: &[u8]) -> Option<(u64, String)> {
    let Value::Object(mut record) = serde_json::from_slice(line).ok()? else {
        return None;
    };
    let number = record.get("seq")?.as_u64()?;
    match record.remove("prev")? {
        Value::String(previous) => Some((number, previous)),
        _ => None,
    }
}
