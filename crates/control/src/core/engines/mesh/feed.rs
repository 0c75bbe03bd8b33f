//! What watchers read: the signed view with its recent changes, and the nodes' reports.
//!
//! A watcher has a cursor and asks what came after it; nothing is kept for anybody. Whoever reads
//! slowly gets several changes of an entry as one, and after a long gap the whole map.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bastide_api::history::History;
use bastide_api::v1::WatchEvent;
use bastide_api::{ClusterId, ClusterRecord, NodeId, Revision, ViewEntries};
use bastide_pki::ViewSigner;

use crate::core::facts::{Facts, NodeReport};

/// Most changes that are remembered, and most bytes of them. A watcher behind that gets a snapshot.
const CHANGES_MAX: usize = 4096;
const CHANGES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The view and the reports, as they are told to watchers.
pub struct Feed {
    cluster: ClusterId,
    signer: ViewSigner,
    view: ViewEntries,
    signature: String,
    changes: VecDeque<Change>,
    changes_bytes: usize,
    /// Changes after this revision are remembered.
    floor: Revision,
    reports: BTreeMap<NodeId, Told>,
    /// Which report was told as the how manieth.
    order: BTreeMap<u64, NodeId>,
    told: u64,
}

struct Change {
    revision: Revision,
    key: String,
    value: Option<String>,
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, String::len)
    }
}

/// A node's report and its place in the order; `None` once it is gone.
struct Told {
    at: u64,
    report: Option<Arc<NodeReport>>,
}

/// How far a watcher has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    view: Option<Revision>,
    told: u64,
    /// Whether it has read before.
    has_read: bool,
}

impl Cursor {
    /// Begins after `from`, if the watcher has the view of that revision.
    pub fn after(from: Option<Revision>) -> Self {
        Self {
            view: from,
            told: 0,
            has_read: false,
        }
    }
}

impl Feed {
    /// Begins with a view.
    pub fn new(cluster: ClusterId, signer: ViewSigner, view: ViewEntries) -> Self {
        Self {
            cluster,
            signature: signer.sign(&view, cluster),
            signer,
            floor: view.revision,
            view,
            changes: VecDeque::new(),
            changes_bytes: 0,
            reports: BTreeMap::new(),
            order: BTreeMap::new(),
            told: 0,
        }
    }

    /// Takes in what one commit changed. A commit that changed nothing of the view is not noted.
    pub fn commit(&mut self, revision: Revision, changed: Vec<(String, Option<String>)>) {
        if revision <= self.view.revision || changed.is_empty() {
            return;
        }
        for (key, value) in changed {
            match &value {
                Some(text) => self.view.entries.insert(key.clone(), text.clone()),
                None => self.view.entries.remove(&key),
            };
            let change = Change {
                revision,
                key,
                value,
            };
            self.changes_bytes += change.bytes();
            self.changes.push_back(change);
        }
        self.view.revision = revision;
        self.forget_old();
        self.signature = self.signer.sign(&self.view, self.cluster);
    }

    /// Begins anew with a view, after a gap.
    pub fn replace(&mut self, view: ViewEntries) {
        self.changes.clear();
        self.changes_bytes = 0;
        self.floor = view.revision;
        self.signature = self.signer.sign(&view, self.cluster);
        self.view = view;
    }

    fn forget_old(&mut self) {
        while CHANGES_MAX < self.changes.len() || CHANGES_BYTES_MAX < self.changes_bytes {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.changes_bytes -= oldest.bytes();
            self.floor = oldest.revision;
        }
    }

    /// Takes in what is observed now. A report that says what the one before said is not told again.
    pub fn observe(&mut self, facts: &Facts) {
        for (node, report) in &facts.nodes {
            let known = self.reports.get(node).and_then(|told| told.report.as_ref());
            if known.is_none_or(|known| known.facts != report.facts) {
                self.tell(*node, Some(Arc::clone(report)));
            }
        }
        let gone: Vec<_> = self
            .reports
            .iter()
            .filter(|(node, told)| told.report.is_some() && !facts.nodes.contains_key(node))
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            self.tell(node, None);
        }
    }

    fn tell(&mut self, node: NodeId, report: Option<Arc<NodeReport>>) {
        self.told += 1;
        let at = self.told;
        if let Some(before) = self.reports.insert(node, Told { at, report }) {
            self.order.remove(&before.at);
        }
        self.order.insert(at, node);
        // That a node is gone is told to whoever watches now; it need not be known for ever.
        while crate::core::facts::NODES_MAX < self.order.len() {
            let oldest_gone = self
                .order
                .iter()
                .find(|(_, node)| self.reports[node].report.is_none());
            let Some((&at, &node)) = oldest_gone else {
                break;
            };
            self.order.remove(&at);
            self.reports.remove(&node);
        }
    }

    /// Returns what came after the cursor, and moves it. Empty if nothing did.
    pub fn read(&self, cursor: &mut Cursor) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        self.read_view(*cursor, &mut events);
        cursor.view = Some(self.view.revision);
        cursor.has_read = true;
        for (_, node) in self.order.range(cursor.told + 1..) {
            let report = self.reports[node].report.as_ref();
            if report.is_none() && cursor.told == 0 {
                continue;
            }
            events.push(WatchEvent::Fact {
                key: *node,
                value: report.map(|report| report.facts.clone()),
            });
        }
        cursor.told = self.told;
        events
    }

    fn read_view(&self, cursor: Cursor, events: &mut Vec<WatchEvent>) {
        let rev = self.view.revision;
        match cursor.view {
            Some(from) if from == rev && cursor.has_read => return,
            // Whoever begins with the newest view is told that it is that.
            Some(from) if from == rev => {}
            Some(from) if self.floor <= from && from < rev => self.read_changes(from, events),
            // From the beginning, after a gap, or from a future that this store never had.
            _ => events.push(WatchEvent::Snapshot {
                rev,
                value: self.view.entries.clone(),
            }),
        }
        events.push(WatchEvent::Sign {
            rev,
            value: self.signature.clone(),
        });
    }

    /// Tells the last change of each entry, in the order of revisions.
    fn read_changes(&self, from: Revision, events: &mut Vec<WatchEvent>) {
        let start = self
            .changes
            .partition_point(|change| change.revision <= from);
        let mut last = BTreeMap::new();
        for (at, change) in self.changes.iter().enumerate().skip(start) {
            last.insert(change.key.as_str(), at);
        }
        let mut places: Vec<_> = last.into_values().collect();
        places.sort_unstable();
        for at in places {
            let change = &self.changes[at];
            let (rev, key) = (change.revision, change.key.clone());
            events.push(match &change.value {
                Some(value) => WatchEvent::Put {
                    rev,
                    key,
                    value: value.clone(),
                },
                None => WatchEvent::Delete { rev, key },
            });
        }
    }

    /// Returns whether a node is a member now.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.view.entries.contains_key(&format!("nodes/{node}"))
    }

    /// Returns the cluster's record.
    pub fn cluster(&self) -> Option<ClusterRecord> {
        serde_json::from_str(self.view.entries.get("cluster")?).ok()
    }

    /// Returns whether the view's store was ever in the state after `revision`, while `run` was the
    /// last run of the control plane. `true` if that cannot be told.
    pub fn has_been(&self, revision: Revision, run: &str) -> bool {
        History::of(&self.view).is_none_or(|history| history.has_been(run, revision))
    }

    /// Returns the view's revision.
    pub fn revision(&self) -> Revision {
        self.view.revision
    }
}

#[cfg(test)]
mod tests;
