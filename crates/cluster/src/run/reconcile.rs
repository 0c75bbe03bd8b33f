//! One round of keeping an engine in step with the view.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bastide_api::v1::{SwarmAnswer, SwarmReport, TaskFact};
use bastide_api::{NodeId, NodeRecord, Secret, UnixTime, View};
use ipnet::Ipv4Net;
use tracing::{debug, info};

use super::disk;
use crate::core::collisions::{self, Taken};
use crate::core::facts;
use crate::core::service::{Trouble, Wish};
use crate::core::state::{Actual, ManagerState, MemberId, Phase, SwarmId};
use crate::core::swarm::rebuild::{self, RebuildRefusal, Way};
use crate::core::swarm::{
    Desired, Forced, Known, Memory, Step, Wanted, departs, is_left_behind, plan,
};
use crate::engine::{Engine, EngineError, JoinTokens};

/// Until the next round when something is under way.
const SOON: Duration = Duration::from_millis(250);
/// Until the next round when a step failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Until the next round when all is well. Events and a new view come before it.
const LATER: Duration = Duration::from_secs(10);

/// Keeps one engine in step with the view.
pub struct Reconciler {
    engine: Engine,
    me: NodeId,
    mesh_interface: String,
    memory: Memory,
    /// Since the engine was forced to go on alone.
    forced: Option<Forced>,
}

/// What the control plane knows of the Swarm, with the token for this node. Secret.
#[derive(Default)]
pub struct SwarmAccess {
    /// The Swarm and its managers.
    pub swarm: Option<SwarmId>,
    /// The managers' mesh addresses.
    pub managers: Vec<std::net::Ipv4Addr>,
    /// What the managers are called in the Swarm.
    pub manager_ids: BTreeSet<MemberId>,
    /// The token that lets this node join in its role.
    pub token: Option<Secret<String>>,
}

impl From<SwarmAnswer> for SwarmAccess {
    fn from(answer: SwarmAnswer) -> Self {
        Self {
            swarm: answer.swarm.map(SwarmId),
            managers: answer.managers,
            manager_ids: answer.manager_ids.into_iter().map(MemberId).collect(),
            token: answer.token.map(Secret::new),
        }
    }
}

/// What a round did and found.
#[derive(Default)]
pub struct Report {
    /// What was done, one sentence each, for the log.
    pub done: Vec<String>,
    /// What is wrong and the command that mends it.
    pub troubles: Vec<Trouble>,
    /// What this node's containers are; `None` if the engine did not say.
    pub tasks: Option<Vec<TaskFact>>,
    /// What the managers call this node, while it is a member.
    pub member: Option<String>,
    /// On a manager: the Swarm and its tokens, to be told to the control plane when they differ from
    /// what it knows. Secret.
    pub swarm: Option<SwarmReport>,
    /// On a manager: how much of the Swarm is there.
    pub managed: Option<Managed>,
    /// Whether what the control plane knows of the Swarm must be asked for anew before the next round.
    pub ask: bool,
    /// Whether the engine did not answer in time, so that what it runs may well go on.
    pub slow: bool,
    /// When to look again, if nothing happens before.
    pub next: Duration,
}

/// How much of its Swarm a manager has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed {
    /// The members that it hears from.
    pub ready: BTreeSet<String>,
    /// How many tasks of each service run, and how many should.
    pub services: BTreeMap<String, (u32, u32)>,
}

/// What a rebuild of the Swarm would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildPlan {
    /// How.
    pub way: Way,
    /// What the engine is now, in a few words.
    pub now: String,
    /// The nodes that will be members.
    pub nodes: Vec<String>,
    /// The services that will run.
    pub services: Vec<String>,
}

