//! Keeping the container engine in step: one round at a time, on every change and from time to time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::v1::{SwarmAnswer, SwarmReport, TaskFact};
use bastide_api::{NodeId, Secret, UnixTime};
use bastide_client::Client;
use bastide_cluster::core::collisions::Taken;
use bastide_cluster::{
    Engine, EngineError, Managed, RebuildError, RebuildPlan, Reconciler, SwarmAccess, filter,
};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::follow::Picture;
use super::host::{self, INTERFACE};
use super::ledger::Ledger;
use super::membership::Member;
use crate::core::desired;
use crate::core::journal::Change;
use crate::core::picture::Standing;

/// Between two attempts to reach the engine.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// How long the engine may take before it is told of: its own calls take some seconds at times.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// How often the way through the engine's rules is looked after.
const FILTER_EVERY: Duration = Duration::from_secs(10);
/// How often the control plane is asked for the Swarm: a member learns from it that its Swarm was
/// replaced.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What the engine is and runs, as far as others need to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineState {
    /// The containers on the routed bridge.
    pub tasks: Vec<TaskFact>,
    /// The engine's id in the Swarm, while it is a member.
    pub member: Option<String>,
    /// On a manager: how much of the Swarm is there.
    pub managed: Option<Managed>,
    /// What is wrong, a line each.
    pub troubles: Vec<String>,
}

/// What the engine's loop is told to do between two rounds.
pub enum Order {
    /// Say what a rebuild of the Swarm would do.
    PlanRebuild {
        /// A new Swarm, even if the old one could be kept.
        anew: bool,
        /// The answer.
        reply: oneshot::Sender<Result<RebuildPlan, String>>,
    },
    /// Rebuild the Swarm.
    Rebuild {
        /// A new Swarm, even if the old one could be kept.
        anew: bool,
        /// When it is begun.
        reply: oneshot::Sender<Result<(), String>>,
    },
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
    /// What to do besides.
    pub orders: mpsc::Receiver<Order>,
    /// What the control plane makes of this host.
    pub standing: watch::Receiver<Standing>,
}

/// What is remembered of an engine while it answers.
struct Talk {
    reconciler: Reconciler,
    access: SwarmAccess,
    asked: Option<Instant>,
}

