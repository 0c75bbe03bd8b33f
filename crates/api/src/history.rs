//! Where a view comes from: which runs of the control plane led to it, so that an older store that
//! was put back shows, though it has gone on since.
//!
//! Each run of a controller's server writes itself into the view, with the revision it began at.
//! Who holds a view knows the run that it is of. A later view that does not tell of that run, or that
//! tells that it ended before what is held, does not come after it: the store was put back. An
//! operator who did so on purpose says so once, which begins a new generation, and that is followed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Revision, ViewEntries};

/// The entry of the view that holds it.
pub const HISTORY: &str = "history";
/// The entry of the view that holds the key which verifies checkpoints of the audit log, as a JSON text.
pub const LOG_KEY: &str = "log";
/// Runs that are told: about a restart a day for two months.
pub const RUNS_MAX: usize = 64;

/// The runs of the control plane that led to a view, the oldest ones left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// How often an operator accepted that the store was put back.
    pub generation: u32,
    /// The runs, in their order; the last is the one that signs.
    pub runs: Vec<Run>,
}

/// One run of a controller's server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Drawn at random at its start: 32 hexadecimal digits.
    pub id: String,
    /// The revision of the store that it found.
    pub from: Revision,
}

/// Why a view does not come after one that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is of an earlier revision.
    Older,
    /// It is of a store that was never in the state that is held, though its revision is later.
    Apart,
}

impl History {
    /// Returns the history of a view; `None` if it tells of none, or in a form that is not known.
    pub fn of(view: &ViewEntries) -> Option<Self> {
        Self::among(&view.entries)
    }

    /// As [`Self::of`], of the entries alone.
    pub fn among(entries: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(entries.get(HISTORY)?).ok()
    }

    /// Returns the run that signs.
    pub fn run(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// Adds a run that begins at `from`.
    pub fn begin(&mut self, id: String, from: Revision) {
        self.runs.push(Run { id, from });
        let surplus = self.runs.len().saturating_sub(RUNS_MAX);
        self.runs.drain(..surplus);
    }

    /// Begins a new generation with a run that begins at `from`: what was before is let go.
    pub fn begin_anew(&mut self, id: String, from: Revision) {
        self.generation = self.generation.saturating_add(1);
        self.runs.clear();
        self.begin(id, from);
    }

    /// Returns whether this is the history of a store that was in the state after `revision` while
    /// the run `id` was the last. `true` if that is so long ago that it cannot be told.
    pub fn has_been(&self, id: &str, revision: Revision) -> bool {
        match self.runs.iter().position(|run| run.id == id) {
            Some(at) => self
                .runs
                .get(at + 1)
                .is_none_or(|next| revision <= next.from),
            None => {
                RUNS_MAX <= self.runs.len()
                    && self
                        .runs
                        .first()
                        .is_some_and(|first| revision <= first.from)
            }
        }
    }
}

/// Returns whether `offered` may follow `held`, and why not.
pub fn follows(held: &ViewEntries, offered: &ViewEntries) -> Result<(), Departure> {
    let of_held = History::of(held);
    let of_offered = History::of(offered).unwrap_or_default();
    let generation = of_held.as_ref().map_or(0, |history| history.generation);
    if generation < of_offered.generation {
        return Ok(());
    }
    if offered.revision < held.revision {
        return Err(Departure::Older);
    }
    if of_offered.generation < generation {
        return Err(Departure::Apart);
    }
    match of_held.as_ref().and_then(History::run) {
        Some(run) if !of_offered.has_been(&run.id, held.revision) => Err(Departure::Apart),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
