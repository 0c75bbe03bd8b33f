//! What is merely observed: in memory, neither logged nor audited, gone with the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use bastide_api::v1::NodeFacts;
use bastide_api::{NodeId, UnixTime};

/// Most nodes whose reports are kept.
pub const NODES_MAX: usize = 4096;

/// A node's last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// When it came.
    pub at: UnixTime,
    /// What it said.
    pub facts: NodeFacts,
}

/// One thing observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A node's report replaces its earlier one.
    Node(NodeId, NodeFacts),
    /// A node is no member any more.
    NodeGone(NodeId),
}

/// All that is observed now. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The nodes' reports.
    pub nodes: BTreeMap<NodeId, Arc<NodeReport>>,
}

impl Facts {
    /// Takes in one observation; a report beyond [`NODES_MAX`] nodes is dropped.
    pub fn apply(&mut self, now: UnixTime, observation: Observation) {
        match observation {
            Observation::Node(node, facts) => {
                if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node) {
                    let report = NodeReport { at: now, facts };
                    self.nodes.insert(node, Arc::new(report));
                }
            }
            Observation::NodeGone(node) => {
                self.nodes.remove(&node);
            }
        }
    }
}
