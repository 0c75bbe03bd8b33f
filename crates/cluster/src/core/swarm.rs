//! Decides the next steps towards the wanted Swarm: who begins it, who joins, which networks and
//! labels there are, which services run, and who is no member any more.
//!
//! Each round looks at everything anew and says what to do next; nothing is assumed to have worked.
//!
//! ```text
//! Inactive -> (networks of this host) -> Init | Join -> Pending -> Active
//! manager:  labels and availability of members, service network, services, strangers, tokens
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bastide_api::{AddressPlan, NodeId, NodeRecord, SwarmSettings, UnixTime, View};
use ipnet::Ipv4Net;

use super::service::{Trouble, Wish, wishes};
use super::spread::{self, ARCH_LABEL, Move, NODE_LABEL, SITE_LABEL};
use super::state::{
    Actual, Availability, ManagerState, Member, MemberId, Membership, Network, Phase, ServiceId,
    SwarmId, SwarmService, UpdateState,
};

/// The network on every node that services are attached to.
pub const NETWORK: &str = "bastide";
/// The template on each node that gives [`NETWORK`] that node's subnet.
pub const NETWORK_TEMPLATE: &str = "bastide-cfg";
/// The bridge device of [`NETWORK`] on each host.
pub const BRIDGE: &str = "bst-containers";
/// Swarm's own bridge for overlay networks, made before Swarm chooses its subnet.
pub const GATEWAY_NETWORK: &str = "docker_gwbridge";

/// How long an unknown member is left alone: its node's record may be on its way to us.
pub const STRANGER_GRACE: Duration = Duration::from_secs(10);
/// How long the engine may take to remove Swarm's ingress before it is asked again.
const INGRESS_PATIENCE: Duration = Duration::from_secs(10);
/// How long additional replicas may take to run before they are given up.
pub const SURGE_MAX: Duration = Duration::from_mins(1);

/// What the control plane knows of the Swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The Swarm's own id; `None` until a manager has begun it.
    pub swarm: Option<SwarmId>,
    /// The managers' mesh addresses.
    pub managers: Vec<Ipv4Addr>,
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
}

