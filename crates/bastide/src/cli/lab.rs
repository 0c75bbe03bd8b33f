//! Arguments of virtual networks on this machine.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

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
