//! Decides the next steps towards the wanted Swarm: who begins it, who joins, which networks and
//! labels there are, which services run, and who is no member any more.
//!
//! Each round looks at everything anew and says what to do next; nothing is assumed to have worked.
//!
//! ```text
//! Inactive -> (networks of this host) -> Init | Join -> Pending -> Active
//! manager:  labels and availability of members, service network, services, strangers, tokens
//! worker:   leaves a Swarm that the cluster's has replaced
//! ```

mod forced;
mod members;
mod networks;
pub mod rebuild;
mod services;
mod stale;

pub use forced::Forced;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bastide_api::{AddressPlan, NodeId, NodeRecord, SwarmSettings, UnixTime, View};
use ipnet::Ipv4Net;

use super::collisions::Collision;
use super::service::{Trouble, Wish, wishes};
use super::state::{Actual, ManagerState, MemberId, Membership, Phase, ServiceId, SwarmId};

/// The network on every node that services are attached to.
pub const NETWORK: &str = "bastide";
/// The template on each node that gives [`NETWORK`] that node's subnet.
pub const NETWORK_TEMPLATE: &str = "bastide-cfg";
/// The bridge device of [`NETWORK`] on each host.
pub const BRIDGE: &str = "bst-containers";
/// Swarm's own bridge for overlay networks, made before Swarm chooses its subnet.
pub const GATEWAY_NETWORK: &str = "docker_gwbridge";

/// The bridge driver's option for the MTU.
pub const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// The bridge driver's option for the device's name.
pub const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";

/// How long an unknown member is left alone: its node's record may be on its way to us.
pub const STRANGER_GRACE: Duration = Duration::from_secs(10);
/// How long the engine may take to remove Swarm's ingress before it is asked again.
const INGRESS_PATIENCE: Duration = Duration::from_secs(10);
/// How long additional replicas may take to run before they are given up.
pub const SURGE_MAX: Duration = Duration::from_mins(1);

/// Within this they run as a rule: later it is said why they do not.
const SURGE_USUAL: Duration = Duration::from_secs(10);

/// What the control plane knows of the Swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The Swarm's own id; `None` until a manager has begun it.
    pub swarm: Option<SwarmId>,
    /// The managers' mesh addresses.
    pub managers: Vec<Ipv4Addr>,
    /// What the managers are called in it. A Swarm that was begun anew has others at the same
    /// addresses.
    pub manager_ids: BTreeSet<MemberId>,
    /// Whether a join token is at hand.
    pub has_token: bool,
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// This node.
    pub me: NodeRecord,
    /// Whether this node runs the control plane, and so manages the Swarm.
    pub controller: bool,
    /// Whether it is the first of the controllers, who begins the Swarm.
    pub first: bool,
    /// The address plan.
    pub plan: AddressPlan,
    /// How the Swarm is driven.
    pub settings: SwarmSettings,
    /// The members, by mesh address. WireGuard vouches for a member's address.
    pub nodes: BTreeMap<Ipv4Addr, NodeRecord>,
    /// The services.
    pub wishes: Vec<Wish>,
    /// What the control plane knows of the Swarm.
    pub known: Known,
    /// What of the cluster's ranges this host uses for something else.
    pub collisions: Vec<Collision>,
}

/// What is wanted, and what is wrong with it.
pub type Wanted = (Desired, Vec<Trouble>);

impl Desired {
    /// Reads what should be out of the view; `None` when the view does not hold node `me`.
    pub fn of(view: &View, me: NodeId, known: Known) -> Option<Wanted> {
        let own = view.nodes.get(&me)?.clone();
        let (wishes, troubles) = wishes(view);
        let controllers = &view.cluster.controllers;
        let desired = Self {
            me: own,
            controller: controllers.iter().any(|one| one.node == me),
            first: controllers.first().is_some_and(|one| one.node == me),
            plan: view.cluster.plan.clone(),
            settings: view.cluster.swarm,
            nodes: view
                .nodes
                .values()
                .map(|node| (node.address, node.clone()))
                .collect(),
            wishes,
            known,
            collisions: Vec::new(),
        };
        Some((desired, troubles))
    }
}

/// What is remembered between rounds. Losing it delays, and never harms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Members that were seen with a node's address.
    pub familiar: BTreeSet<MemberId>,
    /// Since when a member has an address that no node has.
    pub stranger_since: BTreeMap<MemberId, UnixTime>,
    /// When the removal of Swarm's ingress was last asked for.
    pub ingress_asked: Option<UnixTime>,
    /// Since when a member is ready without a break.
    pub ready_since: BTreeMap<MemberId, UnixTime>,
    /// Since when a service has replicas too many, to be spread anew.
    pub surge_since: BTreeMap<ServiceId, UnixTime>,
    /// When a service was last spread anew.
    pub spread_at: BTreeMap<ServiceId, UnixTime>,
    /// The revision that a service was last updated to, by name.
    pub tried: BTreeMap<String, String>,
    /// Whether the last round found the engine in a Swarm that the cluster's has replaced.
    pub stale: bool,
}

