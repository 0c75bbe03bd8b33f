//! The arguments.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bastide_api::{ClusterName, NodeName, ServiceName, SiteName, StackName, Tag, TicketId};
use bastide_control::core::config::Compat;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;

use crate::verbs::standalone;

mod people;

pub use people::*;

/// Turns Linux machines anywhere into one secured container cluster.
#[derive(Debug, Parser)]
#[command(name = "bastide", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Begin a cluster on this machine, or start it again; prints a ticket for the next machine
    Up(Up),
    /// Begin a cluster whose control plane is sealed by shares, and print them; `up` starts it
    Init(Init),
    /// Give shares, from standard input, to a sealed control plane
    Unseal(Unseal),
    /// Seal the control plane of this host until enough shares are given
    Seal,
    /// Join a cluster with a ticket
    Join(Join),
    /// Show nodes, paths, services, what is wrong and what to type
    Status(Format),
    /// Deploy a compose file
    Deploy(Deploy),
    /// List the containers of all nodes
    Ps(Ps),
    /// Show what the containers of a service wrote, on all nodes
    Logs(Logs),
    /// Run a command in a container of a service, on whatever node it runs
    Exec(Exec),
    /// Log in to a node, with a certificate or a one-time password; set nodes up for it
    Ssh(Ssh),
    /// Print a ticket, with which machines can join; list and revoke tickets
    Ticket(TicketArgs),
    /// Show, rename or remove nodes; let machines in that wait; approve gateways
    #[command(subcommand)]
    Node(NodeVerb),
    /// Have all nodes follow a store that was put back from a backup, though they know a later state
    AcceptRestored,
    /// Explain the mesh
    #[command(subcommand)]
    Mesh(MeshVerb),
    /// Rebuild the Swarm below the cluster
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Leave the cluster and undo every change made to this machine
    Down(Down),
    /// Log in, and keep the token for the verbs below
    Login(Login),
    /// Read and write secrets
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Show, write and try policies
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Make, list and remove people who log in with a password
    #[command(subcommand)]
    User(UserVerb),
    /// List, renew and revoke leases
    #[command(subcommand)]
    Lease(LeaseVerb),
    /// Make, look up, renew and revoke tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Read the audit log, search it, and verify that nobody changed it
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Print what makes a shell complete verbs, options and paths of secrets
    Completions(Completions),
    /// Print how a line goes on
    #[command(hide = true)]
    Complete(Complete),
    /// Check this machine layer by layer, and say what mends what is wrong
    Doctor(Format),
    /// Virtual networks on this machine
    #[command(subcommand)]
    Lab(LabVerb),
    /// Three sites, one secured cluster, on this one machine, with proof
    Demo(Demo),
    /// Run the control plane
    Server(Server),
    /// Run the agent of this host (started by `up` and `join`)
    Agent(Agent),
    /// Run a WireGuard interface alone, as wireguard-go does
    Wg(Wg),
    /// Who may log in as a user, for `sshd`
    #[command(hide = true)]
    SshPrincipals {
        /// This node's id
        node: String,
        /// The user
        user: String,
    },
    /// Whether a one-time password is good, for PAM
    #[command(hide = true)]
    SshPam,
    /// Parts of a lab that start themselves
    #[command(hide = true, subcommand)]
    LabPart(LabPart),
}

impl Verb {
    /// Returns what is logged when `RUST_LOG` says nothing: daemons tell their state, tools only
    /// trouble.
    pub fn log_default(&self) -> &'static str {
        match self {
            Self::Server(server) => standalone::log_level(&server.config).unwrap_or("info"),
            Self::Agent(_) => "info",
            _ => "warn",
        }
    }
}

/// How to print.
#[derive(Debug, Args)]
pub struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

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

fn public_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is neither IP nor IP:PORT"))?;
    Ok(SocketAddr::new(ip, bastide_api::ports::MESH))
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

/// `bastide deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The compose file
    pub file: PathBuf,
    /// The stack's name [default: the compose file's `name`, else its folder's name]
    #[arg(long)]
    pub name: Option<StackName>,
    /// Return once the stack is stored, without waiting for its containers
    #[arg(long)]
    pub detach: bool,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

/// `bastide logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Stack and service: `shop/web`
    #[arg(value_parser = stack_and_service)]
    pub service: (StackName, ServiceName),
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines of the past, of each container, or `all`
    #[arg(long, default_value = "100", value_parser = tail)]
    pub tail: Tail,
    /// Only the containers of this node
    #[arg(long)]
    pub node: Option<NodeName>,
}

/// How many lines of the past; none: all.
#[derive(Debug, Clone, Copy)]
pub struct Tail(pub Option<u32>);

fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let lines = text.parse();
    lines
        .map(|lines| Tail(Some(lines)))
        .map_err(|_| format!("`{text}` is neither a number of lines nor `all`"))
}

fn stack_and_service(text: &str) -> Result<(StackName, ServiceName), String> {
    let (stack, service) = text
        .split_once('/')
        .ok_or_else(|| format!("`{text}` is not STACK/SERVICE: see `bastide ps`"))?;
    let stack = stack.parse().map_err(|error| format!("{error}"))?;
    let service = service.parse().map_err(|error| format!("{error}"))?;
    Ok((stack, service))
}

/// `bastide exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Stack and service: `shop/web`
    #[arg(value_parser = stack_and_service)]
    pub service: (StackName, ServiceName),
    /// In the container on this node [default: this one, else the first that has one]
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Pass standard input on to the command
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `bastide ssh`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Ssh {
    /// What to do for `sshd` [default: log in]
    #[command(subcommand)]
    pub verb: Option<SshVerb>,
    /// Where to, and how
    #[command(flatten)]
    pub connect: SshConnect,
}

/// Where to log in, and how.
#[derive(Debug, Args)]
pub struct SshConnect {
    /// A node's name or id, and the user there: `root@boreas` [default user: yours here]
    pub destination: Option<String>,
    /// With a one-time password, though a certificate may be had
    #[arg(long)]
    pub otp: bool,
    /// The role that gives the credential [default: `login`, for one-time passwords `otp`]
    #[arg(long)]
    pub role: Option<String>,
    /// Which server
    #[command(flatten)]
    pub at: At,
    /// A command to run there, and its arguments [default: a shell]
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// `bastide ssh …`
#[derive(Debug, Subcommand)]
pub enum SshVerb {
    /// Make the cluster's authority for SSH, and a role for each way in (on a controller, once)
    Enable,
    /// Have this host's sshd let people in by certificates of the cluster
    Setup(SshSetup),
    /// Have this host's sshd be as it was before `setup`
    Teardown,
}

/// `bastide ssh setup`
#[derive(Debug, Args)]
pub struct SshSetup {
    /// By one-time passwords too; other passwords are not taken over SSH any more
    #[arg(long)]
    pub otp: bool,
}

/// `bastide ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Only this stack
    pub stack: Option<StackName>,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

/// `bastide ticket`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TicketArgs {
    /// What to do with tickets [default: print a new one]
    #[command(subcommand)]
    pub verb: Option<TicketVerb>,
    /// What the new ticket is good for
    #[command(flatten)]
    pub new: NewTicket,
}

/// What a new ticket is good for.
#[derive(Debug, Args)]
pub struct NewTicket {
    /// How many machines may join with it
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// For how long, such as 90s, 30m, 2h or 7d
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub life: Duration,
    /// For how long, in minutes
    #[arg(long, hide = true, conflicts_with = "life")]
    pub minutes: Option<u32>,
    /// A tag that the nodes get (repeatable)
    #[arg(long = "tag")]
    pub tags: Vec<Tag>,
    /// Let each machine wait until an operator lets it in with `bastide node admit`
    #[arg(long)]
    pub approve: bool,
    /// The only name that the node may have
    #[arg(long)]
    pub name: Option<NodeName>,
    /// The only site that it may stand at
    #[arg(long)]
    pub site: Option<SiteName>,
}

/// `bastide ticket …`
#[derive(Debug, Subcommand)]
pub enum TicketVerb {
    /// List tickets, and what is left of them
    List(Format),
    /// Make a ticket good for nothing more; nodes that it made stay
    Revoke {
        /// The ticket's id, as `bastide ticket list` shows it
        id: TicketId,
    },
}

/// Parses `90s`, `30m`, `2h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: expected such as 90s, 30m, 2h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let secs = number.checked_mul(secs).ok_or_else(wrong)?;
    Ok(Duration::from_secs(secs))
}

/// `bastide node`
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Show all that is known of a node
    Show {
        /// The node's name or id
        node: String,
        /// How to print
        #[command(flatten)]
        format: Format,
    },
    /// Take a node out of the cluster for good
    #[command(visible_alias = "rm")]
    Remove {
        /// The node's name or id
        node: String,
    },
    /// Give a node another name
    Rename {
        /// The node's name or id
        node: String,
        /// Its new name
        name: NodeName,
    },
    /// List machines that wait to be let in
    Pending(Format),
    /// Let a machine in that waits
    Admit {
        /// The name that it asked for, or its id
        node: String,
        /// Let it in under this name
        #[arg(long)]
        name: Option<NodeName>,
    },
    /// Refuse a machine that waits
    Refuse {
        /// The name that it asked for, or its id
        node: String,
    },
    /// Approve a node as the gateway for subnets (none: withdraw)
    Approve {
        /// The node's name or id
        node: String,
        /// The subnets
        routes: Vec<Ipv4Net>,
    },
}

