//! What `bastide status --json` and `bastide ps --json` print: the agent's picture of the cluster.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::paths::PathEvent;
use crate::v1::PathFact;
use crate::{
    ClusterName, NodeId, NodeName, Revision, ServiceName, SiteName, StackName, Tag, WaitingJoin,
};

/// The cluster as one agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node that tells this.
    pub node: NodeId,
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The revision of its view.
    pub revision: Revision,
    /// Whether a controller answers it now.
    pub controller: bool,
    /// The nodes, sorted by name.
    pub nodes: Vec<NodeStatus>,
    /// Machines that wait for an operator's approval, sorted by name.
    #[serde(default)]
    pub joins: Vec<WaitingJoin>,
    /// The stacks, sorted by name.
    pub stacks: Vec<StackStatus>,
    /// What is wrong: what, and the command that mends it.
    pub troubles: Vec<String>,
}

/// A node, as another or it itself sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it stands.
    pub site: SiteName,
    /// Its mesh address.
    pub address: Ipv4Addr,
    /// What its ticket said of it.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Whether it runs the control plane.
    pub controller: bool,
    /// How it is reached; `None` for the node that tells.
    pub path: Option<PathFact>,
    /// What happened lately to the path, oldest first.
    #[serde(default)]
    pub events: Vec<PathEvent>,
    /// Whether its container engine is a member of the Swarm.
    pub swarm: bool,
    /// Whether it can be reached now; true for the node that tells.
    pub alive: bool,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStatus {
    /// Its name.
    pub name: StackName,
    /// Its services, sorted by name.
    pub services: Vec<ServiceStatus>,
}

/// A service of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// How many healthy tasks there should be.
    pub wanted: u32,
    /// How many there are on nodes that can be reached.
    pub healthy: u32,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The node that runs it.
    pub node: NodeName,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it should be sent traffic.
    pub healthy: bool,
    /// Whether its node can be reached now.
    pub reachable: bool,
}

/// How much of the Swarm a node's engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmStatus {
    /// What the managers call this node, while it is a member.
    pub member: Option<String>,
    /// Whether this node is a manager whose Swarm answers; only then is the rest known.
    pub manager: bool,
    /// How many members it hears from.
    pub ready: u32,
    /// The services, sorted by name.
    pub services: Vec<SwarmServiceStatus>,
}

/// A service, as the Swarm's manager counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmServiceStatus {
    /// Its name in the Swarm: `<stack>_<service>`.
    pub name: String,
    /// How many of its tasks run.
    pub running: u32,
    /// How many should.
    pub wanted: u32,
}

/// What `bastide cluster rebuild` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildPlan {
    /// Whether the Swarm is kept, with this engine as its only manager; otherwise it is begun anew.
    pub keeps: bool,
    /// What the engine is in the Swarm now, in a few words.
    pub now: String,
    /// The nodes that will be members, by name.
    pub nodes: Vec<String>,
    /// The services that will run, by their names in the Swarm.
    pub services: Vec<String>,
}
