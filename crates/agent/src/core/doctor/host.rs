//! Kernel, programs, disk and ports.

use bastide_api::doctor::{Check, Layer};
use bastide_api::ports;

/// The oldest kernel that has all the mesh uses: UDP's segmentation and coalescing (4.18, 5.0), and
/// tables of nftables in family `inet` that rewrite addresses (5.2).
const KERNEL_MIN: (u32, u32) = (5, 4);
/// Least room on disk, in bytes, that store, journal and images need to go on.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// What was seen of the host itself.
#[derive(Debug, Clone)]
pub struct HostSeen {
    /// The kernel's release: `6.1.0-18-amd64`.
    pub kernel: String,
    /// Whether the device that makes TUN devices can be opened, or why not.
    pub tun: Result<(), String>,
    /// The programs that are called.
    pub programs: Vec<ProgramSeen>,
    /// Where state lies.
    pub folder: String,
    /// Bytes free there, or why that is not known.
    pub free_bytes: Result<u64, String>,
    /// Whether a file can be made there, or why not.
    pub writable: Result<(), String>,
    /// Whether the kernel forwards packets of the mesh device, which gateways and containers need;
    /// none: not known, for instance because there is no device.
    pub forwards: Option<bool>,
    /// The ports that are ours.
    pub ports: Vec<PortSeen>,
}

/// A program that is called.
#[derive(Debug, Clone)]
pub struct ProgramSeen {
    /// Its name.
    pub name: &'static str,
    /// The package that brings it.
    pub package: &'static str,
    /// Whether it is there.
    pub found: bool,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port that is ours.
#[derive(Debug, Clone)]
pub struct PortSeen {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// What it is for.
    pub purpose: &'static str,
    /// Who listens there.
    pub holder: Holder,
    /// Which of our daemons should listen there now; none: it need only be free.
    pub daemon: Option<&'static str>,
}

/// Who listens at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A process of this program.
    Bastide,
    /// Another process: its name and id.
    Other(String),
}

/// Judges the host; as a node, ports must be held and packets forwarded.
pub fn judge(seen: &HostSeen, is_node: bool) -> Vec<Check> {
    let mut checks = vec![kernel(&seen.kernel), tun(&seen.tun)];
    checks.extend(seen.programs.iter().map(program));
    checks.push(disk(seen));
    if is_node {
        checks.push(forwarding(seen.forwards));
    }
    checks.extend(seen.ports.iter().map(port));
    checks
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => {
            return Check::skip(
                Layer::Host,
                "kernel",
                format!("unknown release `{release}`"),
            );
        }
    };
    if KERNEL_MIN <= version {
        return Check::pass(Layer::Host, "kernel", release);
    }
    let (major, minor) = KERNEL_MIN;
    Check::fail(
        Layer::Host,
        "kernel",
        format!("{release}; {major}.{minor} or newer is needed"),
        "apt-get install linux-image-amd64, then reboot",
    )
}

fn tun(seen: &Result<(), String>) -> Check {
    match seen {
        Ok(()) => Check::pass(Layer::Host, "tun", "/dev/net/tun opens"),
        Err(error) => Check::fail(
            Layer::Host,
            "tun",
            format!("/dev/net/tun does not open: {error}"),
            "modprobe tun",
        ),
    }
}

fn program(seen: &ProgramSeen) -> Check {
    let name = format!("program {}", seen.name);
    if seen.found {
        return Check::pass(Layer::Host, name, "installed");
    }
    Check::fail(
        Layer::Host,
        name,
        format!("`{}` is not installed", seen.name),
        format!("apt-get install {}", seen.package),
    )
}

fn disk(seen: &HostSeen) -> Check {
    let folder = &seen.folder;
    let mend = format!("df -h {folder}; du -xsh {folder}/*; make room");
    if let Err(error) = &seen.writable {
        let found = format!("nothing can be written in {folder}: {error}");
        return Check::fail(Layer::Host, "disk", found, mend);
    }
    match &seen.free_bytes {
        Err(error) => Check::skip(Layer::Host, "disk", error),
        Ok(free) if *free < FREE_BYTES_MIN => {
            let found = format!("{} MiB free in {folder}", free >> 20);
            Check::fail(Layer::Host, "disk", found, mend)
        }
        Ok(free) => Check::pass(
            Layer::Host,
            "disk",
            format!("{} MiB free in {folder}", free >> 20),
        ),
    }
}

fn forwarding(forwards: Option<bool>) -> Check {
    let (layer, name) = (Layer::Host, "forwarding");
    match forwards {
        Some(true) => Check::pass(layer, name, "packets of the mesh are forwarded"),
        Some(false) => Check::fail(
            layer,
            name,
            "packets of the mesh are not forwarded: containers reach nobody",
            "sysctl -w net.ipv4.conf.bst0.forwarding=1",
        ),
        None => Check::skip(layer, name, "there is no mesh device"),
    }
}

fn port(seen: &PortSeen) -> Check {
    let name = format!("{} {}", seen.protocol, seen.port);
    let purpose = seen.purpose;
    match (&seen.holder, seen.daemon) {
        (Holder::Bastide, _) => Check::pass(Layer::Ports, name, format!("ours, for {purpose}")),
        (Holder::Nobody, None) => Check::pass(Layer::Ports, name, format!("free, for {purpose}")),
        (Holder::Nobody, Some(daemon)) => Check::fail(
            Layer::Ports,
            name,
            format!("nobody listens; it is for {purpose}, of `bastide {daemon}`"),
            format!("systemctl start bastide-{daemon}, or by hand `bastide {daemon}`"),
        ),
        (Holder::Other(who), _) => {
            let flag = match seen.protocol {
                Protocol::Tcp => 't',
                Protocol::Udp => 'u',
            };
            Check::fail(
                Layer::Ports,
                name,
                format!("held by {who}; it is for {purpose}"),
                format!(
                    "ss -l{flag}np 'sport = :{}', and end that program",
                    seen.port
                ),
            )
        }
    }
}

/// The ports that are ours on this host, with the daemon that should hold each.
pub fn own_ports(
    is_node: bool,
    is_controller: bool,
) -> Vec<(Protocol, u16, &'static str, Option<&'static str>)> {
    let agent = is_node.then_some("agent");
    let mut ports = vec![
        (Protocol::Udp, ports::MESH, "the mesh", agent),
        (Protocol::Tcp, ports::IMAGES, "images", agent),
    ];
    if is_controller {
        let server = Some("server");
        ports.push((Protocol::Tcp, ports::CHANNEL, "joins and nodes", server));
        ports.push((Protocol::Tcp, ports::API, "the API", server));
    }
    ports
}
