//! The arguments.

use clap::{Args, Parser, Subcommand};

mod containers;
mod daemons;
mod lab;
mod membership;
mod nodes;
mod people;
mod ssh;

pub use containers::*;
pub use daemons::*;
pub use lab::*;
pub use membership::*;
pub use nodes::*;
pub use people::*;
pub use ssh::*;

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

/// How to print.
#[derive(Debug, Args)]
pub struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
