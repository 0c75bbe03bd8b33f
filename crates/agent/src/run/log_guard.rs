//! Holding the controller to its audit log: no view is followed of one whose log is not the one that
//! this host knows.

use bastide_api::ViewEntries;
use bastide_client::{LogError, LogFollower};
use tracing::warn;

use super::state::StateDir;

/// What this host knows of the audit log, during one watch.
pub(super) struct LogGuard<'s> {
    state: &'s StateDir,
    follower: LogFollower,
    /// Checkpoints that came before the view that says which key signs them, in order: each one's
    /// proof begins where the one before ends.
    pending: Vec<(String, Vec<String>)>,
}

/// Most checkpoints that wait for a view: at one every few seconds, some twenty minutes.
const PENDING_MAX: usize = 256;

impl<'s> LogGuard<'s> {
    /// Begins with what is on disk.
    pub(super) fn new(state: &'s StateDir) -> Self {
        let kept = state.log().unwrap_or_else(|error| {
            warn!(%error, "what was known of the audit log is forgotten");
            None
        });
        Self {
            state,
            follower: LogFollower::new(kept),
            pending: Vec::new(),
        }
    }

    /// Returns how many lines of the log are known.
    pub(super) fn lines(&self) -> u64 {
        self.follower.lines()
    }

    /// Takes in a checkpoint: judged at once by the view that this watch has brought, or, before there
    /// is one, along with it.
    pub(super) fn checkpoint(
        &mut self,
        view: Option<&ViewEntries>,
        note: String,
        proof: Vec<String>,
    ) -> Result<(), LogError> {
        match view {
            Some(view) => self.judge(view, &note, &proof),
            None => {
                self.pending.push((note, proof));
                Ok(())
            }
        }
    }

    /// Judges what came before this view. Call it before the view is followed.
    pub(super) fn view(&mut self, view: &ViewEntries) -> Result<(), LogError> {
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        pending.try_for_each(|(note, proof)| self.judge(view, &note, &proof))
    }

    /// Returns whether so many wait for a view that this watch had better end.
    pub(super) fn is_full(&self) -> bool {
        PENDING_MAX <= self.pending.len()
    }

    fn judge(&mut self, view: &ViewEntries, note: &str, proof: &[String]) -> Result<(), LogError> {
        // Kept before the view is: what a crash forgets of it was not relied on.
        if let Some(known) = self.follower.handle(view, note, proof)?
            && let Err(error) = self.state.save_log(&known)
        {
            warn!(%error, "what is known of the audit log could not be kept on disk");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
