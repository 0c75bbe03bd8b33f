//! From what was seen of a host to checks: as it should be or not, and what mends it.
//!
//! Each layer has a type for what was seen and a function that judges it. Layers stand on each
//! other, so the order of the checks is the order in which to mend.

mod cluster;
mod control_plane;
mod host;
mod mesh;

use bastide_api::doctor::{Check, Layer, Outcome};

pub use cluster::{EngineSeen, NamesSeen, SwarmSeen};
pub use control_plane::{CertificateSeen, ControlPlaneSeen, ControllerSeen};
pub use host::{Holder, HostSeen, PortSeen, ProgramSeen, Protocol, own_ports};
pub use mesh::{DeviceSeen, MeshSeen, PeerSeen};

/// What was seen of a host.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Kernel, programs, disk, ports.
    pub host: HostSeen,
    /// How it is a node; none: it is not.
    pub node: Option<NodeSeen>,
    /// The container engine.
    pub engine: EngineSeen,
}

/// What was seen of a host as a node.
#[derive(Debug, Clone)]
pub struct NodeSeen {
    /// The control plane and the certificate.
    pub control_plane: ControlPlaneSeen,
    /// Device, filter, peers.
    pub mesh: MeshSeen,
    /// The resolver.
    pub names: NamesSeen,
    /// What the agent reports as wrong; none: it does not answer.
    pub troubles: Option<Vec<String>>,
}

/// Judges everything.
pub fn judge(seen: &Seen) -> Vec<Check> {
    let mut checks = host::judge(&seen.host, seen.node.is_some());
    let Some(node) = &seen.node else {
        let why = "this host is no node: `bastide up` begins a cluster, `bastide join -` joins one";
        checks.push(Check::skip(Layer::ControlPlane, "membership", why));
        checks.extend(cluster::judge_engine(&seen.engine, false));
        return checks;
    };
    checks.extend(control_plane::judge(&node.control_plane));
    checks.extend(mesh::judge(&node.mesh));
    checks.extend(cluster::judge_names(&node.names));
    checks.extend(cluster::judge_engine(&seen.engine, true));
    checks.extend(reported(node.troubles.as_deref()));
    checks
}

/// The agent knows of troubles that no look from outside finds; it says itself what mends them.
fn reported(troubles: Option<&[String]>) -> Vec<Check> {
    let Some(troubles) = troubles else {
        return vec![Check::skip(
            Layer::Reported,
            "status",
            "the agent does not answer",
        )];
    };
    if troubles.is_empty() {
        return vec![Check::pass(Layer::Reported, "status", "nothing")];
    }
    troubles
        .iter()
        .map(|line| Check::fail(Layer::Reported, "status", line, command_in(line)))
        .collect()
}

/// Returns the commands that a line names in backquotes, as our reports do.
fn command_in(line: &str) -> String {
    let commands: Vec<_> = line
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.contains(' '))
        .collect();
    if commands.is_empty() {
        "bastide status".to_owned()
    } else {
        commands.join("; ")
    }
}

/// Returns whether any check failed.
pub fn is_sound(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Outcome::Fail)
}

#[cfg(test)]
mod tests;
