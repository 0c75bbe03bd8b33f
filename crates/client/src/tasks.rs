//! Tasks that belong to somebody.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

type Cause = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Cause>;

/// A task that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It returned an error.
    #[error("task `{name}` failed")]
    Failed {
        /// Which task.
        name: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// It panicked.
    #[error("task `{name}` panicked")]
    Panicked {
        /// Which task.
        name: &'static str,
    },
}

/// A group of named tasks. The first that fails or panics ends the group; dropped, it aborts what
/// still runs. Only here are tasks spawned.
#[derive(Debug, Default)]
pub struct TaskGroup {
    tasks: JoinSet<Outcome>,
    names: BTreeMap<Id, &'static str>,
    stop: CancellationToken,
}

impl TaskGroup {
    /// Makes an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty group that ends when `stop` is cancelled.
    pub fn stopped_by(stop: &CancellationToken) -> Self {
        Self {
            stop: stop.child_token(),
            ..Self::default()
        }
    }

    /// Returns what the tasks watch to know when to end.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns how many tasks run, or ended and were not yet looked at.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts a task. An error that it returns ends the group.
    pub fn spawn<E>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Cause>,
    {
        let handle = self
            .tasks
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Waits until one task has ended; `None` if there is none. If it failed, the others are told
    /// to end.
    ///
    /// Cancel safe.
    pub async fn join_next(&mut self) -> Option<Result<&'static str, TaskError>> {
        let ended = self.tasks.join_next_with_id().await?;
        Some(self.note(ended))
    }

    /// Lets go of the tasks that have ended by now; the first error among them is returned, and the
    /// others are told to end.
    pub fn reap(&mut self) -> Result<(), TaskError> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            first = first.and(self.note(ended).map(drop));
        }
        first
    }

    /// Waits until all tasks have ended, or one has failed: then the others are told to end, and
    /// [`Self::shutdown`] waits for them.
    ///
    /// Cancel safe.
    pub async fn run(&mut self) -> Result<(), TaskError> {
        while let Some(ended) = self.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Tells all tasks to end, waits until `by`, and aborts what still runs. Returns the first error,
    /// and the names of what was aborted.
    pub async fn shutdown(mut self, by: Instant) -> (Option<TaskError>, Vec<&'static str>) {
        self.stop.cancel();
        let mut first = None;
        loop {
            match timeout_at(by, self.join_next()).await {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => {
                    first.get_or_insert(error);
                }
                Ok(None) => return (first, Vec::new()),
                Err(_) => break,
            }
        }
        self.tasks.shutdown().await;
        (first, self.names.values().copied().collect())
    }

    fn note(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Result<&'static str, TaskError> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let name = self
            .names
            .remove(&id)
            .expect("each task of the set was named when it was spawned");
        let failed = match outcome {
            Ok(Ok(())) => return Ok(name),
            Ok(Err(source)) => TaskError::Failed { name, source },
            Err(error) if error.is_panic() => TaskError::Panicked { name },
            // Aborted by the runtime's own end.
            Err(_) => return Ok(name),
        };
        self.stop.cancel();
        Err(failed)
    }
}

#[cfg(test)]
mod tests;
