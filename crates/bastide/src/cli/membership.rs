//! Arguments of how this host begins, joins, unseals and leaves a cluster.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bastide_api::{ClusterName, NodeName, SiteName};
use clap::Args;
use ipnet::Ipv4Net;

use super::Format;

/// What describes this node to the cluster.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// This node's name [default: the host name]
    #[arg(long)]
    pub name: Option<NodeName>,
    /// Where this node stands
    #[arg(long, default_value = "default")]
    pub site: SiteName,
    /// An address, or address and port, under which the world reaches this node's mesh port
    /// (repeatable); such a node relays for others
    #[arg(long, value_parser = public_address)]
    pub public: Vec<SocketAddr>,
    /// A subnet behind this node that others may reach through it (repeatable; an operator
    /// approves it)
    #[arg(long)]
    pub route: Vec<Ipv4Net>,
    /// The container engine's socket
    #[arg(long, default_value = "/var/run/docker.sock")]
    pub engine: PathBuf,
    /// Stay in the foreground instead of installing units for systemd
    #[arg(long)]
    pub foreground: bool,
}

/// `bastide up`
#[derive(Debug, Args)]
pub struct Up {
    /// What describes this node
    #[command(flatten)]
    pub node: NodeArgs,
    /// The cluster's name: services are found below `<name>.internal`
    #[arg(long, default_value = "home")]
    pub cluster: ClusterName,
    /// Mesh address range, fixed for the cluster's life
    #[arg(long)]
    pub mesh: Option<Ipv4Net>,
    /// Container address range, a /24 per node, fixed for the cluster's life
    #[arg(long)]
    pub containers: Option<Ipv4Net>,
    /// Range for networks that Swarm makes itself, fixed for the cluster's life
    #[arg(long)]
    pub swarm_pool: Option<Ipv4Net>,
    /// Range of Swarm's bridge on each node, fixed for the cluster's life
    #[arg(long)]
    pub swarm_gateway: Option<Ipv4Net>,
    /// MTU of mesh and containers, 1280 to 1420, fixed for the cluster's life
    #[arg(long)]
    pub mtu: Option<u16>,
    /// Swarm's heartbeat in milliseconds: a node counts as down after three missed ones
    #[arg(long, default_value_t = 5000)]
    pub swarm_heartbeat_ms: u64,
    /// How long a returned node must be stable before services are spread over it again
    #[arg(long, default_value_t = 600)]
    pub rebalance_after_s: u64,
}

/// `bastide init`
#[derive(Debug, Args)]
pub struct Init {
    /// What describes the cluster and this node
    #[command(flatten)]
    pub up: Up,
    /// How many shares to make, one for each person
    #[arg(long, default_value_t = 5)]
    pub shares: u8,
    /// How many of them open the control plane
    #[arg(long, default_value_t = 3)]
    pub threshold: u8,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

/// `bastide unseal`
#[derive(Debug, Args)]
pub struct Unseal {
    /// Forget the shares that were given so far
    #[arg(long)]
    pub reset: bool,
}

/// `bastide join`
#[derive(Debug, Args)]
pub struct Join {
    /// The ticket, or `-` to read it from standard input
    pub ticket: String,
    /// What describes this node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `bastide down`
#[derive(Debug, Args)]
pub struct Down {
    /// Also delete this machine's keys and state: it needs a new ticket to return
    #[arg(long)]
    pub forget: bool,
    /// The container engine's socket, where the journal does not name it
    #[arg(long, default_value = "/var/run/docker.sock")]
    pub engine: PathBuf,
}

fn public_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is neither IP nor IP:PORT"))?;
    Ok(SocketAddr::new(ip, bastide_api::ports::MESH))
}
