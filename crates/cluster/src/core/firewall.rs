//! What may pass a host, as text for nftables, and what else the host needs for it.
//!
//! Two tables are ours alone and replaced as a whole in one transaction, so that there is no moment
//! without them. In nftables a drop in any table is final and an accept in one overrules no drop in
//! another: our tables say what may not pass, and because Docker's chain `FORWARD` drops what it does
//! not know, one jump in its chain `DOCKER-USER` lets through what we have already judged.
//!
//! ```text
//! container -> own anycast resolver, containers here and on other nodes; nothing else
//! mesh      -> from nodes: this host and its containers; from containers of others: containers
//! world     -> the host's own ports except Swarm's; a container only through a published port
//! ```

use std::fmt::Write;
use std::net::Ipv4Addr;

use bastide_api::{AddressPlan, NodeRecord, ports};
use ipnet::Ipv4Net;

use super::swarm::BRIDGE;

/// The name of our tables in the families `inet` and `bridge`.
pub const TABLE: &str = "bastide";
/// Our chain in Docker's filter table.
pub const CHAIN: &str = "BASTIDE";
/// Docker's chain for rules of users.
pub const DOCKER_CHAIN: &str = "DOCKER-USER";

/// What the rules of a host follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The mesh device.
    pub mesh_interface: String,
    /// The cluster's plan.
    pub plan: AddressPlan,
    /// This host's containers.
    pub containers: Ipv4Net,
    /// Subnets that this host is the approved gateway for.
    pub routes: Vec<Ipv4Net>,
    /// How a container's frames are told from forged ones.
    pub frames: Frames,
}

/// How a container's frames are told from forged ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// By the subnet alone.
    Subnet,
    /// By the hardware address too, which Docker before 28 derives from the container's address
    /// (moby, `libnetwork/netutils/utils.go: GenerateMACFromIP`): 02:42 and the four bytes.
    DerivedMac,
}

impl Rules {
    /// The rules of node `me`. `docker_major` is the engine's major version, 0 if unknown.
    pub fn new(
        plan: &AddressPlan,
        me: &NodeRecord,
        mesh_interface: &str,
        docker_major: u32,
    ) -> Self {
        Self {
            mesh_interface: mesh_interface.to_owned(),
            plan: plan.clone(),
            containers: me.containers,
            routes: me.routes.clone(),
            frames: if (1..28).contains(&docker_major) {
                Frames::DerivedMac
            } else {
                Frames::Subnet
            },
        }
    }
}

/// Returns the text that makes the host's two tables what `rules` says, whatever they were.
pub fn ruleset(rules: &Rules) -> String {
    let mut text = undo();
    write_inet(&mut text, rules);
    write_bridge(&mut text, rules);
    text
}