/// One thing to do. Steps are done in order; a failed one ends the round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make [`GATEWAY_NETWORK`].
    CreateGateway {
        /// Its subnet.
        subnet: Ipv4Net,
        /// Its MTU in bytes.
        mtu: u16,
    },
    /// Make [`NETWORK_TEMPLATE`].
    CreateTemplate {
        /// This node's container subnet.
        subnet: Ipv4Net,
        /// The mesh's MTU in bytes.
        mtu: u16,
    },
    /// Remove a network of this engine.
    RemoveNetwork {
        /// Its name.
        name: String,
    },
    /// Begin the Swarm.
    Init {
        /// The only address that it listens on.
        address: Ipv4Addr,
        /// Where Swarm takes subnets from.
        pool: Ipv4Net,
        /// The dispatcher's heartbeat in milliseconds.
        heartbeat_ms: u64,
    },
    /// Go on as the only manager, with all that this engine knows of the Swarm.
    Force {
        /// The only address that it listens on.
        address: Ipv4Addr,
    },
    /// Become a member, in the role that the token at hand gives.
    Join {
        /// The only address that it listens on.
        address: Ipv4Addr,
        /// The managers.
        managers: Vec<Ipv4Addr>,
    },
    /// Leave the Swarm, whatever runs.
    Leave,
    /// Set the dispatcher's heartbeat.
    SetHeartbeat {
        /// Milliseconds.
        heartbeat_ms: u64,
    },
    /// Make [`NETWORK`].
    CreateNetwork,
    /// Give a member its labels and let it have tasks.
    Admit {
        /// Which.
        member: MemberId,
        /// All its labels.
        labels: BTreeMap<String, String>,
    },
    /// Make new join tokens; those that were given out are void.
    RotateTokens,
    /// Make a manager a worker, so that it can be removed.
    Demote {
        /// Which.
        member: MemberId,
    },
    /// Remove a member, whatever it runs.
    RemoveMember {
        /// Which.
        member: MemberId,
    },
    /// Make a service.
    CreateService {
        /// What.
        wish: Box<Wish>,
    },
    /// Make a service what it should be.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// What.
        wish: Box<Wish>,
        /// How many replicas: those wanted, or more to spread it anew.
        replicas: u32,
    },
    /// Remove a service.
    RemoveService {
        /// Which.
        id: ServiceId,
        /// Its name.
        name: String,
    },
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What cannot be mended here.
    pub troubles: Vec<Trouble>,
    /// Whether something is under way, so that a look is worth while soon.
    pub waiting: bool,
    /// Whether what the control plane knows of the Swarm must be asked for anew before the next
    /// round.
    pub ask: bool,
    /// Whether this node, if it is a manager, speaks for the cluster's Swarm.
    pub speaks: bool,
}

/// Decides what to do, and remembers what it needs for the next time.
pub fn plan(desired: &Desired, actual: &Actual, memory: &mut Memory, now: UnixTime) -> Plan {
    let mut plan = Plan::default();
    let was_stale = std::mem::take(&mut memory.stale);
    if stale::is_stale(desired, actual) {
        // What is known may be older than this membership: only a fresh word counts.
        memory.stale = !was_stale;
        plan.ask = true;
        plan.waiting = true;
        if was_stale {
            plan.steps.push(Step::Leave);
        }
        return plan;
    }
    plan.speaks = actual.manager.is_some() && stale::speaks(desired, actual);
    networks::collisions(&mut plan, desired, actual);
    match &actual.membership.phase {
        Phase::Inactive => enter(&mut plan, desired, actual),
        Phase::Pending => plan.waiting = true,
        Phase::Error(error) => recover(&mut plan, desired, error),
        Phase::Locked => plan.troubles.push(Trouble::new(
            "the Swarm's state on this node is locked; if the key is lost: \
             `bastide cluster rebuild`",
            "docker swarm unlock",
        )),
        Phase::Active => match &actual.manager {
            Some(manager) => {
                networks::own(&mut plan, desired, actual);
                manage(&mut plan, desired, actual, manager, memory, now);
            }
            None => work(&mut plan, desired, actual),
        },
    }
    plan
}

