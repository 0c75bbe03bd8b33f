//! The resolver, the container engine and its membership in the Swarm.

use std::net::SocketAddr;

use bastide_api::doctor::{Check, Layer};

/// What was seen of the resolver.
#[derive(Debug, Clone)]
pub struct NamesSeen {
    /// Where it answers.
    pub address: SocketAddr,
    /// The name that it was asked for: this node's own.
    pub name: String,
    /// Whether it knew it, or why not.
    pub answered: Result<(), String>,
}

/// What was seen of the container engine.
#[derive(Debug, Clone)]
pub struct EngineSeen {
    /// Its socket.
    pub socket: String,
    /// Its version, or why it does not answer.
    pub version: Result<String, String>,
    /// Its membership in the Swarm, or why that is not known.
    pub swarm: Result<SwarmSeen, String>,
    /// Whether our way through its packet filter is open; or why that is not known.
    pub way_open: Result<bool, String>,
}

/// How an engine is a member of a Swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwarmSeen {
    /// It is none.
    Inactive,
    /// It is one, from this address.
    Active(Option<std::net::Ipv4Addr>),
    /// It waits for a manager.
    Pending,
    /// It is in trouble, in the engine's words.
    Trouble(String),
}

/// Judges the resolver.
pub fn judge_names(seen: &NamesSeen) -> Vec<Check> {
    let (name, at) = (&seen.name, seen.address);
    vec![match &seen.answered {
        Ok(()) => Check::pass(Layer::Names, "resolver", format!("{at} knows `{name}`")),
        Err(why) => Check::fail(
            Layer::Names,
            "resolver",
            format!("{at} does not know `{name}`: {why}"),
            "systemctl restart bastide-agent, or by hand `bastide agent`",
        ),
    }]
}

/// Judges the engine; as a node's, it must be a member of the Swarm.
pub fn judge_engine(seen: &EngineSeen, is_node: bool) -> Vec<Check> {
    let layer = Layer::Engine;
    let socket = &seen.socket;
    let version = match &seen.version {
        Ok(version) => Check::pass(layer, "engine", format!("{version} answers at {socket}")),
        Err(why) => {
            return vec![Check::fail(
                layer,
                "engine",
                format!("it does not answer at {socket}: {why}"),
                "systemctl start docker (not installed: apt-get install docker.io)",
            )];
        }
    };
    let mut checks = vec![version];
    if is_node {
        checks.push(swarm(&seen.swarm));
        checks.push(way(&seen.way_open));
    }
    checks
}

fn swarm(seen: &Result<SwarmSeen, String>) -> Check {
    let (layer, name) = (Layer::Engine, "swarm");
    match seen {
        Err(why) => Check::skip(layer, name, why),
        Ok(SwarmSeen::Active(Some(address))) => {
            Check::pass(layer, name, format!("a member, from {address}"))
        }
        Ok(SwarmSeen::Active(None)) => Check::pass(layer, name, "a member"),
        Ok(SwarmSeen::Pending) => Check::fail(
            layer,
            name,
            "it waits for a manager that does not answer",
            "bastide status (on a controller); lost for good: bastide cluster rebuild",
        ),
        Ok(SwarmSeen::Inactive) => Check::fail(
            layer,
            name,
            "it is no member; the agent joins it once it reaches the control plane",
            "bastide status",
        ),
        Ok(SwarmSeen::Trouble(words)) => Check::fail(
            layer,
            name,
            format!("the engine says: {words}"),
            "bastide status; lost for good: bastide cluster rebuild (on a controller)",
        ),
    }
}

fn way(seen: &Result<bool, String>) -> Check {
    let (layer, name) = (Layer::Engine, "docker's filter");
    match seen {
        Ok(true) => Check::pass(layer, name, "lets through what our tables accepted"),
        Ok(false) => Check::fail(
            layer,
            name,
            "our rules in its chain DOCKER-USER are missing; the agent puts them back while it runs",
            "systemctl restart bastide-agent, or by hand `bastide agent`",
        ),
        Err(why) => Check::skip(layer, name, why),
    }
}
