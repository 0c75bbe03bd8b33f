//! The networks that a host needs before it is a member.

use ipnet::Ipv4Net;

use super::{
    BRIDGE, Desired, GATEWAY_NETWORK, NETWORK, NETWORK_TEMPLATE, OPTION_BRIDGE, OPTION_MTU, Plan,
    Step,
};
use crate::core::collisions;
use crate::core::service::Trouble;
use crate::core::state::{Actual, Network, Phase};

/// What of the cluster's ranges or names the host or its engine uses for something else. A node that
/// is not a member yet does not become one meanwhile; a member is told.
pub(super) fn collisions(plan: &mut Plan, desired: &Desired, actual: &Actual) {
    let networks = collisions::of_networks(&desired.plan, &actual.networks);
    for collision in collisions::once(desired.collisions.iter().cloned().chain(networks)) {
        plan.troubles
            .push(Trouble::new(collision.to_string(), collision.mend()));
    }
    if let Some(found) = actual.networks.get(NETWORK)
        && !found.swarm_scope
    {
        plan.troubles.push(Trouble::new(
            format!("the container engine has a network `{NETWORK}` that is not the cluster's"),
            format!("docker network rm {NETWORK}"),
        ));
    }
}

/// The networks that belong to this host alone.
pub(super) fn own(plan: &mut Plan, desired: &Desired, actual: &Actual) {
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