/// `bastide mesh`
#[derive(Debug, Subcommand)]
pub enum MeshVerb {
    /// Tell how one node reaches another, and why so: what was tried, what answered, what happened
    Why {
        /// Where the path begins: a node's name or id; all is known only on that node itself
        from: String,
        /// Where it leads: a node's name or id
        to: String,
        /// How to print
        #[command(flatten)]
        format: Format,
    },
}

/// `bastide cluster`
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Make a Swarm whole that lost its managers or their state, from what is deployed; shows first
    /// what that does
    Rebuild(Rebuild),
}

/// `bastide cluster rebuild`
#[derive(Debug, Args)]
pub struct Rebuild {
    /// Do it
    #[arg(long)]
    pub yes: bool,
    /// Begin a new Swarm even where the old one could be kept
    #[arg(long)]
    pub anew: bool,
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

/// `bastide lab`
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Bring the network of a file up
    Up {
        /// The lab's file
        file: PathBuf,
    },
    /// Run a command in a node
    Exec {
        /// The lab's file
        file: PathBuf,
        /// The node
        node: String,
        /// The command
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Cut a link
    Cut {
        /// The lab's file
        file: PathBuf,
        /// The link: `node/interface`
        link: String,
    },
    /// Heal a link
    Heal {
        /// The lab's file
        file: PathBuf,
        /// The link: `node/interface`
        link: String,
    },
    /// Let a node drop packets that it forwards or sends, as bad networks do, instead of those that it
    /// dropped before; without options it drops nothing any more
    Fault {
        /// The lab's file
        file: PathBuf,
        /// The node, a router for example
        node: String,
        /// Drop IP packets longer than so many bytes
        #[arg(long)]
        longer_than: Option<u16>,
        /// Drop so many of a hundred, at random
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
        lose: Option<u8>,
        /// Only those to this address: one way
        #[arg(long)]
        to: Option<IpAddr>,
    },
    /// Show the nodes of a lab
    Status {
        /// The lab's file
        file: PathBuf,
        /// How to print
        #[command(flatten)]
        format: Format,
    },
    /// Take the network down
    Down {
        /// The lab's file
        file: PathBuf,
    },
}

/// `bastide demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave everything running, and print the commands to look around in it
    #[arg(long)]
    pub keep: bool,
    /// The static program of `examples/hello` (built by `cargo xtask demo`)
    #[arg(long)]
    pub hello: PathBuf,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

/// `bastide server`
#[derive(Debug, Args)]
pub struct Server {
    /// Run in memory, unsealed, over plain HTTP, with the root token printed: for trying things out
    #[arg(long)]
    pub dev: bool,
    /// Where the development server listens
    #[arg(long, requires = "dev", default_value = "127.0.0.1:8200")]
    pub listen: SocketAddr,
    /// The development server's root token [default: drawn at random]
    #[arg(long, requires = "dev")]
    pub root_token: Option<String>,
    /// The server's own folder
    #[arg(long, default_value = crate::paths::SERVER)]
    pub state: PathBuf,
    /// Serve the API alone, as these files (HCL or JSON, in Vault's words; a folder: all in it) say
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dev", "bootstrap", "handover"])]
    pub config: Vec<PathBuf>,
    /// Whose defaults hold where the configuration does not say
    #[arg(skip)]
    pub compat: Option<Compat>,
    /// Begin a cluster with what standard input says, print what follows from it, and end
    #[arg(long, hide = true)]
    pub bootstrap: bool,
    /// Read the seal's key from standard input
    #[arg(long, hide = true)]
    pub handover: bool,
    /// End with this process, which started this one
    #[arg(long, hide = true)]
    pub attached: Option<u32>,
}

/// `bastide agent`
#[derive(Debug, Args)]
pub struct Agent {
    /// The agent's own folder
    #[arg(long, default_value = crate::paths::AGENT)]
    pub state: PathBuf,
    /// Read ticket and description of this node, if it has not joined yet, from standard input
    #[arg(long, hide = true)]
    pub handover: bool,
    /// End with this process, which started this one
    #[arg(long, hide = true)]
    pub attached: Option<u32>,
}

/// `bastide wg`
#[derive(Debug, Args)]
pub struct Wg {
    /// The interface's name
    pub interface: String,
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Started anew to be the background process
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub background: bool,
}

/// The hidden parts of a lab.
#[derive(Debug, Subcommand)]
pub enum LabPart {
    /// The supervisor of a lab
    Supervisor {
        /// Arguments of its own
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The first process of a lab's host
    Init {
        /// Arguments of its own
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}
