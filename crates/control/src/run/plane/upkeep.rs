//! What is done without anybody asking: ending what is due, and a new key now and then.

use super::{ATTEMPTS_MAX, EXPIRED_MAX, Plane, Undone, seed};
use crate::core::draft::Draft;
use crate::core::engines::sys::keys::Rotation;
use crate::core::entropy::Entropy;
use crate::core::need::Need;
use crate::core::refusal::Refusal;
use crate::core::tend;
use crate::run::writer::Job;
use bastide_store::Barrier;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

impl Plane {
    /// Begins another epoch of the barrier: what is written from now on is sealed under a new key.
    pub async fn rotate(&self) -> Result<u32, Refusal> {
        let (store, barrier) = (Arc::clone(&self.0.store), Arc::clone(&self.0.barrier));
        let rotated = tokio::task::spawn_blocking(move || Barrier::rotate(&*store, &barrier)).await;
        match rotated {
            Ok(Ok(epoch)) => {
                tracing::info!(epoch, "values are sealed under a new key from now on");
                Ok(epoch)
            }
            Ok(Err(error)) => {
                tracing::error!(cause = ?error, "the barrier's key was not changed");
                Err(Refusal::Internal(error.to_string()))
            }
            Err(error) => Err(Refusal::Internal(error.to_string())),
        }
    }

    /// Changes the barrier's key when it is time, and notes how much it has sealed.
    async fn tend_epoch(&self) {
        let due = || -> Result<bool, Refusal> {
            let snapshot = self.snapshot()?;
            let mut draft = Draft::new(&snapshot, self.now(), Entropy::new(&seed()), &[]);
            let rotation = Rotation::load(&mut draft)?;
            Ok(rotation.is_due(self.now(), self.0.barrier.epoch_status()))
        };
        match due() {
            Ok(true) => {
                let _ = self.rotate().await;
            }
            Ok(false) => {}
            Err(refusal) => {
                tracing::error!(cause = ?refusal, "it is not known when to change the key");
            }
        }
        let (store, barrier) = (Arc::clone(&self.0.store), Arc::clone(&self.0.barrier));
        let noted = tokio::task::spawn_blocking(move || Barrier::note_sealed(&*store, &barrier));
        if let Ok(Err(error)) = noted.await {
            tracing::error!(cause = ?error, "how much was sealed is not noted");
        }
    }

    /// Logs whose upkeep fails: once, and again after it has worked.
    fn tell_failed(&self, failed: Vec<(String, Refusal)>) {
        let mut known = self
            .0
            .failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|mount| failed.iter().any(|(other, _)| other == mount));
        for (mount, refusal) in failed {
            if known.insert(mount.clone()) {
                tracing::error!(%mount, cause = %refusal, "the upkeep of this mount fails");
            }
        }
    }

    /// Ends what is due and sweeps what hangs on revoked tokens. Returns after how long to call it
    /// again, at most a second.
    pub async fn tend(&self) -> Duration {
        let _ = self.0.jobs.try_send(Job::Tick);
        self.tend_epoch().await;
        for _ in 0..ATTEMPTS_MAX {
            let tended = {
                let Ok(snapshot) = self.snapshot() else {
                    break;
                };
                let facts = Arc::clone(&self.0.facts.borrow());
                tend::tend(
                    self.world(&facts),
                    &snapshot,
                    self.now(),
                    &seed(),
                    EXPIRED_MAX,
                )
            };
            match tended {
                Ok(tended) => {
                    self.tell_failed(tended.failed);
                    let (batch, observations, more) =
                        (tended.batch, tended.observations, tended.more);
                    if !batch.ops.is_empty() {
                        let batch = self.0.barrier.seal_batch(batch);
                        match self.write(batch, None, Need::Vital).await {
                            Ok(_) => {}
                            Err(Undone::Again) => continue,
                            Err(Undone::Refused(_)) => break,
                        }
                    }
                    for observation in observations {
                        self.observe(observation);
                    }
                    if !more {
                        break;
                    }
                }
                Err(refusal) => {
                    tracing::error!(cause = ?refusal, "leases cannot be ended");
                    break;
                }
            }
        }
        Duration::from_secs(1)
    }
}
