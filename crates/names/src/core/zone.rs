//! What each name of the cluster means.
//!
//! ```text
//! <service>.<stack>.<cluster>.internal            healthy tasks of a service of the view
//! <node>.node.<cluster>.internal                  a node's mesh address
//! <container>.<node>.node.<cluster>.internal      a standalone container
//! <cluster>.internal                              the resolver itself
//! ```
//!
//! Reports are not signed, so a node is believed only about addresses inside its own container
//! subnet, and only about services that the signed view names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bastide_api::v1::{NodeFacts, TaskFact};
use bastide_api::{NodeId, NodeRecord, ServiceName, View};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How long an answer may be kept, in seconds.
pub const TTL_SECONDS: u32 = 5;
/// Most tasks of one node that are considered.
const TASKS_PER_NODE_MAX: usize = 1_024;
/// Most addresses in one answer; a larger service answers with a sample.
const ANSWER_ADDRESSES_MAX: usize = 256;
/// Below this label stand the nodes.
const NODE_LABEL: &str = "node";

/// The names of a cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Labels of the zone's own name, outermost last: `["home", "internal"]`.
    apex: Vec<String>,
    serial: u32,
    /// Names below the apex, their labels in the order in which they are written.
    names: BTreeMap<Vec<String>, Addresses>,
    /// Names that exist only because longer ones do.
    between: BTreeSet<Vec<String>>,
    /// Full names by address.
    reverse: BTreeMap<Ipv4Addr, String>,
    /// Ranges whose reverse names nobody outside is asked for.
    ranges: Vec<Ipv4Net>,
}

/// The addresses of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Addresses {
    /// To be sent traffic.
    healthy: BTreeSet<Ipv4Addr>,
    /// The others.
    unhealthy: BTreeSet<Ipv4Addr>,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It has these addresses, in the order in which to answer.
    Addresses {
        /// At least one.
        addresses: Vec<Ipv4Addr>,
        /// No task is healthy, so all are given: a wrong health check must not take a service down.
        unhealthy: bool,
    },
    /// The name exists and has no address.
    NoAddress,
    /// No such name in the zone.
    NoSuchName,
    /// The name is not the zone's to answer.
    Foreign,
}

/// The part of a stack that names need.
#[derive(Deserialize)]
#[expect(
    clippy::zero_sized_map_values,
    reason = "only the keys of the JSON object matter"
)]
struct StackNames {
    services: BTreeMap<ServiceName, IgnoredAny>,
}

impl Zone {
    /// Builds the zone from the view and the nodes' reports. `dead` are the nodes that the mesh
    /// holds for dead: their tasks are left out, their own names stay.
    pub fn build(
        view: &View,
        facts: &BTreeMap<NodeId, NodeFacts>,
        dead: &BTreeSet<NodeId>,
    ) -> Self {
        let plan = &view.cluster.plan;
        let mut zone = Self {
            apex: vec![view.cluster.name.to_string(), "internal".to_owned()],
            serial: u32::try_from(view.revision.0 & u64::from(u32::MAX)).unwrap_or_default(),
            names: BTreeMap::new(),
            between: BTreeSet::new(),
            reverse: BTreeMap::new(),
            ranges: vec![
                plan.mesh,
                plan.containers,
                plan.swarm_pool,
                plan.swarm_gateway,
            ],
        };
        let resolver = Addresses::healthy(plan.dns);
        zone.insert(Vec::new(), resolver, &[plan.dns]);
        zone.insert_services(view);
        for node in view.nodes.values() {
            let labels = vec![node.name.to_string(), NODE_LABEL.to_owned()];
            zone.insert(labels, Addresses::healthy(node.address), &[node.address]);
        }
        let living = facts.iter().filter(|(id, _)| !dead.contains(id));
        for (id, facts) in living {
            if let Some(node) = view.nodes.get(id) {
                for task in facts.tasks.iter().take(TASKS_PER_NODE_MAX) {
                    zone.insert_task(node, task);
                }
            }
        }
        zone
    }

    /// Gives each service of the view its name, with or without tasks.
    fn insert_services(&mut self, view: &View) {
        for (stack, text) in &view.stacks {
            // A service of a stack named `node` would answer for a node.
            if stack.as_str() == NODE_LABEL {
                continue;
            }
            let Ok(names) = serde_json::from_str::<StackNames>(text) else {
                continue;
            };
            for service in names.services.keys() {
                let labels = vec![service.to_string(), stack.to_string()];
                self.insert(labels, Addresses::default(), &[]);
            }
        }
    }