/// Returns whether an engine whose node the view does not hold should leave the Swarm: if it is a
/// worker there. It does not notice by itself that the managers removed it, and would not join again.
/// A manager stays: what it holds is everybody's.
pub fn departs(view: &View, found: &Membership) -> bool {
    let ours = |address: &Ipv4Addr| view.nodes.values().any(|node| node.address == *address);
    is_worker(found) && found.managers.iter().any(ours)
}

/// Returns whether an engine whose host has just joined, and so is no member yet, takes itself for a
/// worker of a Swarm on `mesh`: its host was a node before. A Swarm elsewhere is its operator's.
pub fn is_left_behind(found: &Membership, mesh: Ipv4Net) -> bool {
    is_worker(found) && found.managers.iter().any(|one| mesh.contains(one))
}

/// Whether an engine takes itself for a worker, however well that goes.
fn is_worker(found: &Membership) -> bool {
    let is_in = matches!(
        found.phase,
        Phase::Active | Phase::Pending | Phase::Error(_)
    );
    is_in && !found.manager
}

/// Not a member: the networks first, so that no task ever comes to a node without them.
fn enter(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    if !plan.troubles.is_empty() {
        // Half a node is worse than none: its tasks would have addresses that lead elsewhere.
        return;
    }
    networks::own(plan, desired, actual);
    let address = desired.me.address;
    let others: Vec<Ipv4Addr> = desired
        .known
        .managers
        .iter()
        .copied()
        .filter(|manager| *manager != address)
        .collect();
    if desired.controller && others.is_empty() {
        // With no other manager left the Swarm is begun anew: the store knows all that was in it.
        if desired.first {
            plan.steps.push(Step::Init {
                address,
                pool: desired.plan.swarm_pool,
                heartbeat_ms: desired.settings.heartbeat_ms,
            });
        }
    } else if !others.is_empty() && desired.known.has_token {
        plan.steps.push(Step::Join {
            address,
            managers: others,
        });
    }
    plan.waiting = true;
}

/// A worker in an error has nothing to lose: its state is its manager's. So has a manager as long as
/// there is another.
fn recover(plan: &mut Plan, desired: &Desired, error: &str) {
    let known = &desired.known;
    let has_other = known.managers.iter().any(|one| *one != desired.me.address);
    if desired.controller && !(has_other && known.has_token) {
        plan.troubles.push(Trouble::new(
            format!(
                "this node's Swarm manager gave up: {error}; if a restart does not help: \
                 `bastide cluster rebuild`"
            ),
            "systemctl restart docker",
        ));
    } else {
        plan.steps.push(Step::Leave);
        plan.waiting = true;
    }
}

/// An active worker, or a manager without a leader: it should be one of our managers' members, with
/// its networks in place.
fn work(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    networks::own(plan, desired, actual);
    if actual.membership.manager {
        plan.troubles.push(Trouble::new(
            "the Swarm has lost its quorum: too few of its managers answer each other, so nothing \
             is started or moved; if they are gone for good",
            "bastide cluster rebuild",
        ));
    }
    let managers = &actual.membership.managers;
    let ours = managers
        .iter()
        .any(|one| desired.known.managers.contains(one));
    if !ours && !managers.is_empty() && !desired.known.managers.is_empty() {
        plan.troubles.push(Trouble::new(
            "the container engine is a member of a Swarm that is not this cluster's",
            "docker swarm leave --force",
        ));
    }
}

fn manage(
    plan: &mut Plan,
    desired: &Desired,
    actual: &Actual,
    manager: &ManagerState,
    memory: &mut Memory,
    now: UnixTime,
) {
    if actual.membership.address != Some(desired.me.address) {
        plan.troubles.push(Trouble::new(
            "the container engine manages a Swarm that is not on this cluster's mesh",
            "docker swarm leave --force",
        ));
        return;
    }
    if manager.heartbeat_ms != desired.settings.heartbeat_ms {
        plan.steps.push(Step::SetHeartbeat {
            heartbeat_ms: desired.settings.heartbeat_ms,
        });
    }
    for (name, network) in &actual.networks {
        // The engine takes a moment to remove it.
        let asked = memory
            .ingress_asked
            .is_some_and(|at| now.since(at) < INGRESS_PATIENCE);
        if network.ingress && !asked {
            memory.ingress_asked = Some(now);
            plan.steps.push(Step::RemoveNetwork { name: name.clone() });
        }
    }
    if !actual.networks.contains_key(NETWORK) {
        plan.steps.push(Step::CreateNetwork);
    }
    members::members(plan, desired, manager, memory, now);
    services::services(plan, desired, manager, memory, now);
}

#[cfg(test)]
mod tests;
