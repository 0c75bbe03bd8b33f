//! What a cluster's controller serves: the node channel facing the world, the API on loopback and
//! mesh, and the watch.
//!
//! ```text
//!   0.0.0.0:7443   TLS 1.3   join (no certificate), renew and watch (a node's)      Door::Channel
//!   127.0.0.1:8200, mesh:8200   TLS 1.3   all of the API; a node's certificate or a token
//! ```
//!
//! Behind a gate the listeners stay while the server is sealed, and say so: [`ControllerCrew`].
//!
//! The program does this at each start; the first time `root` is the operator's token:
//!
//! ```text
//! let (mut server, root) = Server::start(&config, fresh_cluster_id, Registry::built_in())?;
//! if channel::cluster(server.plane())?.is_none() {
//!     let begun = channel::begin(server.plane(), Begin { .. }).await?;   // ca, ticket
//! }
//! channel::open(&mut server, &Listen { channel, api }).await?;
//! ```

mod crew;
mod feed;
mod kept;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::v1::PROTOCOL;
use bastide_api::{
    AddressPlan, ClusterName, ClusterRecord, Controller, NodeId, NodeName, Secret, SigningKey,
    SwarmSettings,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpSocket};

use crate::core::engines::mesh;
use crate::core::refusal::Refusal;
use crate::core::request::Operation;
use crate::run::gate::Post;
use crate::run::http::Door;
use crate::run::listen::{Identify, Security};
use crate::run::plane::Plane;
use crate::run::server::Server;

use feed::Feeder;
use tls::Certificates;

pub use crew::ControllerCrew;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often it is looked whether certificates are to be renewed. Timers stand still while the host is
/// suspended, and know nothing of a clock that was set.
const RENEWAL_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long this host's own ticket is good.
const OWN_TICKET_TTL: &str = "720h";
/// How long until a certificate that could not be renewed is tried again.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a cluster begins with.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Its name.
    pub name: ClusterName,
    /// Its address plan.
    pub plan: AddressPlan,
    /// Where the world reaches this controller's node channel, best first.
    pub channel: Vec<SocketAddr>,
    /// How its Swarm is driven.
    pub swarm: SwarmSettings,
    /// The name of the first node, which is this host.
    pub node_name: NodeName,
}

/// A cluster that has begun.
pub struct Begun {
    /// The id that this host's agent will have.
    pub node: NodeId,
    /// The cluster's authority (PEM).
    pub ca: String,
    /// The key that signs views.
    pub view_key: SigningKey,
    /// The ticket for this host's own agent, as text.
    pub ticket: Secret<String>,
}

/// Where a controller listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// The node channel, facing the world.
    pub channel: Vec<SocketAddr>,
    /// The API. Addresses that this host does not have yet will do.
    pub api: Vec<SocketAddr>,
}