    fn insert_task(&mut self, node: &NodeRecord, task: &TaskFact) {
        let subnet = node.containers;
        let address = task.address;
        let is_host = address != subnet.network() && address != subnet.broadcast();
        if !subnet.contains(&address) || !is_host {
            return;
        }
        let labels = match (&task.service, &task.name) {
            (Some((stack, service)), _) => {
                let labels = vec![service.to_string(), stack.to_string()];
                if !self.names.contains_key(&labels) || stack.as_str() == NODE_LABEL {
                    return;
                }
                labels
            }
            (None, Some(name)) => {
                // A container's name may hold what a label cannot; such a container has no name.
                let Ok(label) = name.to_ascii_lowercase().parse::<ServiceName>() else {
                    return;
                };
                vec![
                    label.to_string(),
                    node.name.to_string(),
                    NODE_LABEL.to_owned(),
                ]
            }
            (None, None) => return,
        };
        let mut addresses = Addresses::default();
        if task.healthy {
            addresses.healthy.insert(address);
        } else {
            addresses.unhealthy.insert(address);
        }
        self.insert(labels, addresses, &[address]);
    }

    fn insert(&mut self, labels: Vec<String>, addresses: Addresses, reverse: &[Ipv4Addr]) {
        for address in reverse {
            let name = labels
                .iter()
                .chain(&self.apex)
                .cloned()
                .collect::<Vec<_>>()
                .join(".");
            self.reverse.entry(*address).or_insert(name);
        }
        for skip in 1..labels.len() {
            self.between.insert(labels[skip..].to_vec());
        }
        let known = self.names.entry(labels).or_default();
        known.healthy.extend(addresses.healthy);
        known.unhealthy.extend(addresses.unhealthy);
    }

    /// Says what a name means. `labels` are in lower case, in the order in which they are written;
    /// `seed` picks the order of the addresses.
    pub fn resolve(&self, labels: &[String], seed: u64) -> Lookup {
        let Some(relative) = labels.strip_suffix(self.apex.as_slice()) else {
            return Lookup::Foreign;
        };
        let Some(known) = self.names.get(relative) else {
            return if self.between.contains(relative) {
                Lookup::NoAddress
            } else {
                Lookup::NoSuchName
            };
        };
        let unhealthy = known.healthy.is_empty();
        let chosen = if unhealthy {
            &known.unhealthy
        } else {
            &known.healthy
        };
        let mut addresses: Vec<_> = chosen.iter().copied().collect();
        if addresses.is_empty() {
            return Lookup::NoAddress;
        }
        shuffle(&mut addresses, seed);
        addresses.truncate(ANSWER_ADDRESSES_MAX);
        Lookup::Addresses {
            addresses,
            unhealthy,
        }
    }

    /// Returns the labels of the zone's own name, outermost last.
    pub fn apex(&self) -> &[String] {
        &self.apex
    }

    /// Returns the zone's serial number: the view's revision, cut to 32 bits.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Returns the full name that an address of the cluster has.
    pub fn name_of(&self, address: Ipv4Addr) -> Option<&str> {
        self.reverse.get(&address).map(String::as_str)
    }

    /// Whether all of `net` belongs to the cluster.
    pub fn owns(&self, net: Ipv4Net) -> bool {
        self.ranges.iter().any(|range| range.contains(&net))
    }

    /// Returns the full names of services that have tasks of which none is healthy.
    pub fn unhealthy(&self) -> impl Iterator<Item = String> {
        self.names
            .iter()
            .filter(|(_, known)| known.healthy.is_empty() && !known.unhealthy.is_empty())
            .map(|(labels, _)| labels.join("."))
    }
}

impl Addresses {
    fn healthy(address: Ipv4Addr) -> Self {
        Self {
            healthy: BTreeSet::from([address]),
            unhealthy: BTreeSet::new(),
        }
    }
}

/// Fisher and Yates' shuffle, with `SplitMix64` (Steele, Lea, Flood, 2014) for the choices.
fn shuffle(addresses: &mut [Ipv4Addr], seed: u64) {
    let mut state = seed;
    for last in (1..addresses.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(last).expect("a list's length fits 64 bits") + 1;
        let other = usize::try_from(mixed % bound).expect("smaller than a list's length");
        addresses.swap(last, other);
    }
}

#[cfg(test)]
pub(crate) mod tests;
