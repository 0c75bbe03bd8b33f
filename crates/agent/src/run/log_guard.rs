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
    /// A checkpoint that came before the view that says which key signs them.
    pending: Option<(String, Vec<String>)>,
}

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
            pending: None,
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
                self.pending = Some((note, proof));
                Ok(())
            }
        }
    }

    /// Judges what came before this view. Call it before the view is followed.
    pub(super) fn view(&mut self, view: &ViewEntries) -> Result<(), LogError> {
        match self.pending.take() {
            Some((note, proof)) => self.judge(view, &note, &proof),
            None => Ok(()),
        }
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
