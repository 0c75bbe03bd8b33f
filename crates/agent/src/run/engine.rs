//! Keeping the container engine in step: one round at a time, on every change and from time to time.

use std::path::PathBuf;
use std::time::Duration;

use bastide_api::NodeId;
use bastide_api::v1::{SwarmAnswer, SwarmReport, TaskFact};
use bastide_client::Client;
use bastide_cluster::{Engine, Reconciler, SwarmAccess, filter};
use futures_util::StreamExt;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::follow::Picture;
use super::host::INTERFACE;
use super::ledger::Ledger;
use super::membership::Member;
use crate::core::desired;
use crate::core::journal::Change;

/// Between two attempts to reach the engine.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// What the engine is and runs, as far as others need to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineState {
    /// The containers on the routed bridge.
    pub tasks: Vec<TaskFact>,
    /// The engine's id in the Swarm, while it is a member.
    pub member: Option<String>,
    /// What is wrong, a line each.
    pub troubles: Vec<String>,
}

/// What keeps the engine in step.
pub struct EngineLoop {
    /// The engine's socket.
    pub socket: PathBuf,
    /// This node.
    pub me: NodeId,
    /// What the cluster should be.
    pub pictures: watch::Receiver<Picture>,
    /// Speaks to the control plane over the mesh.
    pub member: Member,
    /// Where changes to the host are written down.
    pub ledger: Ledger,
    /// Where the state goes.
    pub state: watch::Sender<EngineState>,
}

impl EngineLoop {
    /// Runs until dropped.
    pub async fn run(mut self) {
        loop {
            match Engine::connect(&self.socket).await {
                Ok(engine) => self.follow(engine).await,
                Err(error) => {
                    let line = format!(
                        "the container engine at `{}` does not answer ({error}); mend it with \
                         `systemctl start docker`",
                        self.socket.display()
                    );
                    self.state.send_if_modified(|state| {
                        let broken = EngineState {
                            troubles: vec![line],
                            ..EngineState::default()
                        };
                        let is_news = *state != broken;
                        *state = broken;
                        is_news
                    });
                }
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    /// Runs rounds until the engine is lost or the agent ends.
    async fn follow(&mut self, engine: Engine) {
        let mut events = Box::pin(engine.changes());
        let mut reconciler = Reconciler::new(engine, self.me, INTERFACE);
        let mut told: Option<SwarmReport> = None;
        let mut access = SwarmAccess::default();
        loop {
            let picture = self.pictures.borrow_and_update().clone();
            let client = self.client(&picture);
            if access.token.is_none()
                && let Some(client) = &client
                && let Some(answer) = ask(client).await
            {
                access = SwarmAccess::from(answer);
            }
            let membership = Change::Swarm {
                engine: Some(self.socket.clone()),
                address: Some(self.member.answer().node.address),
            };
            if let Err(error) = self.ledger.record(membership) {
                warn!(%error, "engine left alone");
                return;
            }
            let report = reconciler
                .step(&picture.view, &access, self.member.clock().now())
                .await;
            let is_manager = desired::is_controller(&picture.view, self.me);
            if is_manager
                && let (Some(swarm), Some(client)) = (report.swarm, &client)
                && !told.as_ref().is_some_and(|told| is_same(told, &swarm))
                && tell(client, &swarm).await
            {
                told = Some(swarm);
            }
            if report.member.is_none() {
                // A token may have been rotated since it was asked for.
                access.token = None;
            }
            let mut troubles: Vec<_> = report.troubles.iter().map(ToString::to_string).collect();
            troubles.extend(self.keep_filter().await);
            let is_lost = report.tasks.is_none();
            let next = EngineState {
                tasks: report.tasks.unwrap_or_default(),
                member: report.member,
                troubles,
            };
            self.state.send_if_modified(|state| {
                let is_news = *state != next;
                *state = next;
                is_news
            });
            if is_lost {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(report.next) => {}
                changed = self.pictures.changed() => if changed.is_err() { return },
                event = events.next() => if !matches!(event, Some(Ok(_))) { return },
            }
        }
    }

    fn client(&self, picture: &Picture) -> Option<Client> {
        let controllers = desired::controllers(&picture.view);
        self.member.client_of(controllers).ok()
    }

    /// Keeps the way open through Docker's own rules, which an engine's start makes anew.
    async fn keep_filter(&self) -> Option<String> {
        if let Err(error) = self.ledger.record(Change::DockerUserRule) {
            return Some(error.to_string());
        }
        match filter::ensure_docker_jump(INTERFACE).await {
            Ok(_) => None,
            Err(error) => Some(format!("{error}; mend it with `systemctl restart docker`")),
        }
    }
}

async fn ask(client: &Client) -> Option<SwarmAnswer> {
    match client.call("GET", "/v1/cluster/swarm", None).await {
        Ok(value) => serde_json::from_value(value).ok(),
        Err(error) => {
            debug!(%error, "no word of the Swarm yet");
            None
        }
    }
}

async fn tell(client: &Client, swarm: &SwarmReport) -> bool {
    let Ok(body) = serde_json::to_value(swarm) else {
        return false;
    };
    match client.call("POST", "/v1/cluster/swarm", Some(body)).await {
        Ok(_) => true,
        Err(error) => {
            debug!(%error, "the Swarm is not told yet");
            false
        }
    }
}

fn is_same(one: &SwarmReport, other: &SwarmReport) -> bool {
    one.swarm == other.swarm
        && one.managers == other.managers
        && one.worker_token == other.worker_token
        && one.manager_token == other.manager_token
}