/// Why a controller did not begin or start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The control plane refused.
    #[error("the control plane refused to {what}: {why}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// What it says.
        why: String,
    },
    /// The store has no cluster yet.
    #[error("this server has begun no cluster")]
    NoCluster,
    /// What it answered is not valid.
    #[error("the answer of the control plane is not valid")]
    Answer(#[source] serde_json::Error),
    /// The store cannot be read.
    #[error("could not read the view")]
    Store(#[from] bastide_store::BarrierError),
    /// The certificate that it gave itself cannot be used.
    #[error("could not set TLS up: {0}")]
    Tls(String),
    /// What a sealed server shows cannot be kept.
    #[error("could not {operation} `{path}`, which a sealed server needs")]
    Kept {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn refused(what: &'static str) -> impl Fn(Refusal) -> ControllerError {
    move |refusal| ControllerError::Refused {
        what,
        why: match refusal {
            Refusal::Invalid(why)
            | Refusal::Forbidden(why)
            | Refusal::Unavailable(why)
            | Refusal::NoRoom(why)
            | Refusal::Failed(why)
            | Refusal::Internal(why)
            | Refusal::Ticket { text: why, .. }
            | Refusal::Precondition(why) => why,
            other => format!("{other:?}"),
        },
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("requests are JSON objects"),
    }
}

/// Returns the cluster that a server serves; `None` before it has begun.
pub fn cluster(plane: &Plane) -> Result<Option<ClusterRecord>, ControllerError> {
    match plane.inspect(mesh::MOUNT, mesh::cluster) {
        Ok((_, record)) => Ok(Some(record)),
        Err(Refusal::Unavailable(_)) => Ok(None),
        Err(other) => Err(refused("read the cluster's record")(other)),
    }
}

/// Begins a cluster on a server that serves none: authority, view key, its record, and a ticket for
/// this host's own agent, which joins as every other does. Once per store.
pub async fn begin(plane: &Plane, begin: Begin) -> Result<Begun, ControllerError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).expect("the system's random source answers");
    let node = NodeId::from_bytes(id);
    let controller = Controller {
        node,
        channel: begin.channel,
    };
    let what = "begin the cluster";
    let asked = fields(json!({
        "name": begin.name,
        "plan": begin.plan,
        "controllers": [controller],
        "swarm": begin.swarm,
    }));
    let made = plane
        .ask(Operation::Update, "mesh/create", asked)
        .await
        .map_err(refused(what))?;
    let made = Value::Object(made.data.unwrap_or_default());
    let ca = text(&made, "certificate")?;
    let view_key =
        serde_json::from_value(made["view_key"].clone()).map_err(ControllerError::Answer)?;
    let ticket = own_ticket(plane, node, &begin.node_name).await?;
    tracing::info!(cluster = %begin.name, %node, "cluster begun");
    Ok(Begun {
        node,
        ca,
        view_key,
        ticket,
    })
}

/// Makes a ticket for the agent of the controller's own host: again, if the first was lost.
pub async fn own_ticket(
    plane: &Plane,
    node: NodeId,
    name: &NodeName,
) -> Result<Secret<String>, ControllerError> {
    // It lies with this host alone, and the host may be started much later.
    let asked = fields(json!({ "node": node, "name": name, "ttl": OWN_TICKET_TTL }));
    let made = plane
        .ask(Operation::Update, "auth/join/tickets", asked)
        .await
        .map_err(refused("make this host's ticket"))?;
    let made = Value::Object(made.data.unwrap_or_default());
    Ok(Secret::new(text(&made, "ticket")?))
}

fn text(value: &Value, field: &str) -> Result<String, ControllerError> {
    serde_json::from_value(value[field].clone()).map_err(ControllerError::Answer)
}

/// Opens a controller's listeners on a server whose cluster has begun, and keeps its certificates
/// and the watch going until the server stops. Returns where it listens, in the order asked for.
pub async fn open(server: &mut Server, listen: &Listen) -> Result<Listening, ControllerError> {
    let certificates = Arc::new(Certificates::new(None));
    let identify = start(server, listen, &certificates).await?;
    let (posts, bound) = listeners(listen, &certificates, &identify)?;
    for post in posts {
        server.serve(post.listener, post.security, post.door);
    }
    Ok(bound)
}

/// Starts what a controller runs on an open plane: its certificates and the watch. Returns who tells
/// machines apart.
async fn start(
    server: &mut Server,
    listen: &Listen,
    certificates: &Arc<Certificates>,
) -> Result<Identify, ControllerError> {
    let plane = server.plane().clone();
    let record = cluster(&plane)?.ok_or(ControllerError::NoCluster)?;
    let node = record
        .controllers
        .first()
        .map(|controller| controller.node)
        .ok_or(ControllerError::NoCluster)?;
    // Before anything is signed: whoever follows can tell this run's views from those of a store that
    // was put back.
    if let Err(refusal) = plane
        .ask(Operation::Update, "mesh/history/run", Map::new())
        .await
    {
        let why = refused("note this run")(refusal);
        tracing::error!(%why, "nodes cannot tell this run of the control plane from another");
    }
    let feeder = Feeder::start(&plane, server.stop_token())?;
    plane.set_streams(Box::new(feeder.streams()));
    certificates.make(&plane, node, listen).await?;
    let roots = certificates.roots().ok_or(ControllerError::NoCluster)?;
    let identify = feeder.identify(roots);
    server.spawn("feed", feeder.run());
    let (stop, certificates) = (server.stop_token(), Arc::clone(certificates));
    let listen = listen.clone();
    server.spawn("certificates", async move {
        loop {
            let wait = certificates.renewal_due_in(plane.now());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.min(RENEWAL_LOOK_EVERY)) => {}
            }
            if !certificates.renewal_due_in(plane.now()).is_zero() {
                continue;
            }
            if let Err(error) = certificates.make(&plane, node, &listen).await {
                tracing::error!(%error, "controller's certificate not renewed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RENEW_AGAIN_AFTER) => {}
                }
            }
        }
    });
    tracing::info!(%node, protocol = PROTOCOL, "controller serves");
    Ok(identify)
}

/// Binds a controller's listeners.
fn listeners(
    listen: &Listen,
    certificates: &Certificates,
    identify: &Identify,
) -> Result<(Vec<Post>, Listening), ControllerError> {
    let mut bound = Listening::default();
    let mut posts = Vec::new();
    let doors = [
        (
            &listen.channel,
            Door::Channel,
            certificates.channel_config(),
        ),
        (&listen.api, Door::API, certificates.api_config()),
    ];
    for (addresses, door, config) in doors {
        for &address in addresses {
            let listener = bind(address)?;
            let at = local(&listener, address)?;
            match door {
                Door::Channel => bound.channel.push(at),
                Door::Api(_) => bound.api.push(at),
            }
            let security = Security::Tls {
                config: Arc::clone(&config),
                identify: Arc::clone(identify),
            };
            posts.push(Post {
                listener,
                security,
                door,
            });
        }
    }
    Ok((posts, bound))
}

/// Where a controller listens now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening {
    /// The node channel.
    pub channel: Vec<SocketAddr>,
    /// The API.
    pub api: Vec<SocketAddr>,
}

/// Binds an address, though this host may get it later: the mesh's does not exist before the agent
/// has joined, and the agent joins through us.
fn bind(address: SocketAddr) -> Result<TcpListener, ControllerError> {
    let make = || {
        let socket = if address.is_ipv4() {
            let socket = TcpSocket::new_v4()?;
            rustix::net::sockopt::set_ip_freebind(&socket, true)?;
            socket
        } else {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_freebind(&socket, true)?;
            socket
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    make().map_err(|source| ControllerError::Listen { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ControllerError> {
    listener
        .local_addr()
        .map_err(|source| ControllerError::Listen { address, source })
}
