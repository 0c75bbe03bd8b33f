//! Looking at a host for `bastide doctor`: it needs no agent, and changes nothing.

mod listeners;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bastide_api::doctor::Check;
use bastide_api::status::Status;
use bastide_api::v1::{PathFact, PathKind, RenewRequest};
use bastide_api::{View, ports};
use bastide_client::{Client, ClientError, Patience};
use bastide_cluster::core::state::Phase;
use bastide_cluster::{Engine, filter, firewall};
use bastide_linux::netlink::Socket;
use bastide_linux::{clock, nft, sysctl};
use bastide_pki::certificate_lifetime;
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::follow;
use super::host::INTERFACE;
use super::membership::{Member, MembershipError, identity};
use super::state::StateDir;
use crate::core::desired;
use crate::core::doctor::{
    self, CertificateSeen, ControlPlaneSeen, ControllerSeen, DeviceSeen, EngineSeen, HostSeen,
    MeshSeen, NamesSeen, NodeSeen, PeerSeen, PortSeen, ProgramSeen, Seen, SwarmSeen,
};
use crate::core::schedule::Life;

/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(4);
/// The programs that the agent and the verbs call, with the packages that bring them.
const PROGRAMS: [(&str, &str); 3] = [
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("dockerd", "docker.io"),
];
/// Where programs lie that root calls.
const PROGRAM_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Where to look.
#[derive(Debug, Clone)]
pub struct Doctor {
    /// The agent's folder.
    pub state: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The engine's socket of a host that is no node yet.
    pub engine: PathBuf,
}

/// Looks at the host and judges it.
///
/// # Errors
///
/// The agent's folder cannot be read: then nothing else would be true either.
pub async fn examine(doctor: &Doctor) -> Result<Vec<Check>, MembershipError> {
    let member = member(&doctor.state)?;
    let engine = member.as_ref().map_or_else(
        || doctor.engine.clone(),
        |(_, member)| member.settings().engine,
    );
    let view = member
        .as_ref()
        .map(|(state, member)| follow::first_picture(state, member).view);
    let node = async {
        match (&member, &view) {
            (Some((_, member)), Some(view)) => Some(node(doctor, member, view).await),
            _ => None,
        }
    };
    let is_controller = match (&member, &view) {
        (Some((_, member)), Some(view)) => desired::is_controller(view, member.node()),
        _ => false,
    };
    let host = host(&doctor.state, member.is_some(), is_controller);
    let (engine, node) = tokio::join!(engine_seen(&engine), node);
    Ok(doctor::judge(&Seen { host, node, engine }))
}

fn member(path: &Path) -> Result<Option<(StateDir, Member)>, MembershipError> {
    if !path.exists() {
        return Ok(None);
    }
    let state = StateDir::open(path)?;
    let Some(membership) = state.membership()? else {
        return Ok(None);
    };
    let member = Member::new(state.clone(), identity(&state)?, membership, state.clock())?;
    Ok(Some((state, member)))
}

fn host(state: &Path, is_node: bool, is_controller: bool) -> HostSeen {
    let listeners = listeners::all();
    let seen = |(protocol, port, purpose, daemon)| PortSeen {
        protocol,
        port,
        purpose,
        holder: listeners.holder(protocol, port),
        daemon,
    };
    let folder = existing(state);
    let free = rustix::fs::statvfs(folder);
    HostSeen {
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        tun: fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map(drop)
            .map_err(|error| error.to_string()),
        programs: PROGRAMS
            .map(|(name, package)| ProgramSeen {
                name,
                package,
                found: PROGRAM_FOLDERS
                    .iter()
                    .any(|folder| Path::new(folder).join(name).exists()),
            })
            .into(),
        folder: folder.display().to_string(),
        free_bytes: free
            .map(|free| free.f_bavail.saturating_mul(free.f_frsize))
            .map_err(|error| error.to_string()),
        writable: try_to_write(folder),
        forwards: sysctl::read(&format!("net/ipv4/conf/{INTERFACE}/forwarding"))
            .ok()
            .map(|value| value == "1"),
        ports: doctor::own_ports(is_node, is_controller)
            .into_iter()
            .map(seen)
            .collect(),
    }
}

