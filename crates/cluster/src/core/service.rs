//! From the view's stacks to the services that a Swarm should have.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::digest;
use bastide_api::{ServiceName, StackName, View, ports};
use bastide_stack::{ImageRef, Service, Stack, UpdateOrder};
use serde::Serialize;

use super::spread::SITE_LABEL;

/// The label in which a service tells what it was made from.
pub const LABEL_REVISION: &str = "bastide.revision";

/// Counts changes of how a service is told to Swarm, so that a new program updates what an older
/// one made.
const TRANSLATION: u32 = 1;

/// A service that the Swarm should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wish {
    translation: u32,
    /// The stack it belongs to.
    pub stack: StackName,
    /// Its name in that stack.
    pub service: ServiceName,
    /// What it is, as deployed.
    pub spec: Service,
    /// Its image at the node's own registry, by digest.
    pub image: ImageRef,
    /// The resolver that its containers ask.
    pub dns: Ipv4Addr,
    /// The domain in which its containers look up short names.
    pub search: String,
}

/// Something that this program cannot mend by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// What is wrong.
    pub what: String,
    /// The command that mends it.
    pub mend: String,
}

impl Trouble {
    /// Names what is wrong and the command that mends it.
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; mend it with `{}`", self.what, self.mend)
    }
}

impl Wish {
    /// Returns the name that Swarm knows it by, the same that `docker stack` would give.
    pub fn name(&self) -> String {
        format!("{}_{}", self.stack, self.service)
    }

    /// Returns what tells this wish from every other: a hash of all that it says.
    pub fn revision(&self) -> String {
        let text = serde_json::to_vec(self).expect("a wish has text keys only");
        let sum = digest::digest(&digest::SHA256, &text);
        data_encoding::HEXLOWER.encode(&sum.as_ref()[..16])
    }

    /// Returns whether a replica can run anywhere and twice: no volume and no port of the host.
    pub fn is_stateless(&self) -> bool {
        self.spec.volumes.is_empty() && self.spec.ports.is_empty()
    }

    /// Returns which comes first in an update, where the stack leaves it open.
    pub fn order(&self, written: Option<UpdateOrder>) -> UpdateOrder {
        written.unwrap_or(if self.is_stateless() {
            UpdateOrder::StartFirst
        } else {
            UpdateOrder::StopFirst
        })
    }

    /// Returns the node labels over whose values replicas are spread, most important first.
    pub fn spread(&self) -> Vec<String> {
        if self.spec.placement.spread.is_empty() {
            vec![format!("node.labels.{SITE_LABEL}")]
        } else {
            self.spec.placement.spread.clone()
        }
    }
}

/// Returns the services that the view's stacks ask for, sorted by name, and what is wrong with those
/// that cannot be asked for. A stack that cannot be read hides no other.
pub fn wishes(view: &View) -> (Vec<Wish>, Vec<Trouble>) {
    let mut wishes = Vec::new();
    let mut troubles = Vec::new();
    for (name, text) in &view.stacks {
        let stack: Stack = match serde_json::from_str(text) {
            Ok(stack) => stack,
            Err(error) => {
                troubles.push(Trouble::new(
                    format!("stack `{name}` cannot be read: {error}"),
                    format!("bastide deploy --name {name} compose.yaml"),
                ));
                continue;
            }
        };
        for (service, spec) in stack.services {
            let Some(digest) = spec.image.digest() else {
                troubles.push(Trouble::new(
                    format!(
                        "image `{}` of service `{name}_{service}` has no digest",
                        spec.image
                    ),
                    format!("bastide deploy --name {name} compose.yaml"),
                ));
                continue;
            };
            wishes.push(Wish {
                translation: TRANSLATION,
                stack: name.clone(),
                service,
                image: spec.image.at(registry(), digest),
                spec,
                dns: view.cluster.plan.dns,
                search: format!("{name}.{}.internal", view.cluster.name),
            });
        }
    }
    (wishes, troubles)
}

/// The registry that each node has on its loopback.
fn registry() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, ports::IMAGES))
}

#[cfg(test)]
mod tests;
