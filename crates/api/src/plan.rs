//! Addresses and ports that a cluster fixes when it begins.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Ports, fixed for every cluster.
pub mod ports {
    /// UDP, facing the world: everything of the mesh.
    pub const MESH: u16 = 51820;
    /// TCP, facing the world: join, renew, watch.
    pub const CHANNEL: u16 = 7443;
    /// TCP on mesh and loopback: the Vault API.
    pub const API: u16 = 8200;
    /// TCP on loopback for the engine and on the mesh for peers: images.
    pub const IMAGES: u16 = 5443;
    /// TCP on the mesh only: sessions with containers, for who has a grant.
    pub const SESSIONS: u16 = 5444;
    /// UDP and TCP on the anycast address: names.
    pub const DNS: u16 = 53;
    /// TCP on the mesh only: Swarm's managers.
    pub const SWARM_MANAGER: u16 = 2377;
    /// TCP and UDP on the mesh only: Swarm's gossip.
    pub const SWARM_GOSSIP: u16 = 7946;
    /// UDP: Swarm's VXLAN, dropped everywhere.
    pub const SWARM_VXLAN: u16 = 4789;
}

/// The address plan of a cluster: set at `up`, then fixed for the cluster's life.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressPlan {
    /// One /32 per node.
    pub mesh: Ipv4Net,
    /// One /24 per node.
    pub containers: Ipv4Net,
    /// Swarm's default address pool.
    pub swarm_pool: Ipv4Net,
    /// Swarm's gateway bridge.
    pub swarm_gateway: Ipv4Net,
    /// The resolver's address, the same on every node; inside `mesh`, never given to a node.
    pub dns: Ipv4Addr,
    /// MTU of mesh device and container bridge, in bytes: 1280 to 1420.
    pub mtu: u16,
}

impl Default for AddressPlan {
    fn default() -> Self {
        let net = |a, b, c, d, bits| {
            Ipv4Net::new(Ipv4Addr::new(a, b, c, d), bits).expect("prefix lengths here are below 33")
        };
        Self {
            mesh: net(100, 72, 0, 0, 16),
            containers: net(10, 128, 0, 0, 12),
            swarm_pool: net(10, 144, 0, 0, 16),
            swarm_gateway: net(10, 145, 0, 0, 24),
            dns: Ipv4Addr::new(100, 72, 0, 53),
            mtu: 1420,
        }
    }
}

/// Why an address plan cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two ranges share addresses.
    #[error("address ranges `{0}` and `{1}` overlap")]
    Overlap(Ipv4Net, Ipv4Net),
    /// The resolver's address is not inside the mesh range.
    #[error("DNS address `{dns}` lies outside the mesh range `{mesh}`")]
    DnsOutside {
        /// The address given.
        dns: Ipv4Addr,
        /// The mesh range.
        mesh: Ipv4Net,
    },
    /// The MTU is out of range.
    #[error("MTU {0} is not between 1280 and 1420")]
    Mtu(u16),
    /// A range has no room for a node.
    #[error("address range `{0}` is too small: the mesh needs a /29 and containers a /23 at least")]
    TooSmall(Ipv4Net),
}

impl AddressPlan {
    /// Checks that the ranges hold at least some nodes, do not overlap and that the rest fits them.
    pub fn check(&self) -> Result<(), PlanError> {
        let nets = [
            self.mesh,
            self.containers,
            self.swarm_pool,
            self.swarm_gateway,
        ];
        for (at, one) in nets.iter().enumerate() {
            for other in &nets[at + 1..] {
                if one.contains(other) || other.contains(one) {
                    return Err(PlanError::Overlap(*one, *other));
                }
            }
        }
        if self.mesh.prefix_len() > 29 {
            return Err(PlanError::TooSmall(self.mesh));
        }
        if self.containers.prefix_len() > 23 {
            return Err(PlanError::TooSmall(self.containers));
        }
        if !self.mesh.contains(&self.dns) {
            return Err(PlanError::DnsOutside {
                dns: self.dns,
                mesh: self.mesh,
            });
        }
        if !(1280..=1420).contains(&self.mtu) {
            return Err(PlanError::Mtu(self.mtu));
        }
        Ok(())
    }

    /// Returns how many nodes the plan has room for.
    pub fn nodes_max(&self) -> u32 {
        let mesh = (1_u32 << (32 - self.mesh.prefix_len())) - 3;
        mesh.min(1_u32 << (24 - self.containers.prefix_len()))
    }

    /// Returns the mesh address and container subnet of slot `slot`; slots count from 0 and skip the
    /// network's own, the resolver's and the broadcast address. `None` past [`Self::nodes_max`].
    pub fn slot(&self, slot: u32) -> Option<(Ipv4Addr, Ipv4Net)> {
        if self.nodes_max() <= slot {
            return None;
        }
        let base = u32::from(self.mesh.network());
        let mut address = base + 1 + slot;
        if u32::from(self.dns) <= address && base < u32::from(self.dns) {
            address += 1;
        }
        let containers = u32::from(self.containers.network()) + (slot << 8);
        let subnet = Ipv4Net::new(containers.into(), 24).expect("24 is a prefix length");
        Some((address.into(), subnet))
    }
}

#[cfg(test)]
mod tests;
