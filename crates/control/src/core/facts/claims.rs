//! Which running agent is a node, when two machines hold its keys: a disk was copied.
//!
//! ```text
//! heard from                          then the node is
//!   who holds it                        still him
//!   the run after him, by its own word  that one, if it runs on the same boot of the same machine;
//!                                       else still him, until he misses a report
//!   the run before him                  that one          (it lives: what came after it is a copy)
//!   anybody, and he is silent           that one
//!   anybody else                        still him; the other is a rival
//! ```
//!
//! An agent that is started again knows from its disk which run came before it, so a restart is
//! taken up at once. A copy knows the same run from its copied disk, but runs elsewhere: it waits for
//! a report of the original, and that comes. Rivals are turned away for as long as the holder is
//! heard.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::v1::{Instance, RUNS_MAX};
use bastide_api::{InstanceId, UnixTime};

/// How long after its last report a run counts as alive: three reports.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// How long a run that is to follow the holder from elsewhere waits for a report of his.
const MISSED_AFTER: Duration = Duration::from_secs(12);
/// How long a rival is told of after it was last heard.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Most rivals that are remembered of a node.
const RIVALS_MAX: usize = 4;

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
    /// A run from elsewhere that waits whether the holder is heard once more.
    waiting: Option<Rival>,
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
    /// It may be the holder soon.
    Waits,
    Rival,
}

impl Claim {
    /// The first run that is heard is the node.
    pub fn new(now: UnixTime, holder: Instance, from: Option<IpAddr>) -> Self {
        Self {
            holder: bounded(holder),
            heard: now,
            from,
            before: Vec::new(),
            rivals: Vec::new(),
            waiting: None,
        }
    }

    fn judge(&self, now: UnixTime, run: &Instance) -> Verdict {
        if run.id == self.holder.id {
            return Verdict::Holder;
        }
        if SILENT_AFTER <= now.since(self.heard) {
            return Verdict::Next;
        }
        if self.rivals.iter().any(|rival| rival.id == run.id) {
            return Verdict::Rival;
        }
        if self.holder.after.contains(&run.id) || self.before.contains(&run.id) {
            return Verdict::Original;
        }
        if run
            .after
            .iter()
            .take(RUNS_MAX)
            .any(|id| *id == self.holder.id)
        {
            let may_live = now.since(self.heard) < MISSED_AFTER;
            return if run.moved && may_live {
                Verdict::Waits
            } else {
                Verdict::Next
            };
        }
        Verdict::Rival
    }

    /// Returns whether a run is the node, or is from now on.
    pub fn would_accept(&self, now: UnixTime, run: &Instance) -> bool {
        !matches!(self.judge(now, run), Verdict::Waits | Verdict::Rival)
    }

    /// Notes that a run was heard.
    pub fn hear(&mut self, now: UnixTime, run: Instance, from: Option<IpAddr>) {
        match self.judge(now, &run) {
            Verdict::Holder => {
                // He lives, so who waited to follow him is a copy.
                if let Some(copy) = self.waiting.take() {
                    self.turn_away(copy.heard, copy.id, copy.from);
                }
            }
            Verdict::Next => {
                self.waiting = None;
                self.before.insert(0, self.holder.id);
                self.before.truncate(RUNS_MAX);
                self.rivals.retain(|rival| rival.id != run.id);
            }
            Verdict::Original => {
                let copy = self.holder.id;
                self.before.retain(|id| *id != run.id && *id != copy);
                self.turn_away(self.heard, copy, self.from);
            }
            Verdict::Waits => {
                let (id, heard) = (run.id, now);
                self.waiting = Some(Rival { id, heard, from });
                return;
            }
            Verdict::Rival => return self.turn_away(now, run.id, from),
        }
        self.holder = bounded(run);
        self.heard = now;
        self.from = from;
    }

    fn turn_away(&mut self, now: UnixTime, id: InstanceId, from: Option<IpAddr>) {
        self.rivals.retain(|rival| rival.id != id);
        let heard = now;
        self.rivals.insert(0, Rival { id, heard, from });
        self.rivals.truncate(RIVALS_MAX);
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

fn bounded(mut run: Instance) -> Instance {
    run.after.truncate(RUNS_MAX);
    run
}

fn at(from: Option<IpAddr>) -> String {
    from.map_or_else(
        || "at an unknown address".to_owned(),
        |ip| format!("at {ip}"),
    )
}

#[cfg(test)]
mod tests;