/// Returns the text that removes both tables, whether they exist or not.
pub fn undo() -> String {
    let mut text = String::new();
    for family in ["inet", "bridge"] {
        // Adding first makes the deletion succeed in every case.
        push(&mut text, format_args!("table {family} {TABLE}"));
        push(&mut text, format_args!("delete table {family} {TABLE}"));
    }
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

fn write_inet(text: &mut String, rules: &Rules) {
    let mesh = &rules.mesh_interface;
    let AddressPlan {
        mesh: nodes,
        containers: all,
        dns,
        ..
    } = &rules.plan;
    let own = rules.containers;
    let (manager, gossip, vxlan) = (
        ports::SWARM_MANAGER,
        ports::SWARM_GOSSIP,
        ports::SWARM_VXLAN,
    );
    let port = ports::DNS;
    push(
        text,
        format_args!(
            r#"table inet {TABLE} {{
	chain input {{
		type filter hook input priority filter - 10; policy accept;
		iifname "lo" accept
		udp dport {vxlan} drop
		ct state established,related accept
		iifname "{BRIDGE}" jump from_container
		iifname "{mesh}" jump from_mesh
		ip daddr {nodes} drop
		tcp dport {{ {manager}, {gossip} }} drop
		udp dport {gossip} drop
	}}
	chain from_container {{
		ip saddr {own} ip daddr {dns} udp dport {port} accept
		ip saddr {own} ip daddr {dns} tcp dport {port} accept
		drop
	}}
	chain from_mesh {{
		ip saddr != {nodes} drop
		ip saddr {dns} drop
		ip daddr != {nodes} drop
		accept
	}}
	chain forward {{
		type filter hook forward priority filter - 10; policy accept;
		udp dport {vxlan} drop
		ct state established,related accept
		iifname "{BRIDGE}" jump out_of_container
		iifname "{mesh}" jump out_of_mesh
		oifname "{BRIDGE}" ct status dnat accept
		oifname "{BRIDGE}" drop
		oifname "{mesh}" jump into_mesh
	}}
	chain out_of_container {{
		ip saddr != {own} drop
		oifname "{BRIDGE}" accept
		oifname "{mesh}" ip daddr {all} accept
		drop
	}}
	chain out_of_mesh {{
		ip saddr {own} drop
		ip saddr {{ {nodes}, {all} }} oifname "{BRIDGE}" ip daddr {own} accept"#
        ),
    );
    let routes = list(&rules.routes);
    if let Some(routes) = &routes {
        push(
            text,
            format_args!("\t\tip saddr {nodes} ip daddr {{ {routes} }} accept"),
        );
    }
    push(text, format_args!("\t\tdrop\n\t}}\n\tchain into_mesh {{"));
    if let Some(routes) = &routes {
        push(
            text,
            format_args!("\t\tip saddr {{ {routes} }} ip daddr {nodes} accept"),
        );
    }
    push(text, format_args!("\t\tdrop\n\t}}"));
    if let Some(routes) = &routes {
        // Nobody behind the gateway needs to know the way back to the mesh.
        push(
            text,
            format_args!(
                "\tchain postrouting {{\n\
                 \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
                 \t\tip saddr {nodes} ip daddr {{ {routes} }} oifname != \"{mesh}\" masquerade\n\t}}"
            ),
        );
    }
    push(text, format_args!("}}"));
}

fn list(nets: &[Ipv4Net]) -> Option<String> {
    let texts: Vec<String> = nets.iter().map(Ipv4Net::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// Frames that enter a bridge from a port, where the host's own never do: nobody there is the
/// gateway, and who has an address of the subnet has its hardware address.
///
/// The rules go by addresses and so hold for each bridge of the host: matching a bridge's name
/// (`meta ibrname`) is an option that kernels can lack.
fn write_bridge(text: &mut String, rules: &Rules) {
    let own = rules.containers;
    let gateway = own.hosts().next().unwrap_or(own.network());
    push(text, format_args!("table bridge {TABLE} {{"));
    if rules.frames == Frames::DerivedMac {
        let pairs: Vec<String> = own
            .hosts()
            .filter(|address| *address != gateway)
            .map(|address| format!("{} . {address}", derived_mac(address)))
            .collect();
        push(
            text,
            format_args!(
                "\tset senders {{\n\t\ttype ether_addr . ipv4_addr\n\t\telements = {{ {} }}\n\t}}",
                pairs.join(", ")
            ),
        );
    }
    push(
        text,
        format_args!(
            r"	chain prerouting {{
		type filter hook prerouting priority filter; policy accept;
		ip saddr {gateway} drop
		arp saddr ip {gateway} drop
		ip daddr {own} ip saddr != {own} drop"
        ),
    );
    if rules.frames == Frames::DerivedMac {
        push(
            text,
            format_args!("\t\tip saddr {own} ether saddr . ip saddr != @senders drop"),
        );
        push(
            text,
            format_args!("\t\tarp saddr ip {own} arp saddr ether . arp saddr ip != @senders drop"),
        );
    }
    push(text, format_args!("\t}}\n}}"));
}

fn derived_mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// A setting of the kernel that a host needs, for the host's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    /// Its name, with `/` as in the file's path under `/proc/sys`: an interface's name may hold dots.
    pub path: String,
    /// Its value.
    pub value: &'static str,
}

/// Returns the kernel settings that a host needs, all of its own network namespace.
///
/// Forwarding is asked for on the mesh device alone, whose packets our table judges; the container
/// bridge inherits it from the engine, which forwards everywhere. It is not asked for everywhere
/// here: an engine that finds it on leaves its chain `FORWARD` open.
pub fn host_changes(mesh_interface: &str) -> Vec<HostChange> {
    let change = |path: String, value| HostChange { path, value };
    vec![
        // An engine that starts before the mesh device can bind to its address, and a Swarm that
        // could not do so at its start does not try again.
        change("net/ipv4/ip_nonlocal_bind".to_owned(), "1"),
        change(format!("net/ipv4/conf/{mesh_interface}/forwarding"), "1"),
        change(
            format!("net/ipv4/conf/{mesh_interface}/send_redirects"),
            "0",
        ),
        change(
            format!("net/ipv4/conf/{mesh_interface}/accept_redirects"),
            "0",
        ),
    ]
}

/// Arguments of `iptables`, one command each.
pub type Commands = Vec<Vec<String>>;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Returns the commands that tell whether Docker's chains let pass what we judged; all succeed if
/// so. They fail after each engine start that found its chains gone.
pub fn docker_checks(mesh_interface: &str) -> Commands {
    let rules = docker_rules(mesh_interface).map(|rule| words(&format!("-w 5 -C {CHAIN} {rule}")));
    let jump = words(&format!("-w 5 -C {DOCKER_CHAIN} -j {CHAIN}"));
    std::iter::once(jump).chain(rules).collect()
}

/// Returns the commands that let pass in Docker's chains what we judged. The first ones may fail,
/// where there is nothing yet to remove; see [`Fallible`].
pub fn docker_apply(mesh_interface: &str) -> (Fallible, Commands) {
    let rules = docker_rules(mesh_interface).map(|rule| words(&format!("-w 5 -A {CHAIN} {rule}")));
    let jump = words(&format!("-w 5 -I {DOCKER_CHAIN} 1 -j {CHAIN}"));
    (
        Fallible(vec![
            words(&format!("-w 5 -N {CHAIN}")),
            words(&format!("-w 5 -D {DOCKER_CHAIN} -j {CHAIN}")),
        ]),
        std::iter::once(words(&format!("-w 5 -F {CHAIN}")))
            .chain(rules)
            .chain([jump])
            .collect(),
    )
}

/// Returns the commands that remove our jump and chain; each may fail where it is gone already.
pub fn docker_undo() -> Fallible {
    Fallible(vec![
        words(&format!("-w 5 -D {DOCKER_CHAIN} -j {CHAIN}")),
        words(&format!("-w 5 -F {CHAIN}")),
        words(&format!("-w 5 -X {CHAIN}")),
    ])
}

/// Commands whose failure means that there was nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallible(pub Commands);

fn docker_rules(mesh_interface: &str) -> [String; 2] {
    // All of the mesh device: our own table has judged it before, and drops what it does not know.
    [
        format!("-i {mesh_interface} -j ACCEPT"),
        format!("-o {mesh_interface} -j ACCEPT"),
    ]
}

#[cfg(test)]
mod tests;