/// The nearest folder of a path that exists.
fn existing(path: &Path) -> &Path {
    let mut folders = path.ancestors();
    folders
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("/"))
}

/// A disk may be full, or mounted read-only, with room left by the numbers: only writing tells.
fn try_to_write(folder: &Path) -> Result<(), String> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let written = fs::write(&path, [0; 4096]);
    let _ = fs::remove_file(&path);
    written.map_err(|error| error.to_string())
}

async fn node(doctor: &Doctor, member: &Member, view: &View) -> NodeSeen {
    let status = status(&doctor.socket).await;
    let (control_plane, mesh, names) = tokio::join!(
        control_plane(member),
        mesh(member, view, status.as_ref()),
        names(member, view)
    );
    NodeSeen {
        control_plane,
        mesh,
        names,
        troubles: status.map(|status| status.troubles),
    }
}

async fn status(socket: &Path) -> Option<Status> {
    let patience = Patience {
        answer: LOOK_MAX,
        silence: LOOK_MAX,
        ..Patience::default()
    };
    let client = Client::unix_with(socket, patience);
    let value = client.call("GET", "/v1/status", None).await.ok()?;
    serde_json::from_value(value).ok()
}

async fn control_plane(member: &Member) -> ControlPlaneSeen {
    let addresses = member.channel_addresses();
    let asked = addresses.iter().map(|address| async {
        let how = ask(member, *address).await;
        (address.to_string(), how)
    });
    let controllers = join_all(asked).await;
    let certificate = match certificate_lifetime(&member.answer().certificate) {
        Some((begins, ends)) => CertificateSeen::Good(Life { begins, ends }),
        None => CertificateSeen::Unreadable,
    };
    ControlPlaneSeen {
        wall: clock::wall(),
        now: member.clock().now(),
        certificate,
        controllers,
    }
}

/// Asks one controller as the agent does: with the node's certificate, over its channel.
async fn ask(member: &Member, address: SocketAddr) -> ControllerSeen {
    let client = match member.client_of(vec![address]) {
        Ok(client) => client,
        Err(error) => return ControllerSeen::Silent(error.to_string()),
    };
    // Neither a report nor a certificate: it changes nothing, and tells the controller's time.
    let nothing = RenewRequest::default();
    match timeout(LOOK_MAX, client.renew(&nothing)).await {
        Err(_) => ControllerSeen::Silent(format!("nothing within {LOOK_MAX:?}")),
        Ok(Ok(answer)) => ControllerSeen::Answered(answer.now),
        Ok(Err(ClientError::Refused {
            status: 503,
            errors,
        })) if errors.iter().any(|error| error.contains("sealed")) => ControllerSeen::Sealed,
        Ok(Err(ClientError::Refused { errors, .. })) => ControllerSeen::Refused(errors.join("; ")),
        Ok(Err(error @ ClientError::Untrusted { .. })) => ControllerSeen::Stranger(chain(&error)),
        Ok(Err(error)) => ControllerSeen::Silent(chain(&error)),
    }
}

async fn mesh(member: &Member, view: &View, status: Option<&Status>) -> MeshSeen {
    let wanted = desired::device(view, member.node());
    let peers = status.into_iter().flat_map(|status| &status.nodes);
    let peers = peers.filter_map(|node| Some((node, node.path.as_ref()?)));
    let peers = peers.map(|(node, path)| async {
        PeerSeen {
            name: node.name.to_string(),
            path: described(path, view.cluster.plan.mtu, status),
            answers: reach(SocketAddr::from((node.address, ports::IMAGES))).await,
        }
    });
    let peers = join_all(peers).await;
    let addresses = wanted.iter().flat_map(|device| &device.addresses);
    MeshSeen {
        interface: INTERFACE,
        device: device(),
        addresses_wanted: addresses.map(ipnet::Ipv4Net::addr).collect(),
        routes_wanted: wanted
            .as_ref()
            .map(|device| device.routes.clone())
            .unwrap_or_default(),
        mtu_wanted: view.cluster.plan.mtu.into(),
        tables_missing: tables_missing(),
        peers,
        agent: status.is_some(),
    }
}

