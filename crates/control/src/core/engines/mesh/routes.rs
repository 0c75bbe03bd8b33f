//! Subnets behind nodes: offered by a node, approved by an operator.

use bastide_api::{ClusterRecord, EntryKey, NodeId, NodeRecord};
use ipnet::Ipv4Net;
use serde::Deserialize;

use super::view;
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Most subnets behind one node.
const ROUTES_MAX: usize = 16;
/// Shortest prefix of a subnet: nobody is the gateway to a sixteenth of the Internet.
const PREFIX_MIN: u8 = 8;

/// What an operator approves: all of a node's subnets at once.
#[derive(Deserialize)]
struct Approval {
    routes: Vec<Ipv4Net>,
}

pub(super) fn approve(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    id: NodeId,
) -> Result<Answer, Refusal> {
    let approval: Approval = call.parse()?;
    let cluster = super::cluster(ctx)?;
    let mut record: NodeRecord = view::read(ctx, &EntryKey::Node(id))?.ok_or(Refusal::Absent)?;
    check_sane(&approval.routes)?;
    check_plan(&cluster, &approval.routes)?;
    for other in view::list(ctx, "nodes/")? {
        let Some(other) = other.parse().ok().filter(|other| *other != id) else {
            continue;
        };
        let other: Option<NodeRecord> = view::read(ctx, &EntryKey::Node(other))?;
        let Some(other) = other else { continue };
        let clash = |one: &&Ipv4Net| other.routes.iter().any(|theirs| overlap(**one, *theirs));
        if let Some(route) = approval.routes.iter().find(clash) {
            return Err(Refusal::invalid(format!(
                "`{route}` overlaps a subnet behind node `{}`",
                other.name
            )));
        }
    }
    record.routes = approval.routes;
    view::publish(ctx, &EntryKey::Node(id), &record)?;
    Ok(Answer::done())
}

/// Refuses what nobody can be a gateway for.
pub(super) fn check_sane(routes: &[Ipv4Net]) -> Result<(), Refusal> {
    if ROUTES_MAX < routes.len() {
        return Err(Refusal::invalid(format!(
            "a node is the gateway for at most {ROUTES_MAX} subnets"
        )));
    }
    for (at, route) in routes.iter().enumerate() {
        let first = route.network();
        let is_wrong = route.prefix_len() < PREFIX_MIN
            || first != route.addr()
            || first.is_loopback()
            || first.is_multicast()
            || first.is_link_local()
            || first.is_unspecified()
            || 240 <= first.octets()[0];
        if is_wrong {
            return Err(Refusal::invalid(format!(
                "`{route}` is not a subnet that a node can be the gateway for"
            )));
        }
        if let Some(other) = routes[..at].iter().find(|other| overlap(**other, *route)) {
            return Err(Refusal::invalid(format!("`{route}` and `{other}` overlap")));
        }
    }
    Ok(())
}

fn check_plan(cluster: &ClusterRecord, routes: &[Ipv4Net]) -> Result<(), Refusal> {
    let plan = &cluster.plan;
    let own = [
        plan.mesh,
        plan.containers,
        plan.swarm_pool,
        plan.swarm_gateway,
    ];
    for route in routes {
        if let Some(range) = own.iter().find(|range| overlap(**range, *route)) {
            return Err(Refusal::invalid(format!(
                "`{route}` overlaps the cluster's own range `{range}`"
            )));
        }
    }
    Ok(())
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}