impl EngineLoop {
    /// Runs until dropped.
    pub async fn run(mut self) {
        // When it answered last, since it does not.
        let mut silent = None;
        loop {
            let socket = self.socket.clone();
            let connected = self.watched(Engine::connect(&socket), &mut silent).await;
            match connected {
                Ok(engine) => {
                    Box::pin(self.follow(engine, &mut silent)).await;
                }
                Err(error) if error.is_slow() => self.tell_silence(silent),
                Err(error) => {
                    silent = None;
                    self.tell_gone(&error);
                    self.refuse_orders(&error);
                }
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    /// Runs rounds until the engine is lost or the agent ends.
    async fn follow(&mut self, engine: Engine, silent: &mut Option<UnixTime>) {
        // An engine that has just started may have made its chains anew.
        let mut filtered = None;
        let mut events = Box::pin(engine.changes());
        let mut talk = Talk {
            reconciler: Reconciler::new(engine, self.me, INTERFACE),
            access: SwarmAccess::default(),
            asked: None,
        };
        if self.member.is_fresh() && !self.leave_former(&talk.reconciler).await {
            return;
        }
        loop {
            let mut picture = self.pictures.borrow_and_update().clone();
            let standing = *self.standing.borrow_and_update();
            match standing {
                Standing::Member => {}
                Standing::Removed => {
                    Arc::make_mut(&mut picture.view).nodes.remove(&self.me);
                }
                // The engine is the other machine's twin, too: nothing that it says is ours.
                Standing::Rival => {
                    if self.standing.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            let client = self.client(&picture);
            refresh(&mut talk, client.as_ref()).await;
            let membership = Change::Swarm {
                engine: Some(self.socket.clone()),
                address: Some(self.member.answer().node.address),
            };
            if let Err(error) = self.ledger.record(membership) {
                warn!(%error, "engine left alone");
                return;
            }
            let taken = taken();
            let now = self.member.clock().now();
            let step = talk
                .reconciler
                .step(&picture.view, &talk.access, &taken, now);
            let report = Box::pin(self.watched(step, silent)).await;
            if desired::is_controller(&picture.view, self.me)
                && let (Some(swarm), Some(client)) = (report.swarm, &client)
                && !is_known(&talk.access, &swarm)
                && tell(client, &swarm).await
            {
                talk.access = known(swarm);
            }
            if report.member.is_none() || report.ask {
                // A token may have been rotated, or a Swarm replaced, since it was asked for.
                talk.access = SwarmAccess::default();
            }
            if report.slow {
                self.tell_silence(*silent);
                return;
            }
            *silent = None;
            let mut troubles: Vec<_> = report.troubles.iter().map(ToString::to_string).collect();
            troubles.extend(self.keep_filter(&mut filtered).await);
            let is_lost = report.tasks.is_none();
            self.tell(EngineState {
                tasks: report.tasks.unwrap_or_default(),
                member: report.member,
                managed: report.managed,
                troubles,
            });
            if is_lost {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(report.next) => {}
                changed = self.pictures.changed() => if changed.is_err() { return },
                changed = self.standing.changed() => if changed.is_err() { return },
                event = events.next() => if !matches!(event, Some(Ok(_))) { return },
                Some(order) = self.orders.recv() => {
                    self.obey(order, &picture, &mut talk, client.as_ref()).await;
                }
            }
        }
    }

    /// Waits for `work` of the engine; says so if that takes long.
    async fn watched<T>(&self, work: impl Future<Output = T>, silent: &mut Option<UnixTime>) -> T {
        let since = silent.unwrap_or_else(|| self.member.clock().now());
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(SLOW_AFTER) => {
                    *silent = Some(since);
                    self.tell_silence(*silent);
                }
            }
        }
    }

    fn tell(&self, next: EngineState) {
        self.state.send_if_modified(|state| {
            let is_news = *state != next;
            *state = next;
            is_news
        });
    }

    /// What it runs goes on, so that names stay.
    fn tell_silence(&self, since: Option<UnixTime>) {
        let socket = self.socket.display();
        let since = since.map(|at| format!(" since {at}")).unwrap_or_default();
        let line = format!(
            "the container engine at `{socket}` does not answer{since}; the mesh, names and its \
             containers go on; mend it with `systemctl restart docker`"
        );
        let last = self.state.borrow().clone();
        self.tell(EngineState {
            troubles: vec![line],
            managed: None,
            ..last
        });
    }

    fn tell_gone(&self, error: &EngineError) {
        let line = format!(
            "the container engine at `{}` does not answer ({error}); mend it with \
             `systemctl start docker`",
            self.socket.display()
        );
        self.tell(EngineState {
            troubles: vec![line],
            ..EngineState::default()
        });
    }

    /// Does what was ordered. Not cancel safe.
    async fn obey(
        &self,
        order: Order,
        picture: &Picture,
        talk: &mut Talk,
        client: Option<&Client>,
    ) {
        let taken = taken();
        let (view, access) = (&picture.view, &talk.access);
        // Whoever asked may be gone: what was done stays done.
        match order {
            Order::PlanRebuild { anew, reply } => {
                let plan = talk.reconciler.plan_rebuild(view, access, &taken, anew);
                let _ = reply.send(plan.await.map_err(|error| say(&error)));
            }
            Order::Rebuild { anew, reply } => {
                let rebuilt = talk.reconciler.rebuild(view, access, &taken, anew).await;
                if let Ok(swarm) = &rebuilt {
                    info!(swarm = swarm.swarm, "Swarm rebuilt");
                    // If the control plane does not hear it now, the next rounds tell it.
                    if let Some(client) = client {
                        tell(client, swarm).await;
                    }
                    talk.access = SwarmAccess::default();
                }
                let _ = reply.send(rebuilt.map(drop).map_err(|error| say(&error)));
            }
        }
    }

    fn refuse_orders(&mut self, error: &EngineError) {
        while let Ok(order) = self.orders.try_recv() {
            let why = error.to_string();
            match order {
                Order::PlanRebuild { reply, .. } => drop(reply.send(Err(why))),
                Order::Rebuild { reply, .. } => drop(reply.send(Err(why))),
            }
        }
    }

    /// A host that has just joined may have been a node before, and its engine may take itself for a
    /// member of the Swarm still: the managers removed it, and it would not join again.
    async fn leave_former(&self, reconciler: &Reconciler) -> bool {
        let mesh = self.member.answer().cluster.plan.mesh;
        match reconciler.leave_former(mesh).await {
            Ok(has_left) => {
                if has_left {
                    info!("engine left the Swarm of an earlier membership");
                }
                if let Err(error) = self.member.settled() {
                    warn!(%error, "it will be looked for again");
                }
                true
            }
            Err(error) => {
                debug!(%error, "the engine does not say what it is a member of");
                false
            }
        }
    }

    fn client(&self, picture: &Picture) -> Option<Client> {
        let controllers = desired::controllers(&picture.view);
        self.member.client_of(controllers).ok()
    }

    /// Keeps the way open through Docker's own rules, which an engine's start makes anew. Returns what
    /// is wrong.
    async fn keep_filter(&self, filtered: &mut Option<Instant>) -> Option<String> {
        if filtered.is_some_and(|at| at.elapsed() < FILTER_EVERY) {
            return None;
        }
        *filtered = Some(Instant::now());
        if let Err(error) = self.ledger.record(Change::DockerUserRule) {
            return Some(error.to_string());
        }
        match filter::ensure_docker_jump(INTERFACE).await {
            Ok(false) => None,
            Ok(true) => {
                info!("way through the engine's rules opened");
                None
            }
            Err(error) => {
                *filtered = None;
                Some(format!("{error}; mend it with `systemctl restart docker`"))
            }
        }
    }
}

/// Asks the control plane for the Swarm, if what is known is old or not enough to join.
async fn refresh(talk: &mut Talk, client: Option<&Client>) {
    let is_old = talk.asked.is_none_or(|at| ASK_EVERY <= at.elapsed());
    if (talk.access.token.is_none() || is_old)
        && let Some(client) = client
        && let Some(answer) = ask(client).await
    {
        talk.access = SwarmAccess::from(answer);
        talk.asked = Some(Instant::now());
    }
}

fn taken() -> Vec<Taken> {
    host::taken().unwrap_or_else(|error| {
        debug!(%error, "addresses in use not listed");
        Vec::new()
    })
}

fn say(error: &RebuildError) -> String {
    error.to_string()
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

/// Whether the control plane knows what a manager would tell it. Both tokens are rotated together.
fn is_known(access: &SwarmAccess, swarm: &SwarmReport) -> bool {
    let token = access.token.as_ref().map(Secret::expose);
    access.swarm.as_ref().map(|id| &id.0) == Some(&swarm.swarm)
        && access.managers == swarm.managers
        && access
            .manager_ids
            .iter()
            .map(|id| &id.0)
            .eq(swarm.manager_ids.iter())
        && token == Some(&swarm.manager_token)
}

/// What the control plane answers after it was told.
fn known(swarm: SwarmReport) -> SwarmAccess {
    SwarmAccess::from(SwarmAnswer {
        swarm: Some(swarm.swarm),
        managers: swarm.managers,
        manager_ids: swarm.manager_ids,
        token: Some(swarm.manager_token),
    })
}