/// A path in words; none where there is no path. `mtu` is the cluster's, in bytes.
fn described(path: &PathFact, mtu: u16, status: Option<&Status>) -> Option<String> {
    let rtt = path.rtt_us.map(|rtt| f64::from(rtt) / 1000.0);
    let rtt = rtt.map(|ms| format!(", {ms:.1} ms")).unwrap_or_default();
    let narrow = path.mtu.filter(|fits| *fits < mtu);
    let narrow = narrow
        .map(|fits| format!("; something on the way swallows longer packets than {fits} bytes"));
    let narrow = narrow.unwrap_or_default();
    match path.kind {
        PathKind::None => None,
        PathKind::Direct { to } => Some(format!("direct, to {to}{rtt}{narrow}")),
        PathKind::Relayed { via } => {
            let mut nodes = status.into_iter().flat_map(|status| &status.nodes);
            let relay = nodes.find(|node| node.id == via);
            let relay = relay.map_or_else(|| via.to_string(), |node| node.name.to_string());
            Some(format!("relayed by {relay}{rtt}{narrow}"))
        }
    }
}

/// Whether a connection is answered, be it by a refusal: both come from the other end.
async fn reach(address: SocketAddr) -> Result<(), String> {
    match timeout(LOOK_MAX, TcpStream::connect(address)).await {
        Err(_) => Err(format!("no answer within {LOOK_MAX:?}")),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

fn device() -> Option<DeviceSeen> {
    let mut socket = Socket::open().ok()?;
    let link = socket.link(INTERFACE).ok()??;
    let ipv4 = |net: ipnet::IpNet| match net {
        ipnet::IpNet::V4(net) => Some(net),
        ipnet::IpNet::V6(_) => None,
    };
    let addresses = socket.addresses().unwrap_or_default();
    let addresses = addresses
        .into_iter()
        .filter(|address| address.link == link.index);
    let addresses: BTreeSet<Ipv4Addr> = addresses
        .filter_map(|address| match address.net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    let routes = socket.routes().unwrap_or_default();
    let routes = routes
        .into_iter()
        .filter(|route| route.dev == Some(link.index))
        .filter_map(|route| ipv4(route.to));
    Some(DeviceSeen {
        is_up: link.is_up,
        mtu: link.mtu,
        addresses,
        routes: routes.collect(),
    })
}

fn tables_missing() -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    for family in ["inet", "bridge"] {
        let table = format!("{family} {}", firewall::TABLE);
        match nft::list(&table) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(table),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(missing)
}

async fn names(member: &Member, view: &View) -> NamesSeen {
    let address = SocketAddr::from((view.cluster.plan.dns, ports::DNS));
    let own = member.answer().node.name;
    let own = view
        .nodes
        .get(&member.node())
        .map_or(own, |node| node.name.clone());
    let name = format!("{own}.node.{}.internal", view.cluster.name);
    let answered = match timeout(LOOK_MAX, bastide_names::knows(address, &name)).await {
        Err(_) => Err(format!("no answer within {LOOK_MAX:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(false)) => Err("there is no such name".to_owned()),
        Ok(Ok(true)) => Ok(()),
    };
    NamesSeen {
        address,
        name,
        answered,
    }
}

async fn engine_seen(socket: &Path) -> EngineSeen {
    let silent = || format!("no answer within {LOOK_MAX:?}");
    let engine = match timeout(LOOK_MAX, Engine::connect(socket)).await {
        Ok(Ok(engine)) => Ok(engine),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(silent()),
    };
    let swarm = match &engine {
        Ok(engine) => match timeout(LOOK_MAX, engine.membership()).await {
            Ok(Ok(membership)) => Ok(match membership.phase {
                Phase::Active => SwarmSeen::Active(membership.address),
                Phase::Inactive => SwarmSeen::Inactive,
                Phase::Pending => SwarmSeen::Pending,
                Phase::Error(words) => SwarmSeen::Trouble(words),
                Phase::Locked => SwarmSeen::Trouble("the Swarm is locked".to_owned()),
            }),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(silent()),
        },
        Err(error) => Err(error.clone()),
    };
    EngineSeen {
        socket: socket.display().to_string(),
        version: engine.map(|engine| engine.version().engine.clone()),
        swarm,
        way_open: filter::is_docker_jump_in_place(INTERFACE)
            .await
            .map_err(|error| error.to_string()),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
