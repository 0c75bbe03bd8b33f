//! Arguments of what an operator does with nodes, their tickets, their mesh and their Swarm.

use std::time::Duration;

use bastide_api::{NodeName, SiteName, Tag, TicketId};
use clap::{Args, Subcommand};
use ipnet::Ipv4Net;

use super::Format;

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
