//! The mesh of a node: one device, and beside it the path finder and the relay.

mod beside;
mod keep;
mod network;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bastide_api::paths::{NatMapping, NotDirect, PathEvent, PathStory};
use bastide_api::v1::PathFact;
use bastide_api::{DiscoveryKey, NodeId, Secret, WireGuardKey};
use bastide_linux::netlink::NetlinkError;
use bastide_linux::{clock, file};
use ipnet::Ipv4Net;
use tokio::sync::watch;

use super::device::{
    After, Bind, Counters, Device, DeviceError, DeviceOptions, Ended, Handle, SystemEntropy,
};
use crate::core::path::{Exclude, FinderOptions, Node, NodeOptions, PeerRecord};
use crate::core::relay::{Quota, RelayStatus};
use crate::core::wireguard::Roaming;

use beside::{Beside, Outputs};
use network::Network;

/// What a node's mesh starts from.
pub struct MeshConfig {
    /// Name of the TUN interface, which is made, down and without address, or taken up as it is. It
    /// stays when the mesh ends.
    pub interface: String,
    /// UDP port for everything of the mesh; 0 lets the kernel choose.
    pub port: u16,
    /// The node's WireGuard key.
    pub private_key: Secret<[u8; 32]>,
    /// The node's discovery key.
    pub discovery_key: Secret<[u8; 32]>,
    /// The node's id.
    pub node: NodeId,
    /// MTU of the interface, bytes.
    pub mtu: u16,
    /// Folder for what must survive a restart: made if missing, for its owner alone.
    pub state: PathBuf,
    /// Addresses under which the world reaches the port, as the operator declared them.
    pub public: Vec<SocketAddr>,
    /// Ranges that are never an underlay: those of mesh and containers.
    pub exclude: Vec<Ipv4Net>,
}

/// A peer, as the view and the peers' reports tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Its id.
    pub node: NodeId,
    /// Its WireGuard key.
    pub wireguard: WireGuardKey,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<Ipv4Net>,
    /// Where its mesh port may be reached, best first; more than 16 are not looked at.
    pub candidates: Vec<SocketAddr>,
    /// Whether its operator declared it reachable from everywhere.
    pub relay: bool,
}

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct PeerReport {
    /// How it is reached.
    pub path: PathFact,
    /// Why not directly; `None` if it is.
    pub why: Option<NotDirect>,
    /// Bytes of authenticated messages from it.
    pub received_bytes: u64,
    /// Bytes of messages to it.
    pub sent_bytes: u64,
    /// When the last handshake was completed.
    pub last_handshake: Option<Instant>,
}

/// What is known of the mesh.
#[derive(Debug, Clone)]
pub struct MeshReport {
    /// The peers.
    pub peers: BTreeMap<NodeId, PeerReport>,
    /// What this node's NAT does.
    pub nat: NatMapping,
    /// What this node has relayed for others.
    pub relay: RelayStatus,
    /// What the device has counted.
    pub counters: Counters,
}

