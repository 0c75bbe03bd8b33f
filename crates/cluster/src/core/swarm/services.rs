//! The services: made, updated, spread anew, removed; and why one lacks tasks.

use std::collections::{BTreeMap, BTreeSet};

use bastide_api::UnixTime;

use super::{Desired, Memory, Plan, SURGE_MAX, SURGE_USUAL, Step};
use crate::core::service::{Trouble, Wish};
use crate::core::spread::{self, Move};
use crate::core::state::{ManagerState, ServiceId, SwarmService, SwarmTask, UpdateState};

pub(super) fn services(
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
    let tasks = || manager.tasks.iter().filter(|task| task.service == found.id);
    if found.update == UpdateState::Running {
        // An update waits for ever for a task that no node can take.
        let stuck = |task: &&SwarmTask| task.wanted && !task.running;
        if let Some(reason) = tasks().filter(stuck).find_map(|task| task.trouble.as_ref()) {
            plan.troubles.push(Trouble::new(
                format!("the update of service `{name}` waits for a task: {reason}"),
                mend(reason, &name),
            ));
        }
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
    let running = tasks().filter(|task| task.wanted && task.running).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    let lacking = |wanted: u32| {
        // Those that ought to run first: they say why they cannot.
        let mut told = tasks()
            .filter(|task| task.wanted)
            .chain(tasks().filter(|task| !task.wanted));
        let reason = told.find_map(|task| task.trouble.as_ref());
        reason.filter(|_| running < wanted).map(|reason| {
            let what = format!("{running} of {wanted} tasks of `{name}` run: {reason}");
            Trouble::new(what, mend(reason, &name))
        })
    };
    if found.replicas == Some(wish.spec.replicas) {
        memory.surge_since.remove(&found.id);
        plan.troubles.extend(lacking(wish.spec.replicas));
        return true;
    }
    // Too many on purpose: wait until they run, then let Swarm take them from the fullest nodes.
    if let Some(since) = memory.surge_since.get(&found.id)
        && now.since(*since) < SURGE_MAX
        && let Some(replicas) = found.replicas.filter(|replicas| running < *replicas)
    {
        if SURGE_USUAL <= now.since(*since) {
            plan.troubles.extend(lacking(replicas));
        }
        plan.waiting = true;
        return false;
    }
    plan.steps.push(update(wish, found, wish.spec.replicas));
    plan.waiting = true;
    false
}

/// What mends a service whose tasks are refused for this reason.
fn mend(reason: &str, name: &str) -> String {
    let look = format!("docker service ps --no-trunc {name}");
    // An engine that was replaced by a later release may find a network of its former life in its own
    // books and refuse to make it anew (seen from Docker 26.1 to 28.5); a restart keeps the books.
    if reason.starts_with("network ") && reason.ends_with(" exists") {
        return format!(
            "on the node that `{look}` shows: systemctl stop docker.socket docker; rm \
             /var/lib/docker/network/files/local-kv.db; systemctl start docker"
        );
    }
    look
}

fn update(wish: &Wish, found: &SwarmService, replicas: u32) -> Step {
    Step::UpdateService {
        id: found.id.clone(),
        wish: Box::new(wish.clone()),
        replicas,
    }
}
