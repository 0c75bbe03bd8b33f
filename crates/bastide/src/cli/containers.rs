//! Arguments of what runs in containers.

use std::path::PathBuf;

use bastide_api::{NodeName, ServiceName, StackName};
use clap::Args;

use super::Format;

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

/// `bastide ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Only this stack
    pub stack: Option<StackName>,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

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
