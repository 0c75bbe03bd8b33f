//! What a container engine says of itself, its Swarm and its networks, in our own words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A Swarm, as its managers call it.
    SwarmId
);
id!(
    /// A member of a Swarm, as its managers call it. Changes with every join.
    MemberId
);
id!(
    /// A Swarm service.
    ServiceId
);
id!(
    /// A Swarm task.
    TaskId
);

/// All that is observed of an engine in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actual {
    /// Whether and how it is a member of a Swarm.
    pub membership: Membership,
    /// Its networks, by name.
    pub networks: BTreeMap<String, Network>,
    /// What only a manager can see.
    pub manager: Option<ManagerState>,
}

/// Whether and how an engine is a member of a Swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// How far it is.
    pub phase: Phase,
    /// What the managers call it.
    pub member: Option<MemberId>,
    /// Which Swarm. Only managers know.
    pub swarm: Option<SwarmId>,
    /// The address that it gave the others.
    pub address: Option<Ipv4Addr>,
    /// Whether it is a manager that can be asked now.
    pub manager: bool,
    /// The managers that it knows of.
    pub managers: Vec<Ipv4Addr>,
    /// What these are called.
    pub manager_ids: BTreeSet<MemberId>,
}

/// How far an engine's membership is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No member.
    Inactive,
    /// Joining, or waiting for a manager.
    Pending,
    /// A member.
    Active,
    /// It gave up; the text is the engine's.
    Error(String),
    /// Its manager state is encrypted and the key was not given.
    Locked,
}

/// A network of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its driver: `bridge`, `overlay`, `null`.
    pub driver: String,
    /// Whether all of the Swarm shares it.
    pub swarm_scope: bool,
    /// Whether it is only a template for another.
    pub config_only: bool,
    /// The template it was made from.
    pub config_from: Option<String>,
    /// Whether it is Swarm's ingress network.
    pub ingress: bool,
    /// Its subnets.
    pub subnets: Vec<Ipv4Net>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// What a manager sees of its Swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerState {
    /// The dispatcher's heartbeat in milliseconds.
    pub heartbeat_ms: u64,
    /// The members.
    pub members: Vec<Member>,
    /// The services.
    pub services: Vec<SwarmService>,
    /// The tasks, with those that ended lately.
    pub tasks: Vec<SwarmTask>,
}

/// A member of the Swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Where it speaks from, as the managers see it.
    pub address: Option<Ipv4Addr>,
    /// Whether the managers hear from it.
    pub ready: bool,
    /// Whether it gets tasks.
    pub availability: Availability,
    /// Whether it is a manager.
    pub manager: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Whether a member gets tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Active,
    /// It keeps those it has.
    Pause,
    /// It loses those it has.
    Drain,
}

/// A Swarm service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Our label: what it was made from. `None` for services that are not ours.
    pub revision: Option<String>,
    /// How many tasks it should have; `None` if it is not replicated.
    pub replicas: Option<u32>,
    /// How its last update went.
    pub update: UpdateState,
}

/// How a service's last update went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateState {
    /// There was none, or it is complete.
    Settled,
    /// It goes on.
    Running,
    /// It failed and stopped half way.
    Paused,
    /// It failed and the service is, or is about to be, what it was before.
    RolledBack,
}

/// A Swarm task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmTask {
    /// Its id.
    pub id: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Where it was put.
    pub member: Option<MemberId>,
    /// Whether it ought to run. One that ended is kept for its story.
    pub wanted: bool,
    /// Whether it runs, and passes its health check if it has one.
    pub running: bool,
    /// Why it does not, in the engine's words.
    pub trouble: Option<String>,
}