/// Decides what to do, and remembers what it needs for the next time.
pub fn plan(desired: &Desired, actual: &Actual, memory: &mut Memory, now: UnixTime) -> Plan {
    let mut plan = Plan::default();
    match &actual.membership.phase {
        Phase::Inactive => enter(&mut plan, desired, actual),
        Phase::Pending => plan.waiting = true,
        Phase::Error(error) => recover(&mut plan, desired, error),
        Phase::Locked => plan.troubles.push(Trouble::new(
            "the Swarm's state on this node is locked",
            "docker swarm unlock",
        )),
        Phase::Active => match &actual.manager {
            Some(manager) => {
                own_networks(&mut plan, desired, actual);
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
    found.phase == Phase::Active && !found.manager && found.managers.iter().any(ours)
}

/// Not a member: the networks first, so that no task ever comes to a node without them.
fn enter(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    own_networks(plan, desired, actual);
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

/// The networks that belong to this host alone.
fn own_networks(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    let (subnet, mtu) = (desired.me.containers, desired.plan.mtu);
    if !actual.networks.contains_key(GATEWAY_NETWORK) {
        plan.steps.push(Step::CreateGateway {
            subnet: desired.plan.swarm_gateway,
            mtu,
        });
    }
    match actual.networks.get(NETWORK_TEMPLATE) {
        None => plan.steps.push(Step::CreateTemplate { subnet, mtu }),
        Some(found) if is_template(found, subnet, mtu) => {}
        Some(_) if actual.membership.phase == Phase::Inactive => {
            plan.steps.push(Step::RemoveNetwork {
                name: NETWORK_TEMPLATE.to_owned(),
            });
            plan.steps.push(Step::CreateTemplate { subnet, mtu });
        }
        Some(_) => plan.troubles.push(Trouble::new(
            format!(
                "network `{NETWORK_TEMPLATE}` is not this node's: expected {subnet}, MTU {mtu}"
            ),
            "docker swarm leave --force",
        )),
    }
}

fn is_template(found: &Network, subnet: Ipv4Net, mtu: u16) -> bool {
    let option = |name: &str| found.options.get(name).map(String::as_str);
    found.config_only
        && found.subnets == [subnet]
        && option(OPTION_MTU) == Some(&mtu.to_string())
        && option(OPTION_BRIDGE) == Some(BRIDGE)
}

/// The bridge driver's option for the MTU.
pub const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// The bridge driver's option for the device's name.
pub const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";

/// A worker in an error has nothing to lose: its state is its manager's. A manager has.
fn recover(plan: &mut Plan, desired: &Desired, error: &str) {
    if desired.controller {
        plan.troubles.push(Trouble::new(
            format!("this node's Swarm manager gave up: {error}"),
            "systemctl restart docker",
        ));
    } else {
        plan.steps.push(Step::Leave);
        plan.waiting = true;
    }
}

/// An active worker: it should be one of our managers' members, with its networks in place.
fn work(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    own_networks(plan, desired, actual);
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
    members(plan, desired, manager, memory, now);
    services(plan, desired, manager, memory, now);
}

/// Admits members that are nodes, removes those that are none.
fn members(
    plan: &mut Plan,
    desired: &Desired,
    manager: &ManagerState,
    memory: &mut Memory,
    now: UnixTime,
) {
    let present: BTreeSet<&MemberId> = manager.members.iter().map(|member| &member.id).collect();
    memory.familiar.retain(|id| present.contains(id));
    memory.stranger_since.retain(|id, _| present.contains(id));
    memory.ready_since.retain(|id, _| present.contains(id));
    let mut strangers = Vec::new();
    for member in &manager.members {
        if member.ready {
            memory.ready_since.entry(member.id.clone()).or_insert(now);
        } else {
            memory.ready_since.remove(&member.id);
        }
        let Some(address) = member.address else {
            plan.waiting |= member.ready;
            continue;
        };
        let Some(node) = desired.nodes.get(&address) else {
            let since = *memory
                .stranger_since
                .entry(member.id.clone())
                .or_insert(now);
            let familiar = memory.familiar.contains(&member.id);
            if familiar || STRANGER_GRACE <= now.since(since) {
                strangers.push(member.id.clone());
            } else {
                plan.waiting = true;
            }
            continue;
        };
        memory.stranger_since.remove(&member.id);
        memory.familiar.insert(member.id.clone());
        if !member.ready {
            // A node that joined anew left its former self behind.
            let twin = |other: &&Member| other.ready && other.address == member.address;
            if manager.members.iter().find(twin).is_some() && !member.manager {
                plan.steps.push(Step::RemoveMember {
                    member: member.id.clone(),
                });
            }
            continue;
        }
        let labels = labels(node);
        let labelled = labels
            .iter()
            .all(|(name, value)| member.labels.get(name) == Some(value));
        // An operator's drain is kept; the pause that everyone joins with is ours.
        if !labelled || member.availability == Availability::Pause {
            let labels = member.labels.clone().into_iter().chain(labels).collect();
            plan.steps.push(Step::Admit {
                member: member.id.clone(),
                labels,
            });
            plan.waiting = true;
        }
    }
    if !strangers.is_empty() {
        // Tokens first: a crash in between must not leave a removed node with a valid one.
        plan.steps.push(Step::RotateTokens);
        plan.steps.extend(
            strangers
                .into_iter()
                .map(|member| Step::RemoveMember { member }),
        );
    }
}

/// Returns the labels that a member should have.
fn labels(node: &NodeRecord) -> BTreeMap<String, String> {
    BTreeMap::from([
        (SITE_LABEL.to_owned(), node.site.to_string()),
        (ARCH_LABEL.to_owned(), node.arch.to_string()),
        (NODE_LABEL.to_owned(), node.name.to_string()),
    ])
}

fn services(
    plan: &mut Plan,
    desired: &Desired,
    manager: &ManagerState,
    memory: &mut Memory,
    now: UnixTime,
) {
    let mut present: BTreeMap<&str, &SwarmService> = manager
        .services
        .iter()
        .map(|service| (service.name.as_str(), service))
        .collect();
    let ids: BTreeSet<&ServiceId> = manager.services.iter().map(|service| &service.id).collect();
    memory.surge_since.retain(|id, _| ids.contains(id));
    memory.spread_at.retain(|id, _| ids.contains(id));
    memory
        .tried
        .retain(|name, _| desired.wishes.iter().any(|wish| wish.name() == *name));

    let mut settled = Vec::new();
    for wish in &desired.wishes {
        let name = wish.name();
        let Some(found) = present.remove(name.as_str()) else {
            memory.tried.insert(name, wish.revision());
            plan.steps.push(Step::CreateService {
                wish: Box::new(wish.clone()),
            });
            plan.waiting = true;
            continue;
        };
        if service(plan, wish, found, manager, memory, now) {
            settled.push((wish, found));
        }
    }
    for (name, service) in present {
        if service.revision.is_some() {
            let id = service.id.clone();
            plan.steps.push(Step::RemoveService {
                id,
                name: name.to_owned(),
            });
        }
    }
    // One service at a time, and only when nothing else moves.
    if !plan.waiting
        && let Some(Move {
            wish,
            found,
            replicas,
        }) = spread::next(&settled, manager, memory, desired, now)
    {
        memory.surge_since.insert(found.id.clone(), now);
        memory.spread_at.insert(found.id.clone(), now);
        plan.steps.push(update(wish, found, replicas));
        plan.waiting = true;
    }
}

/// Brings one service to its wish; true if it is there and at rest.
fn service(
    plan: &mut Plan,
    wish: &Wish,
    found: &SwarmService,
    manager: &ManagerState,
    memory: &mut Memory,
    now: UnixTime,
) -> bool {
    let name = wish.name();
    let Some(revision) = &found.revision else {
        plan.troubles.push(Trouble::new(
            format!("a service `{name}` exists that was not deployed by Bastide"),
            format!("docker service rm {name}"),
        ));
        return false;
    };
    let wanted = wish.revision();
    if *revision != wanted {
        let failed = matches!(found.update, UpdateState::RolledBack | UpdateState::Paused);
        if failed && memory.tried.get(&name) == Some(&wanted) {
            plan.troubles.push(Trouble::new(
                format!("service `{name}` failed its update and went back to what it was"),
                format!("docker service ps --no-trunc {name}"),
            ));
            return false;
        }
        memory.tried.insert(name, wanted);
        memory.surge_since.remove(&found.id);
        plan.steps.push(update(wish, found, wish.spec.replicas));
        plan.waiting = true;
        return false;
    }
    if found.update == UpdateState::Running {
        plan.waiting = true;
        return false;
    }
    if found.update == UpdateState::Paused {
        plan.troubles.push(Trouble::new(
            format!("the update of service `{name}` stopped half way"),
            format!("docker service ps --no-trunc {name}"),
        ));
        return false;
    }
    let tasks = || manager.tasks.iter().filter(|task| task.service == found.id);
    let running = tasks().filter(|task| task.wanted && task.running).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    if found.replicas == Some(wish.spec.replicas) {
        memory.surge_since.remove(&found.id);
        // Those that ought to run first: they say why they cannot.
        let mut told = tasks()
            .filter(|task| task.wanted)
            .chain(tasks().filter(|task| !task.wanted));
        if running < wish.spec.replicas
            && let Some(reason) = told.find_map(|task| task.trouble.as_ref())
        {
            plan.troubles.push(Trouble::new(
                format!(
                    "{running} of {} tasks of `{name}` run: {reason}",
                    wish.spec.replicas
                ),
                format!("docker service ps --no-trunc {name}"),
            ));
        }
        return true;
    }
    // Too many on purpose: wait until they run, then let Swarm take them from the fullest nodes.
    if let Some(since) = memory.surge_since.get(&found.id)
        && now.since(*since) < SURGE_MAX
        && found.replicas.is_some_and(|replicas| running < replicas)
    {
        plan.waiting = true;
        return false;
    }
    plan.steps.push(update(wish, found, wish.spec.replicas));
    plan.waiting = true;
    false
}

fn update(wish: &Wish, found: &SwarmService, replicas: u32) -> Step {
    Step::UpdateService {
        id: found.id.clone(),
        wish: Box::new(wish.clone()),
        replicas,
    }
}

#[cfg(test)]
mod tests;
