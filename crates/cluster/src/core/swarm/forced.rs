//! An engine that was forced to go on alone can miss that its Swarm is active again: Docker stops the
//! former member and starts the new one at the same time, and when the former one's end comes last,
//! its network side takes the Swarm for gone. Every task is then refused, until it is forced again.

use std::collections::BTreeSet;
use std::time::Duration;

use bastide_api::UnixTime;

use crate::core::state::{MemberId, SwarmTask, TaskId};

/// How an engine refuses a task then (Docker 20.10, libnetwork's `NewNetwork`).
const REFUSAL: &str = "swarm is not active";
/// For how long new tasks must be refused: the first may come before the engine is ready.
const REFUSES_FOR: Duration = Duration::from_secs(8);
/// How often it is forced again before it is left to a person.
const AGAIN_MAX: u8 = 3;

/// What is remembered of an engine that was forced.
#[derive(Debug)]
pub struct Forced {
    again_left: u8,
    refused: BTreeSet<TaskId>,
    since: Option<UnixTime>,
}

impl Forced {
    /// An engine that was forced just now.
    pub fn just_now() -> Self {
        Self {
            again_left: AGAIN_MAX,
            refused: BTreeSet::new(),
            since: None,
        }
    }

    /// Looks at the Swarm's tasks; returns whether to force the engine, which is `own`, again.
    pub fn is_deaf(&mut self, tasks: &[SwarmTask], own: Option<&MemberId>, now: UnixTime) -> bool {
        let refused: BTreeSet<_> = tasks
            .iter()
            .filter(|task| task.member.as_ref() == own)
            .filter(|task| {
                let trouble = task.trouble.as_deref();
                trouble.is_some_and(|words| words.contains(REFUSAL))
            })
            .map(|task| task.id.clone())
            .collect();
        let has_new = !refused.is_subset(&self.refused);
        self.refused = refused;
        if tasks.iter().any(|task| task.wanted && task.running) {
            self.since = None;
            return false;
        }
        if !has_new || self.again_left == 0 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < REFUSES_FOR {
            return false;
        }
        self.since = None;
        self.again_left -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
