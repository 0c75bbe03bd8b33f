//! One round of keeping an engine in step with the view.

use std::time::Duration;

use bastide_api::v1::{SwarmAnswer, SwarmReport, TaskFact};
use bastide_api::{NodeId, NodeRecord, Secret, UnixTime, View};
use tracing::{debug, info};

use crate::core::facts;
use crate::core::service::Trouble;
use crate::core::state::{Actual, ManagerState, SwarmId};
use crate::core::swarm::{Desired, Known, Memory, Step, departs, plan};
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
}

/// What the control plane knows of the Swarm, with the token for this node. Secret.
#[derive(Default)]
pub struct SwarmAccess {
    /// The Swarm and its managers.
    pub swarm: Option<SwarmId>,
    /// The managers' mesh addresses.
    pub managers: Vec<std::net::Ipv4Addr>,
    /// The token that lets this node join in its role.
    pub token: Option<Secret<String>>,
}

impl From<SwarmAnswer> for SwarmAccess {
    fn from(answer: SwarmAnswer) -> Self {
        Self {
            swarm: answer.swarm.map(SwarmId),
            managers: answer.managers,
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
    /// When to look again, if nothing happens before.
    pub next: Duration,
}

impl Reconciler {
    /// Makes one for `engine` on node `me`.
    pub fn new(engine: Engine, me: NodeId, mesh_interface: impl Into<String>) -> Self {
        Self {
            engine,
            me,
            mesh_interface: mesh_interface.into(),
            memory: Memory::default(),
        }
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Looks, decides, acts, and tells. Not cancel safe: a step may be done and not told; the next
    /// round finds it done.
    pub async fn step(&mut self, view: &View, access: &SwarmAccess, now: UnixTime) -> Report {
        let mut report = Report {
            next: LATER,
            ..Report::default()
        };
        let known = Known {
            swarm: access.swarm.clone(),
            managers: access.managers.clone(),
            has_token: access.token.is_some(),
        };
        let Some((desired, troubles)) = Desired::of(view, self.me, known) else {
            if let Err(error) = self.depart(view, &mut report).await {
                report.troubles.push(trouble(&error));
                report.next = AFTER_FAILURE;
            }
            return report;
        };
        report.troubles = troubles;
        if let Err(error) = self.round(&desired, access, now, &mut report).await {
            report.troubles.push(trouble(&error));
            report.next = AFTER_FAILURE;
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
        let (actual, swarm) = self.observe().await?;
        report.member = actual
            .membership
            .member
            .as_ref()
            .map(|member| member.0.clone());
        let plan = plan(desired, &actual, &mut self.memory, now);
        report.troubles.extend(plan.troubles);
        if plan.waiting {
            report.next = SOON;
        }
        let mut tokens = swarm;
        for step in plan.steps {
            self.act(&step, access).await?;
            let said = say(&step);
            info!(step = said, "engine changed");
            report.done.push(said);
            if matches!(step, Step::Init { .. } | Step::RotateTokens) {
                let swarm = self.engine.swarm().await?;
                tokens = Some((swarm.id, swarm.tokens));
            }
        }
        report.swarm = tokens.map(|(id, tokens)| told(&id, &tokens, desired, &actual));
        Ok(())
    }

    async fn observe(&self) -> Result<(Actual, Option<(SwarmId, JoinTokens)>), EngineError> {
        let membership = self.engine.membership().await?;
        let networks = self.engine.networks().await?;
        if !membership.manager {
            return Ok((
                Actual {
                    membership,
                    networks,
                    manager: None,
                },
                None,
            ));
        }
        let swarm = self.engine.swarm().await?;
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
        Ok((actual, Some((swarm.id, swarm.tokens))))
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
            Step::RemoveMember { member } => engine.remove_member(member).await,
            Step::CreateService { wish } => engine.create_service(wish).await,
            Step::UpdateService { id, wish, replicas } => {
                engine.update_service(id, wish, *replicas).await
            }
            Step::RemoveService { id, .. } => engine.remove_service(id).await,
        }
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
    SwarmReport {
        swarm: id.0.clone(),
        managers,
        worker_token: tokens.worker.expose().clone(),
        manager_token: tokens.manager.expose().clone(),
    }
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
        Step::Join { .. } => "joined the Swarm".to_owned(),
        Step::Leave => "left a broken Swarm".to_owned(),
        Step::SetHeartbeat { heartbeat_ms } => format!("set the heartbeat to {heartbeat_ms} ms"),
        Step::CreateNetwork => "made the service network".to_owned(),
        Step::Admit { member, .. } => format!("admitted Swarm node {member}"),
        Step::RotateTokens => "rotated the join tokens".to_owned(),
        Step::RemoveMember { member } => format!("removed Swarm node {member}"),
        Step::CreateService { wish } => format!("made service {}", wish.name()),
        Step::UpdateService { wish, replicas, .. } if *replicas != wish.spec.replicas => {
            format!("began to spread service {} anew", wish.name())
        }
        Step::UpdateService { wish, .. } => format!("updated service {}", wish.name()),
        Step::RemoveService { name, .. } => format!("removed service {name}"),
    }
}
