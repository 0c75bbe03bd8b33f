//! An engine that was forced to go on alone can miss that its Swarm is active: its network side then
//! refuses every task, and goes on so when it is forced again and in a new Swarm, too (Docker 20.10.24;
//! four of ten rebuilds on an idle machine). Starting the engine anew mends it, which is the operator's.

use std::collections::BTreeSet;
use std::time::Duration;

use bastide_api::UnixTime;

use crate::core::state::{MemberId, SwarmTask, TaskId};

/// How an engine refuses a task then (Docker 20.10, libnetwork's `NewNetwork`).
const REFUSAL: &str = "swarm is not active";
/// For how long new tasks must be refused: the first may come before the engine is ready.
const REFUSES_FOR: Duration = Duration::from_secs(8);
/// What is remembered of an engine that was forced.
#[derive(Debug)]
pub struct Forced {
    is_deaf: bool,
    refused: BTreeSet<TaskId>,
    since: Option<UnixTime>,
}

impl Forced {
    /// An engine that was forced just now.
    pub fn just_now() -> Self {
        Self {
            is_deaf: false,
            refused: BTreeSet::new(),
            since: None,
        }
    }

    /// Looks at the Swarm's tasks; returns whether the engine, which is `own`, refuses them
    /// all.
    pub fn is_deaf(&mut self, tasks: &[SwarmTask], own: Option<&MemberId>, now: UnixTime) -> bool {
        // Those of members that are gone still count as running for a while.
        let of_own = || tasks.iter().filter(|task| task.member.as_ref() == own);
        let refused: BTreeSet<_> = of_own()
            .filter(|task| {
                let trouble = task.trouble.as_deref();
                trouble.is_some_and(|words| words.contains(REFUSAL))
            })
            .map(|task| task.id.clone())
            .collect();
        let has_new = !refused.is_subset(&self.refused);
        self.refused = refused;
        if of_own().any(|task| task.wanted && task.running) {
            self.since = None;
            self.is_deaf = false;
        } else if has_new {
            let since = *self.since.get_or_insert(now);
            self.is_deaf |= REFUSES_FOR <= now.since(since);
        }
        self.is_deaf
    }
}

#[cfg(test)]
mod tests;
