//! Nodes against a controller: join, renew, watch, and what must not be possible.

mod flood;
mod full;
mod join;
mod leases;
mod log;
mod lost;
mod repeated;
mod restored;
mod sealed;
mod strangers;
mod tls;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bastide_api::v1::{JoinAnswer, JoinRequest, RenewRequest};
use bastide_api::{
    AddressPlan, Arch, ClusterId, DiscoveryKey, NodeId, Revision, Secret, Ticket, WireGuardKey,
};
use bastide_client::{Client, ClientError, ClientIdentity, Followed, Trust, ViewFollower, Watch};
use bastide_control::core::registry::Registry;
use bastide_control::run::channel::{self, Begin, Begun, Listen};
use bastide_control::run::server::{SealKey, Server, ServerConfig};
use bastide_pki::Identity;
use data_encoding::BASE64;
use serde_json::{Value, json};

/// A controller at work, in a folder that goes with it.
struct Site {
    server: Server,
    channel: SocketAddr,
    api: SocketAddr,
    root: String,
    begun: Begun,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(folder: tempfile::TempDir) -> Self {
        let (mut server, root) = start(folder.path());
        let begun = channel::begin(server.plane(), beginning(&[]))
            .await
            .unwrap();
        let (channel, api) = open(&mut server).await;
        Self {
            server,
            channel,
            api,
            root: root.expect("a new store gives a root token"),
            begun,
            folder,
        }
    }

    /// Stops the server and starts another one on the same store.
    async fn restart(self) -> Self {
        let Self {
            server,
            root,
            begun,
            folder,
            ..
        } = self;
        server.stop().await;
        let (mut server, again) = start(folder.path());
        assert!(again.is_none(), "the store is the same");
        let (channel, api) = open(&mut server).await;
        Self {
            server,
            channel,
            api,
            root,
            begun,
            folder,
        }
    }

    /// A client with the operator's token.
    fn operator(&self) -> Client {
        let token = Secret::new(self.root.clone());
        let trust = Trust::Ca(self.begun.ca.clone());
        Client::new(vec![self.api], trust, None, Some(token)).unwrap()
    }

    async fn ticket(&self, body: Value) -> Ticket {
        let made = self
            .operator()
            .call("POST", "/v1/auth/join/tickets", Some(body))
            .await
            .unwrap();
        made["ticket"].as_str().unwrap().parse().unwrap()
    }

    /// A client that knows what the ticket says and nothing else.
    fn stranger(&self, ticket: &Ticket) -> Client {
        Client::new(vec![self.channel], Trust::Pin(ticket.pin), None, None).unwrap()
    }

    /// Joins a node of that name with a fresh ticket.
    async fn node(&self, name: &str) -> Node {
        let ticket = self.ticket(json!({})).await;
        let machine = Machine::new(name);
        let answer = self
            .stranger(&ticket)
            .join(&machine.request(&ticket))
            .await
            .unwrap();
        Node {
            machine,
            answer,
            channel: self.channel,
            api: self.api,
        }
    }
}

fn start(folder: &Path) -> (Server, Option<String>) {
    let config = ServerConfig {
        audit: Some(bastide_control::run::outbox::AuditTo::file(
            folder.join("audit.log"),
        )),
        cluster_name: "demo".to_owned(),
        ..ServerConfig::in_folder(folder.join("data"), SealKey::File(folder.join("seal.key")))
    };
    let cluster = ClusterId::from_bytes([7; 16]);
    let (server, root) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    (server, root.map(|root| root.expose().clone()))
}

fn beginning(more: &[SocketAddr]) -> Begin {
    let mut channel = vec!["192.0.2.1:7443".parse().unwrap()];
    channel.extend_from_slice(more);
    Begin {
        name: "demo".parse().unwrap(),
        plan: AddressPlan::default(),
        channel,
        swarm: bastide_api::SwarmSettings::default(),
        node_name: "one".parse().unwrap(),
    }
}

async fn open(server: &mut Server) -> (SocketAddr, SocketAddr) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listen = Listen {
        channel: vec![any],
        api: vec![any],
    };
    let at = channel::open(server, &listen).await.unwrap();
    (at.channel[0], at.api[0])
}

/// A machine with keys of its own, not yet a node.
struct Machine {
    name: String,
    identity: Identity,
    wireguard: WireGuardKey,
}

impl Machine {
    fn new(name: &str) -> Self {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).unwrap();
        Self {
            name: name.to_owned(),
            identity: Identity::generate(),
            wireguard: WireGuardKey::from_bytes(key),
        }
    }

    fn request(&self, ticket: &Ticket) -> JoinRequest {
        JoinRequest {
            ticket: ticket.id,
            secret: BASE64.encode(ticket.secret.expose()),
            name: self.name.parse().unwrap(),
            site: "home".parse().unwrap(),
            arch: Arch::Amd64,
            wireguard: self.wireguard,
            discovery: DiscoveryKey::from_bytes([1; 32]),
            csr: self.identity.csr_pem(),
            public: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// A machine that is a node.
struct Node {
    machine: Machine,
    answer: JoinAnswer,
    channel: SocketAddr,
    api: SocketAddr,
}

impl Node {
    fn id(&self) -> NodeId {
        self.answer.node.id
    }

    fn client_of(&self, address: SocketAddr) -> Client {
        let own = ClientIdentity::new(&self.answer.certificate, &self.machine.identity).unwrap();
        let trust = Trust::Ca(self.answer.ca.clone());
        Client::new(vec![address], trust, Some(own), None).unwrap()
    }

    /// A client of the node channel with the node's certificate.
    fn client(&self) -> Client {
        self.client_of(self.channel)
    }

    fn follower(&self) -> ViewFollower {
        ViewFollower::new(self.answer.cluster.id, self.answer.view_key)
    }

    /// A request to renew with a fresh certificate.
    fn renewal(&self) -> RenewRequest {
        RenewRequest {
            csr: Some(self.machine.identity.csr_pem()),
            ..RenewRequest::default()
        }
    }
}

/// How long tests wait for what should take milliseconds.
const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work)
        .await
        .expect("this should not take so long")
}

/// Follows a watch until `wanted` gives something.
async fn until<T>(
    watch: &mut Watch,
    follower: &mut ViewFollower,
    mut wanted: impl FnMut(&ViewFollower, &Followed) -> Option<T>,
) -> T {
    soon(async {
        loop {
            let event = watch.next().await.expect("the watch goes on");
            let followed = follower.handle(event).expect("the watch is believed");
            if let Some(found) = wanted(follower, &followed) {
                return found;
            }
        }
    })
    .await
}

/// Returns whether the follower's view has the node.
fn has(follower: &ViewFollower, node: NodeId) -> bool {
    let key = format!("nodes/{node}");
    follower
        .view()
        .is_some_and(|view| view.entries.contains_key(&key))
}

fn status(result: Result<impl Sized, ClientError>) -> u16 {
    match result {
        Ok(_) => panic!("this must be refused"),
        Err(ClientError::Refused { status, .. }) => status,
        Err(other) => panic!("this must be refused by the control plane, not by {other}"),
    }
}

fn said(result: Result<impl Sized, ClientError>) -> String {
    match result {
        Ok(_) => panic!("this must be refused"),
        Err(ClientError::Refused { errors, .. }) => errors.join("; "),
        Err(other) => panic!("this must be refused by the control plane, not by {other}"),
    }
}

const START: Revision = Revision(0);
