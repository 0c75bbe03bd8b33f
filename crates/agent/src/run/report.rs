//! Reporting to the control plane: what this node observes, and its certificate's renewal.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bastide_api::NodeId;
use bastide_api::v1::{NodeFacts, PathFact, RenewAnswer, RenewRequest};
use bastide_linux::clock::Clock;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::engine::EngineState;
use super::follow::Picture;
use super::membership::Member;
use crate::core::schedule::{self, REPORT_INTERVAL, REPORT_INTERVAL_MIN};
use crate::core::{picture, skew};

/// What reports are made of.
#[derive(Clone)]
pub struct Observed {
    /// Where the mesh port may be reached.
    pub endpoints: watch::Receiver<Vec<SocketAddr>>,
    /// How peers are reached.
    pub paths: watch::Receiver<BTreeMap<NodeId, PathFact>>,
    /// What the engine is and runs.
    pub engine: watch::Receiver<EngineState>,
    /// How this host's clock does.
    pub clock: Clock,
    /// What is known of the cluster.
    pub pictures: watch::Receiver<Picture>,
}

impl Observed {
    /// Returns the report as of now.
    pub fn facts(&mut self) -> NodeFacts {
        let engine = self.engine.borrow_and_update().clone();
        let mut troubles = engine.troubles;
        troubles.extend(skew::trouble(self.clock.skew()));
        let departed = self.pictures.borrow().departed.clone();
        troubles.extend(departed.as_deref().map(picture::departed));
        NodeFacts {
            endpoints: self.endpoints.borrow_and_update().clone(),
            tasks: engine.tasks,
            swarm_node: engine.member,
            paths: self.paths.borrow_and_update().clone(),
            troubles,
            noted: Vec::new(),
        }
    }

    /// Waits until something is different. Cancel safe.
    async fn changed(&mut self) {
        // Paths alone are not worth a report at once: latency wavers all the time.
        let closed = tokio::select! {
            changed = self.endpoints.changed() => changed.is_err(),
            changed = self.engine.changed() => changed.is_err(),
        };
        if closed {
            std::future::pending::<()>().await;
        }
    }
}

/// Reports until dropped: on every change, and at least every [`REPORT_INTERVAL`].
pub async fn run(mut observed: Observed, member: Member) {
    let mut attempt = 0;
    let mut kept = None;
    loop {
        let facts = observed.facts();
        let csr = member.request_if_due();
        let asked = csr.is_some();
        let request = RenewRequest {
            csr,
            facts: Some(facts),
            instance: None,
        };
        let wait = match member.report(request).await {
            Ok(answer) => {
                attempt = 0;
                member.clock().learn(answer.now);
                if schedule::is_time_due(kept, answer.now) {
                    member.keep_time();
                    kept = Some(answer.now);
                }
                take(&member, answer, asked);
                REPORT_INTERVAL
            }
            Err(error) => {
                debug!(%error, "report not delivered");
                attempt += 1;
                member.retry_after(attempt)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = observed.changed(), if attempt == 0 => {
                // Several changes come together: one report tells them all.
                tokio::time::sleep(REPORT_INTERVAL_MIN).await;
            }
        }
    }
}

fn take(member: &Member, answer: RenewAnswer, asked: bool) {
    match answer.certificate {
        Some(certificate) => match member.renewed(certificate) {
            Ok(()) => info!("certificate renewed"),
            Err(error) => warn!(%error, "renewed certificate not kept"),
        },
        None if asked => warn!("the controller renewed no certificate"),
        None => {}
    }
}
