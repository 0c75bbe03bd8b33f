//! Who is a member: nodes are admitted, others removed.

use std::collections::{BTreeMap, BTreeSet};

use bastide_api::{NodeRecord, UnixTime};

use super::{Desired, Memory, Plan, STRANGER_GRACE, Step};
use crate::core::service::Trouble;
use crate::core::spread::{ARCH_LABEL, NODE_LABEL, SITE_LABEL};
use crate::core::state::{Availability, ManagerState, Member, MemberId};

/// Admits members that are nodes, removes those that are none.
pub(super) fn members(
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
        if member.availability == Availability::Drain {
            let name = &node.name;
            plan.troubles.push(Trouble::new(
                format!("node `{name}` was drained by hand and gets no tasks"),
                format!("docker node update --availability active {}", member.id),
            ));
        }
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
        for member in strangers {
            let is_manager = manager
                .members
                .iter()
                .any(|one| one.id == member && one.manager);
            if is_manager {
                let member = member.clone();
                plan.steps.push(Step::Demote { member });
            }
            plan.steps.push(Step::RemoveMember { member });
        }
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