/// Why a Swarm was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] RebuildRefusal),
    /// This node is no member of the cluster.
    #[error("this node is no member of the cluster")]
    NoNode,
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Reconciler {
    /// Makes one for `engine` on node `me`.
    pub fn new(engine: Engine, me: NodeId, mesh_interface: impl Into<String>) -> Self {
        Self {
            engine,
            me,
            mesh_interface: mesh_interface.into(),
            memory: Memory::default(),
            forced: None,
        }
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Looks, decides, acts, and tells. Not cancel safe: a step may be done and not told; the next
    /// round finds it done.
    pub async fn step(
        &mut self,
        view: &View,
        access: &SwarmAccess,
        host: &[Taken],
        now: UnixTime,
    ) -> Report {
        let mut report = Report {
            next: LATER,
            ..Report::default()
        };
        let Some((desired, troubles)) = self.desired(view, access, host) else {
            if let Err(error) = self.depart(view, &mut report).await {
                report.slow = error.is_slow();
                report.troubles.push(trouble(&error));
                report.next = AFTER_FAILURE;
            }
            return report;
        };
        report.troubles = troubles;
        if let Err(error) = self.round(&desired, access, now, &mut report).await {
            report.slow = error.is_slow();
            report.troubles.push(trouble(&error));
            report.next = AFTER_FAILURE;
            if report.slow {
                return report;
            }
        }
        match self.tasks(&desired.me).await {
            Ok(tasks) => report.tasks = Some(tasks),
            Err(error) => debug!(%error, "containers not listed"),
        }
        report
    }

    /// Returns what runs on this node's part of the service network: cheap, for each event.
    pub async fn tasks(&self, me: &NodeRecord) -> Result<Vec<TaskFact>, EngineError> {
        Ok(facts::tasks(
            &self.engine.containers().await?,
            me.containers,
        ))
    }

    /// Takes the engine out of the Swarm and removes its networks, for `bastide down`.
    pub async fn leave(&self) -> Result<(), EngineError> {
        super::leave::leave(&self.engine, None).await
    }

    /// Says what [`Self::rebuild`] would do.
    pub async fn plan_rebuild(
        &self,
        view: &View,
        access: &SwarmAccess,
        host: &[Taken],
        anew: bool,
    ) -> Result<RebuildPlan, RebuildError> {
        let (desired, _) = self
            .desired(view, access, host)
            .ok_or(RebuildError::NoNode)?;
        let membership = self.engine.membership().await?;
        let leads = membership.manager && self.engine.swarm().await.is_ok();
        let way = rebuild::way(&desired, &membership, leads, anew)?;
        let now = match &membership.phase {
            Phase::Inactive => "no member of a Swarm".to_owned(),
            Phase::Pending => "waiting for a manager".to_owned(),
            Phase::Error(error) => format!("a member that gave up: {error}"),
            Phase::Locked => "locked".to_owned(),
            Phase::Active if leads => "a manager that answers".to_owned(),
            Phase::Active if membership.manager => "a manager without a quorum".to_owned(),
            Phase::Active => "a member".to_owned(),
        };
        Ok(RebuildPlan {
            way,
            now,
            nodes: view
                .nodes
                .values()
                .map(|node| node.name.to_string())
                .collect(),
            services: desired.wishes.iter().map(Wish::name).collect(),
        })
    }

    /// Begins the Swarm anew, or goes on with what this engine knows of it; returns what the control
    /// plane must be told. What is missing then, members, networks and services, the next rounds
    /// bring. Not cancel safe; repeated, it takes up where it was left.
    pub async fn rebuild(
        &mut self,
        view: &View,
        access: &SwarmAccess,
        host: &[Taken],
        anew: bool,
    ) -> Result<SwarmReport, RebuildError> {
        let way = self.plan_rebuild(view, access, host, anew).await?.way;
        let (desired, _) = self
            .desired(view, access, host)
            .ok_or(RebuildError::NoNode)?;
        let membership = self.engine.membership().await?;
        for step in rebuild::steps(way, &desired, &membership) {
            self.act(&step, access).await?;
            info!(step = say(&step), "engine changed");
        }
        self.memory = Memory::default();
        self.forced = (way == Way::Keep).then(Forced::just_now);
        let (actual, ..) = self.observe().await?;
        let swarm = self.engine.swarm().await?;
        Ok(told(&swarm.id, &swarm.tokens, &desired, &actual))
    }

    fn desired(&self, view: &View, access: &SwarmAccess, host: &[Taken]) -> Option<Wanted> {
        let known = Known {
            swarm: access.swarm.clone(),
            managers: access.managers.clone(),
            manager_ids: access.manager_ids.clone(),
            has_token: access.token.is_some(),
        };
        let (mut desired, troubles) = Desired::of(view, self.me, known)?;
        desired.collisions = collisions::find(&desired.plan, host.iter().cloned());
        Some((desired, troubles))
    }

    /// Takes the engine out of a Swarm on `mesh` in which it is a worker, as an earlier membership of
    /// this host left it. Returns whether it was in one.
    pub async fn leave_former(&self, mesh: Ipv4Net) -> Result<bool, EngineError> {
        let is_left_behind = is_left_behind(&self.engine.membership().await?, mesh);
        if is_left_behind {
            self.engine.leave_swarm().await?;
        }
        Ok(is_left_behind)
    }

    async fn depart(&self, view: &View, report: &mut Report) -> Result<(), EngineError> {
        if departs(view, &self.engine.membership().await?) {
            self.engine.leave_swarm().await?;
            info!("engine left the Swarm: this node is no member of the cluster");
            report.done.push("left the Swarm".to_owned());
        }
        Ok(())
    }

    async fn round(
        &mut self,
        desired: &Desired,
        access: &SwarmAccess,
        now: UnixTime,
        report: &mut Report,
    ) -> Result<(), EngineError> {
        let (actual, swarm, root) = self.observe().await?;
        report.troubles.extend(root.as_deref().and_then(disk::full));
        report.managed = actual.manager.as_ref().map(managed);
        report.member = actual
            .membership
            .member
            .as_ref()
            .map(|member| member.0.clone());
        if let (Some(forced), Some(manager)) = (&mut self.forced, &actual.manager)
            && forced.is_deaf(&manager.tasks, actual.membership.member.as_ref(), now)
        {
            report.troubles.push(deaf());
        }
        let plan = plan(desired, &actual, &mut self.memory, now);
        report.troubles.extend(plan.troubles);
        report.ask = plan.ask;
        if plan.waiting {
            report.next = SOON;
        }
        let mut tokens = swarm;
        let mut speaks = plan.speaks;
        for step in plan.steps {
            self.act(&step, access).await?;
            let said = say(&step);
            info!(step = said, "engine changed");
            report.done.push(said);
            speaks |= matches!(step, Step::Init { .. });
            if matches!(step, Step::Init { .. } | Step::RotateTokens) {
                let swarm = self.engine.swarm().await?;
                tokens = Some((swarm.id, swarm.tokens));
            }
        }
        if speaks {
            report.swarm = tokens.map(|(id, tokens)| told(&id, &tokens, desired, &actual));
        }
        Ok(())
    }

    async fn observe(&self) -> Result<Observed, EngineError> {
        let (membership, root) = self.engine.info().await?;
        let networks = self.engine.networks().await?;
        let swarm = if membership.manager {
            match self.engine.swarm().await {
                Ok(swarm) => Some(swarm),
                Err(error) if error.is_without_leader() => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let Some(swarm) = swarm else {
            let actual = Actual {
                membership,
                networks,
                manager: None,
            };
            return Ok((actual, None, root));
        };
        let manager = ManagerState {
            heartbeat_ms: swarm.heartbeat_ms,
            members: self.engine.members().await?,
            services: self.engine.services().await?,
            tasks: self.engine.tasks().await?,
        };
        let actual = Actual {
            membership,
            networks,
            manager: Some(manager),
        };
        Ok((actual, Some((swarm.id, swarm.tokens)), root))
    }

    async fn act(&self, step: &Step, access: &SwarmAccess) -> Result<(), EngineError> {
        let engine = &self.engine;
        match step {
            Step::CreateGateway { subnet, mtu } => engine.create_gateway(*subnet, *mtu).await,
            Step::CreateTemplate { subnet, mtu } => {
                engine
                    .create_template(*subnet, *mtu, &self.mesh_interface)
                    .await
            }
            Step::RemoveNetwork { name } => engine.remove_network(name).await,
            Step::Init {
                address,
                pool,
                heartbeat_ms,
            } => {
                engine
                    .init_swarm(*address, *pool, Duration::from_millis(*heartbeat_ms))
                    .await
            }
            Step::Force { address } => engine.force_swarm(*address).await,
            Step::Join { address, managers } => match &access.token {
                Some(token) => engine.join_swarm(*address, managers, token).await,
                None => Ok(()),
            },
            Step::Leave => engine.leave_swarm().await,
            Step::SetHeartbeat { heartbeat_ms } => {
                engine
                    .set_heartbeat(Duration::from_millis(*heartbeat_ms))
                    .await
            }
            Step::CreateNetwork => engine.create_service_network().await,
            Step::Admit { member, labels } => engine.admit(member, labels).await,
            Step::RotateTokens => engine.rotate_tokens().await,
            Step::Demote { member } => engine.demote(member).await,
            Step::RemoveMember { member } => engine.remove_member(member).await,
            Step::CreateService { wish } => engine.create_service(wish).await,
            Step::UpdateService { id, wish, replicas } => {
                engine.update_service(id, wish, *replicas).await
            }
            Step::RemoveService { id, .. } => engine.remove_service(id).await,
        }
    }
}

/// What is seen of an engine, the Swarm and its tokens on a manager, and where the engine keeps all.
type Observed = (Actual, Option<(SwarmId, JoinTokens)>, Option<PathBuf>);

fn managed(state: &ManagerState) -> Managed {
    let ready = state.members.iter().filter(|member| member.ready);
    let services = state.services.iter().map(|service| {
        let running = state
            .tasks
            .iter()
            .filter(|task| task.service == service.id && task.wanted && task.running)
            .count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let wanted = service.replicas.unwrap_or_default();
        (service.name.clone(), (running, wanted))
    });
    Managed {
        ready: ready.map(|member| member.id.0.clone()).collect(),
        services: services.collect(),
    }
}

fn told(id: &SwarmId, tokens: &JoinTokens, desired: &Desired, actual: &Actual) -> SwarmReport {
    let mut managers = vec![desired.me.address];
    let members = actual.manager.iter().flat_map(|manager| &manager.members);
    for address in members
        .filter(|member| member.manager)
        .filter_map(|member| member.address)
    {
        if !managers.contains(&address) {
            managers.push(address);
        }
    }
    let ids = actual.manager.iter().flat_map(|manager| &manager.members);
    let mut manager_ids: Vec<String> = ids
        .filter(|member| member.manager)
        .map(|member| member.id.0.clone())
        .collect();
    manager_ids.sort_unstable();
    SwarmReport {
        swarm: id.0.clone(),
        managers,
        manager_ids,
        worker_token: tokens.worker.expose().clone(),
        manager_token: tokens.manager.expose().clone(),
    }
}

fn deaf() -> Trouble {
    Trouble::new(
        "the container engine refuses every task, because it missed that its Swarm is active",
        "systemctl restart docker",
    )
}

fn trouble(error: &EngineError) -> Trouble {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let mend = match error {
        EngineError::Unreachable { .. } => "systemctl start docker",
        EngineError::TooOld { .. } => "apt-get install docker.io",
        EngineError::Slow { .. } => "systemctl restart docker",
        EngineError::Refused { message, .. } if disk::is_full(message) => "docker system prune",
        EngineError::Refused { .. } | EngineError::Failed { .. } => "journalctl -u docker",
    };
    Trouble::new(text, mend)
}

/// Says a step in a few words.
fn say(step: &Step) -> String {
    match step {
        Step::CreateGateway { subnet, .. } => format!("made Swarm's bridge on {subnet}"),
        Step::CreateTemplate { subnet, .. } => format!("made the container bridge's {subnet}"),
        Step::RemoveNetwork { name } => format!("removed network {name}"),
        Step::Init { address, .. } => format!("began the Swarm at {address}"),
        Step::Force { address } => format!("went on as the only manager at {address}"),
        Step::Join { .. } => "joined the Swarm".to_owned(),
        Step::Leave => "left a Swarm that is broken or no more".to_owned(),
        Step::SetHeartbeat { heartbeat_ms } => format!("set the heartbeat to {heartbeat_ms} ms"),
        Step::CreateNetwork => "made the service network".to_owned(),
        Step::Admit { member, .. } => format!("admitted Swarm node {member}"),
        Step::RotateTokens => "rotated the join tokens".to_owned(),
        Step::Demote { member } => format!("demoted Swarm node {member}"),
        Step::RemoveMember { member } => format!("removed Swarm node {member}"),
        Step::CreateService { wish } => format!("made service {}", wish.name()),
        Step::UpdateService { wish, replicas, .. } if *replicas != wish.spec.replicas => {
            format!("began to spread service {} anew", wish.name())
        }
        Step::UpdateService { wish, .. } => format!("updated service {}", wish.name()),
        Step::RemoveService { name, .. } => format!("removed service {name}"),
    }
}
