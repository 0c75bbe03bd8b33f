//! What is merely observed: in memory, neither logged nor audited, gone with the process.

mod claims;
mod guesses;
pub mod lockouts;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bastide_api::v1::{Instance, NodeFacts};
use bastide_api::{NodeId, NodeName, TicketId, UnixTime};

use claims::Claim;
use guesses::Guesses;
use lockouts::{Lockouts, Who};

use crate::core::lockout::Rule;

/// Most nodes whose reports are kept.
pub const NODES_MAX: usize = 4096;
/// Most refused joins that are remembered, the last ones.
const REFUSED_JOINS_MAX: usize = 64;

/// A node's last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// When it came.
    pub at: UnixTime,
    /// What it said.
    pub facts: NodeFacts,
}

/// A machine that held a ticket's secret and was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedJoin {
    /// Which ticket.
    pub ticket: TicketId,
    /// The name that it wanted.
    pub name: NodeName,
    /// From where it came.
    pub from: Option<IpAddr>,
    /// Why, in the words of the audit record.
    pub why: &'static str,
}

/// One thing observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A node's report replaces its earlier one.
    Node(NodeId, NodeFacts),
    /// A node is no member any more.
    NodeGone(NodeId),
    /// A run of a node's agent was heard, from there.
    Heard(NodeId, Instance, Option<IpAddr>),
    /// A wrong secret came for a ticket, whether there is such a ticket or not.
    Guess(TicketId),
    /// A machine with a ticket was refused.
    JoinRefused(RefusedJoin),
    /// A wrong password came for a name, whether there is such a name or not; and what locks it.
    WrongPassword(Who, Rule),
    /// A right one came for a name, or an operator wants the wrong ones forgotten.
    Unlocked(Who),
}

impl Observation {
    /// Returns whether it is an observation of a refused request; all others hold only if the
    /// request was granted.
    pub fn outlives_refusal(&self) -> bool {
        match self {
            Self::Heard(..) | Self::Guess(_) | Self::JoinRefused(_) | Self::WrongPassword(..) => {
                true
            }
            Self::Node(..) | Self::NodeGone(_) | Self::Unlocked(_) => false,
        }
    }
}

/// All that is observed now. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The nodes' reports.
    pub nodes: BTreeMap<NodeId, Arc<NodeReport>>,
    /// Wrong secrets, by ticket.
    pub guesses: Guesses,
    /// Wrong passwords, by name.
    pub lockouts: Arc<Lockouts>,
    /// Machines that held a ticket's secret and were not let in, oldest first, and when.
    pub refused_joins: VecDeque<(UnixTime, RefusedJoin)>,
    /// Which run of its agent is each node.
    claims: BTreeMap<NodeId, Claim>,
}

impl Facts {
    /// Returns whether this run of an agent is the node whose keys it holds: not if another machine
    /// runs with them, which was there first.
    pub fn is_the_node(&self, now: UnixTime, node: NodeId, instance: &Instance) -> bool {
        let claim = self.claims.get(&node);
        claim.is_none_or(|claim| claim.would_accept(now, instance))
    }

    /// Takes in one observation; a report beyond [`NODES_MAX`] nodes is dropped.
    pub fn apply(&mut self, now: UnixTime, observation: Observation) {
        match observation {
            Observation::Node(node, mut facts) => {
                if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node) {
                    let claim = self.claims.get(&node);
                    facts.noted = claim
                        .and_then(|claim| claim.trouble(now))
                        .into_iter()
                        .collect();
                    let report = NodeReport { at: now, facts };
                    self.nodes.insert(node, Arc::new(report));
                }
            }
            Observation::NodeGone(node) => {
                self.nodes.remove(&node);
                self.claims.remove(&node);
            }
            Observation::Heard(node, instance, from) => {
                if let Some(claim) = self.claims.get_mut(&node) {
                    claim.hear(now, instance, from);
                } else if self.claims.len() < NODES_MAX {
                    self.claims.insert(node, Claim::new(now, instance, from));
                }
            }
            Observation::Guess(ticket) => self.guesses.wrong(now, ticket),
            Observation::WrongPassword(who, rule) => {
                Arc::make_mut(&mut self.lockouts).wrong(now, who, rule);
            }
            Observation::Unlocked(who) => Arc::make_mut(&mut self.lockouts).forget(&who),
            Observation::JoinRefused(refused) => {
                if REFUSED_JOINS_MAX <= self.refused_joins.len() {
                    self.refused_joins.pop_front();
                }
                self.refused_joins.push_back((now, refused));
            }
        }
    }
}
