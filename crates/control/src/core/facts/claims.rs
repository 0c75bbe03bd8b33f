//! Which running agent is a node, when two machines hold its keys: a disk was copied.
//!
//! ```text
//! heard from                          then the node is
//!   who holds it                        still him
//!   the run after him, by its own word  that one          (the agent was started again)
//!   the run before him                  that one          (it lives: what came after it is a copy)
//!   anybody, and he is silent           that one
//!   anybody else                        still him; the other is a rival
//! ```
//!
//! An agent that is started again knows from its disk which run came before it, so a restart is
//! taken up at once. A copy knows the same run from its copied disk: it takes over for one report at
//! most, because the original is still heard. Rivals are turned away for as long as the holder is
//! heard.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::v1::Instance;
use bastide_api::{InstanceId, UnixTime};

/// How long after its last report a run counts as alive: three reports.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// How long a rival is told of after it was last heard.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Most runs before, and most rivals, that are remembered of a node.
const RUNS_MAX: usize = 4;

/// Which run of its agent is a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    holder: Instance,
    heard: UnixTime,
    from: Option<IpAddr>,
    /// Runs that held it before, the last one first.
    before: Vec<InstanceId>,
    /// Runs that were turned away, the last one first.
    rivals: Vec<Rival>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rival {
    id: InstanceId,
    heard: UnixTime,
    from: Option<IpAddr>,
}

/// What to make of a run that is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holder,
    /// It is the holder from now on.
    Next,
    /// It is the holder again, and who held it is a copy.
    Original,
    Rival,
}

impl Claim {
    /// The first run that is heard is the node.
    pub fn new(now: UnixTime, holder: Instance, from: Option<IpAddr>) -> Self {
        Self {
            holder,
            heard: now,
            from,
            before: Vec::new(),
            rivals: Vec::new(),
        }
    }

    fn judge(&self, now: UnixTime, run: Instance) -> Verdict {
        if run.id == self.holder.id {
            return Verdict::Holder;
        }
        if SILENT_AFTER <= now.since(self.heard) {
            return Verdict::Next;
        }
        if self.rivals.iter().any(|rival| rival.id == run.id) {
            return Verdict::Rival;
        }
        if self.holder.after == Some(run.id) || self.before.contains(&run.id) {
            return Verdict::Original;
        }
        if run.after == Some(self.holder.id) {
            return Verdict::Next;
        }
        Verdict::Rival
    }

    /// Returns whether a run is the node, or may be from now on.
    pub fn would_accept(&self, now: UnixTime, run: Instance) -> bool {
        self.judge(now, run) != Verdict::Rival
    }

    /// Notes that a run was heard.
    pub fn hear(&mut self, now: UnixTime, run: Instance, from: Option<IpAddr>) {
        match self.judge(now, run) {
            Verdict::Holder => {}
            Verdict::Next => {
                self.before.insert(0, self.holder.id);
                self.before.truncate(RUNS_MAX);
                self.rivals.retain(|rival| rival.id != run.id);
            }
            Verdict::Original => {
                let copy = self.holder.id;
                self.before.retain(|id| *id != run.id && *id != copy);
                self.turn_away(self.heard, copy, self.from);
            }
            Verdict::Rival => return self.turn_away(now, run.id, from),
        }
        self.holder = run;
        self.heard = now;
        self.from = from;
    }

    fn turn_away(&mut self, now: UnixTime, id: InstanceId, from: Option<IpAddr>) {
        self.rivals.retain(|rival| rival.id != id);
        let heard = now;
        self.rivals.insert(0, Rival { id, heard, from });
        self.rivals.truncate(RUNS_MAX);
    }

    /// Says that there is a rival, if one was heard lately.
    pub fn trouble(&self, now: UnixTime) -> Option<String> {
        let rival = self.rivals.first()?;
        if TOLD_FOR <= now.since(rival.heard) {
            return None;
        }
        Some(format!(
            "two machines run with this node's keys, as after copying a disk: the one {} is the \
             node, the one {} is kept out; on that one type `bastide down --forget`, then \
             `bastide join -` with a new ticket",
            at(self.from),
            at(rival.from)
        ))
    }
}

fn at(from: Option<IpAddr>) -> String {
    from.map_or_else(
        || "at an unknown address".to_owned(),
        |ip| format!("at {ip}"),
    )
}

#[cfg(test)]
mod tests;
