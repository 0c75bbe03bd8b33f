//! Arguments of logging in to nodes.

use clap::{Args, Subcommand};

use super::At;

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
