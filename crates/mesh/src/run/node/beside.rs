//! What stands beside the WireGuard machine on the device's thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bastide_api::NodeId;
use bastide_api::v1::PathKind;
use tokio::sync::watch;

use super::keep::LastGood;
use crate::core::path::{Node, Note, PeerRecord, Take};
use crate::core::wireguard::{Event, Machine, Transmit};
use crate::run::device::{Action, Companion};

/// What leaves the device's thread without being asked for.
pub struct Outputs {
    /// Where this node may be reached.
    pub endpoints: watch::Sender<Vec<SocketAddr>>,
    last_good: Mutex<LastGood>,
}

impl Outputs {
    /// Begins with what was kept.
    pub fn new(endpoints: Vec<SocketAddr>, last_good: LastGood) -> Self {
        Self {
            endpoints: watch::Sender::new(endpoints),
            last_good: Mutex::new(last_good),
        }
    }

    /// Returns where peers were last reached directly.
    pub fn last_good(&self) -> BTreeMap<NodeId, SocketAddr> {
        self.lock().addresses().clone()
    }

    /// Forgets those that are no peers any more.
    pub fn retain(&self, peers: &[PeerRecord]) {
        self.lock()
            .retain(|node| peers.iter().any(|peer| peer.node == node));
    }

    /// Writes to disk what has changed since.
    pub fn save(&self) {
        let pending = self.lock().pending();
        if let Some(pending) = pending {
            pending.write();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LastGood> {
        self.last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The companion of a node's device.
pub struct Beside {
    /// Path finder and relay.
    pub node: Node,
    outputs: Arc<Outputs>,
}

impl Beside {
    /// Puts `node` beside a machine.
    pub fn new(node: Node, outputs: Arc<Outputs>) -> Self {
        Self { node, outputs }
    }

    fn tell(&mut self) {
        while let Some(note) = self.node.poll_note() {
            match note {
                Note::Path { peer, kind } => {
                    match kind {
                        PathKind::None => tracing::info!(%peer, "path lost"),
                        PathKind::Direct { to } => {
                            tracing::info!(%peer, "path is direct");
                            tracing::debug!(%peer, %to, "path selected");
                        }
                        PathKind::Relayed { via } => tracing::info!(%peer, %via, "path is relayed"),
                    }
                    if let PathKind::Direct { to } = kind {
                        self.outputs.lock().put(peer, to);
                    }
                }
                Note::Endpoints => {
                    let endpoints = self.node.finder().endpoints().to_vec();
                    self.outputs.endpoints.send_replace(endpoints);
                }
            }
        }
    }
}

impl Companion for Beside {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) -> Action {
        match self.node.handle_datagram(now, from, datagram) {
            Take::Done => Action::Done,
            Take::Forward(to) => Action::Forward(to),
        }
    }

    fn handle_event(&mut self, now: Instant, event: &Event) {
        self.node.handle_event(now, event);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
    }

    fn direct(&mut self, now: Instant, machine: &mut Machine) {
        self.node.direct(now, machine);
        self.tell();
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.node.poll_transmit()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.node.poll_timeout()
    }
}
