//! From view, reports and own paths to what `bastide status` shows.

use std::collections::{BTreeMap, BTreeSet};

use bastide_api::paths::PathEvent;
use bastide_api::status::{NodeStatus, ServiceStatus, StackStatus, Status, TaskStatus};
use bastide_api::v1::{NodeFacts, PathFact, PathKind};
use bastide_api::{NodeId, ServiceName, StackName, View};

/// What the control plane makes of this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is the node whose keys it holds.
    #[default]
    Member,
    /// Its node was removed.
    Removed,
    /// Another machine runs with the same keys, and is the node.
    Rival,
}

/// What the status is made of.
pub struct Sources<'a> {
    /// The node that tells.
    pub me: NodeId,
    /// The last signed view.
    pub view: &'a View,
    /// What nodes reported; this node's own included.
    pub facts: &'a BTreeMap<NodeId, NodeFacts>,
    /// How this node reaches its peers.
    pub paths: &'a BTreeMap<NodeId, PathFact>,
    /// What happened lately to its paths.
    pub events: &'a BTreeMap<NodeId, Vec<PathEvent>>,
    /// Replicas wanted, by service.
    pub wanted: &'a BTreeMap<(StackName, ServiceName), u32>,
    /// Whether a controller answers now.
    pub controller: bool,
    /// What the controller said, if it answers but refuses this node.
    pub refused: Option<&'a str>,
    /// Why the controller's view is not followed, if it is of an older store.
    pub departed: Option<&'a str>,
    /// What the control plane makes of this host.
    pub standing: Standing,
}

/// Returns whether node `me` is one: only then it sends anything to others.
pub fn is_node(view: &View, me: NodeId, standing: Standing) -> bool {
    standing == Standing::Member && view.nodes.contains_key(&me)
}

/// Returns the nodes that cannot be reached now: members without any path.
pub fn dead(view: &View, paths: &BTreeMap<NodeId, PathFact>, me: NodeId) -> BTreeSet<NodeId> {
    let others = view.nodes.keys().copied().filter(|node| *node != me);
    others
        .filter(|node| {
            paths
                .get(node)
                .is_none_or(|path| path.kind == PathKind::None)
        })
        .collect()
}

/// Draws the picture.
pub fn status(from: &Sources<'_>) -> Status {
    let dead = dead(from.view, from.paths, from.me);
    let controllers: BTreeSet<_> = from
        .view
        .cluster
        .controllers
        .iter()
        .map(|one| one.node)
        .collect();
    let none = PathFact {
        kind: PathKind::None,
        rtt_us: None,
        mtu: None,
        loss_percent: 0,
    };
    let mut nodes: Vec<_> = from
        .view
        .nodes
        .values()
        .map(|node| NodeStatus {
            id: node.id,
            name: node.name.clone(),
            site: node.site.clone(),
            address: node.address,
            tags: node.tags.clone(),
            controller: controllers.contains(&node.id),
            path: (node.id != from.me).then(|| {
                from.paths
                    .get(&node.id)
                    .cloned()
                    .unwrap_or_else(|| none.clone())
            }),
            events: from.events.get(&node.id).cloned().unwrap_or_default(),
            swarm: from
                .facts
                .get(&node.id)
                .is_some_and(|facts| facts.swarm_node.is_some()),
            alive: !dead.contains(&node.id),
        })
        .collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let mut joins: Vec<_> = from.view.joins.values().cloned().collect();
    joins.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    Status {
        node: from.me,
        cluster: from.view.cluster.name.clone(),
        revision: from.view.revision,
        controller: from.controller,
        nodes,
        joins,
        stacks: stacks(from, &dead),
        troubles: troubles(from, &dead),
    }
}

fn stacks(from: &Sources<'_>, dead: &BTreeSet<NodeId>) -> Vec<StackStatus> {
    let mut stacks: BTreeMap<StackName, Vec<ServiceStatus>> = BTreeMap::new();
    for name in from.view.stacks.keys() {
        stacks.insert(name.clone(), Vec::new());
    }
    for ((stack, service), wanted) in from.wanted {
        let tasks = tasks(from, dead, stack, service);
        let healthy = tasks
            .iter()
            .filter(|task| task.healthy && task.reachable)
            .count();
        stacks
            .entry(stack.clone())
            .or_default()
            .push(ServiceStatus {
                name: service.clone(),
                wanted: *wanted,
                healthy: u32::try_from(healthy).unwrap_or(u32::MAX),
                tasks,
            });
    }
    stacks
        .into_iter()
        .map(|(name, services)| StackStatus { name, services })
        .collect()
}

fn tasks(
    from: &Sources<'_>,
    dead: &BTreeSet<NodeId>,
    stack: &StackName,
    service: &ServiceName,
) -> Vec<TaskStatus> {
    let mut tasks = Vec::new();
    for (id, facts) in from.facts {
        let Some(node) = from.view.nodes.get(id) else {
            continue;
        };
        for task in &facts.tasks {
            let is_of_service = task
                .service
                .as_ref()
                .is_some_and(|(one, two)| one == stack && two == service);
            // A node speaks for its own subnet alone.
            if is_of_service && node.containers.contains(&task.address) {
                tasks.push(TaskStatus {
                    node: node.name.clone(),
                    address: task.address,
                    healthy: task.healthy,
                    reachable: !dead.contains(id),
                });
            }
        }
    }
    tasks
}

/// Says what is wrong when the controller's store is older than what is known here.
pub fn departed(why: &str) -> String {
    format!(
        "the control plane runs on an older store ({why}); this node keeps the view it has. Put the \
         later store back, or, if this was on purpose: `bastide accept-restored` on the controller"
    )
}

fn troubles(from: &Sources<'_>, dead: &BTreeSet<NodeId>) -> Vec<String> {
    let mut troubles = Vec::new();
    let mend = "`bastide down --forget`, then `bastide join -` with a new ticket";
    if from.refused.is_some_and(|why| why.contains("sealed")) {
        troubles.push(
            "the control plane is sealed; mesh, names and containers go on, and every node is safe for \
             12 hours at least: `bastide unseal` on the controller opens it"
                .to_owned(),
        );
    } else if let Some(why) = from.departed {
        troubles.push(departed(why));
    } else if from.standing == Standing::Rival {
        troubles.push(format!(
            "another machine runs with this node's keys, as after copying a disk, and this one keeps \
             out of the mesh: {mend}"
        ));
    } else if !is_node(from.view, from.me, from.standing) {
        troubles.push(format!("this node was removed from the cluster: {mend}"));
    } else if let Some(why) = from.refused {
        troubles.push(format!(
            "the control plane refuses this node ({why}); if it was removed: \
             `bastide down --forget`, then `bastide join -` with a new ticket"
        ));
    } else if !from.controller {
        troubles.push(
            "no controller answers; mesh, names and containers go on: look at `bastide status` there"
                .to_owned(),
        );
    }
    for id in dead {
        if let Some(node) = from.view.nodes.get(id) {
            let (name, site) = (&node.name, &node.site);
            troubles.push(format!(
                "node `{name}` at site `{site}` cannot be reached; if it is gone for good: \
                 `bastide node remove {name}`"
            ));
        }
    }
    for (id, facts) in from.facts {
        let Some(node) = from.view.nodes.get(id) else {
            continue;
        };
        let lines = facts.noted.iter().chain(&facts.troubles);
        troubles.extend(lines.map(|line| format!("{}: {line}", node.name)));
    }
    troubles
}

#[cfg(test)]
mod tests;