/// Why the mesh could not be started.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device's thread ended at once.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The host's addresses cannot be watched.
    #[error("could not watch the host's addresses")]
    Network(#[from] NetlinkError),
    /// The folder.
    #[error("could not {operation} `{}`", path.display())]
    State {
        /// What was tried, in the imperative.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
}

/// A node's mesh. Dropping it ends it; the interface stays.
pub struct Mesh {
    handle: Handle<Beside>,
    outputs: Arc<Outputs>,
    network: Network,
    device: Mutex<Option<Device<Beside>>>,
}

impl Mesh {
    /// Makes the interface, binds the port and starts the mesh's two threads, all in the calling
    /// thread's network namespace.
    pub async fn start(config: MeshConfig) -> Result<Self, MeshError> {
        let state = &config.state;
        file::create_private_dir(state).map_err(|source| MeshError::State {
            operation: "make",
            path: state.clone(),
            source,
        })?;
        let first_stamp = keep::first_stamp(&state.join("discovery-stamp"), clock::wall())?;
        let last_good = keep::LastGood::open(state.join("last-good"))?;
        let options = NodeOptions {
            finder: FinderOptions {
                node: config.node,
                discovery_key: config.discovery_key,
                first_stamp,
                public: config.public,
                exclude: Exclude(config.exclude),
                mtu: config.mtu,
            },
            quota: Quota::default(),
        };
        let node = Node::new(Instant::now(), options, Box::new(SystemEntropy));
        let outputs = Arc::new(Outputs::new(node.finder().endpoints().to_vec(), last_good));
        let device = Device::start(
            DeviceOptions {
                interface: config.interface,
                port: config.port,
                mtu: Some(config.mtu),
                roaming: Roaming::Off,
                bind: Bind::Always,
                floor: Some(state.join("handshake-stamp")),
                after: After::Kept,
            },
            Beside::new(node, Arc::clone(&outputs)),
        )?;
        let handle = device.handle();
        let key = config.private_key;
        handle
            .ask(move |parts| parts.machine.set_private_key(parts.now, Some(key)))
            .await?;
        let name = device.interface().to_owned();
        let network = Network::start(name, handle.clone(), Arc::clone(&outputs))?;
        Ok(Self {
            handle,
            outputs,
            network,
            device: Mutex::new(Some(device)),
        })
    }

    /// Makes the peers exactly these. May be called as often as anything changes; what is known of
    /// peers that stay is kept.
    pub fn set_peers(&self, peers: Vec<PeerSpec>) {
        let last_good = self.outputs.last_good();
        let record = |peer: PeerSpec| PeerRecord {
            last_good: last_good.get(&peer.node).copied(),
            node: peer.node,
            wireguard: peer.wireguard,
            discovery: peer.discovery,
            allowed: peer.allowed,
            candidates: peer.candidates,
            is_public: peer.relay,
        };
        let records: Vec<PeerRecord> = peers.into_iter().map(record).collect();
        self.outputs.retain(&records);
        let set = self.handle.call(move |parts| {
            let (now, node) = (parts.now, &mut parts.companion.node);
            node.set_peers(now, parts.machine, &records);
        });
        if set.is_err() {
            tracing::error!("the mesh device has ended");
        }
    }

    /// Returns how each peer is reached; nothing once the device has ended.
    pub fn paths(&self) -> BTreeMap<NodeId, PathFact> {
        let paths = self.handle.call(|parts| parts.companion.node.paths());
        paths.unwrap_or_default()
    }

    /// Returns what happened lately to the paths, oldest first; nothing once the device has ended.
    pub fn events(&self) -> BTreeMap<NodeId, Vec<PathEvent>> {
        let events = self
            .handle
            .call(|parts| parts.companion.node.finder().events(parts.now));
        events.unwrap_or_default()
    }

    /// Tells all that is known of the path to a peer; `None` if it is unknown.
    pub fn story(&self, peer: NodeId) -> Option<PathStory> {
        let story = self
            .handle
            .call(move |parts| parts.companion.node.finder().story(parts.now, peer));
        story.ok().flatten()
    }

    /// Returns where this node's port may be reached, best first, to be published to its peers.
    pub fn endpoints(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.outputs.endpoints.subscribe()
    }

    /// Something about the host's network changed: looks at its addresses and probes its paths now.
    /// Changes of addresses are noticed without this.
    pub fn network_changed(&self) {
        self.network.look();
    }

    /// Returns what is known of the mesh, or nothing once the device has ended.
    pub fn report(&self) -> Option<MeshReport> {
        let report = self.handle.call(|parts| {
            let node = &parts.companion.node;
            let paths = node.paths();
            let peers = paths.into_iter().filter_map(|(id, path)| {
                let status = parts.machine.peer(&node.key(id)?)?;
                let report = PeerReport {
                    path,
                    why: node.finder().why(id),
                    received_bytes: status.received_bytes,
                    sent_bytes: status.sent_bytes,
                    last_handshake: status.last_handshake,
                };
                Some((id, report))
            });
            MeshReport {
                peers: peers.collect(),
                nat: node.finder().nat_mapping(),
                relay: node.relay().status(),
                counters: *parts.counters,
            }
        });
        report.ok()
    }

    /// Ends the mesh's threads. Cancel safe: what was begun is finished.
    pub async fn stop(&self) {
        self.network.stop();
        let device = self
            .device
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(device) = device {
            let ended = tokio::task::spawn_blocking(move || device.stop()).await;
            if let Err(error) = ended {
                tracing::error!(%error, "the mesh device did not end as told");
            }
        }
    }
}
