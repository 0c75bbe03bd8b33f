//! Arguments of what runs in the background.

use std::net::SocketAddr;
use std::path::PathBuf;

use bastide_control::core::config::Compat;
use clap::Args;

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
