//! A server under load until it is killed, that says after each answer what is now promised:
//! `crash_writer FOLDER`. The durability test kills it and looks whether the promises were kept.
//!
//! ```text
//! wrote WRITER VERSION        a secret's version is stored
//! made TICKET                 a ticket is good
//! spent TICKET-ID NAME        the machine of that name joined with it
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bastide_api::v1::JoinRequest;
use bastide_api::{
    AddressPlan, Arch, ClusterId, DiscoveryKey, SwarmSettings, Ticket, WireGuardKey,
};
use bastide_client::{Client, Trust};
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::channel::{self, Begin, Listen};
use bastide_control::run::outbox::AuditTo;
use bastide_control::run::plane::Plane;
use bastide_control::run::server::{SealKey, Server, ServerConfig};
use bastide_pki::Identity;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

/// Writers at a time, so that commits hold several requests.
const WRITERS: u64 = 6;
/// Tickets of one life: more would fill the cluster over a hundred lives.
const TICKETS: usize = 4;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_default());
    let config = ServerConfig {
        audit: Some(AuditTo::file(folder.join("audit.log"))),
        cluster_name: "crash".to_owned(),
        ..ServerConfig::in_folder(
            folder.join("server"),
            SealKey::File(folder.join("seal.key")),
        )
    };
    let cluster = ClusterId::from_bytes([3; 16]);
    let (mut server, _) = Server::start(&config, cluster, Registry::built_in())?;
    let plane = server.plane().clone();
    if channel::cluster(&plane)?.is_none() {
        begin(&plane).await?;
    }
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let listen = Listen {
        channel: vec![any],
        api: Vec::new(),
    };
    let at = channel::open(&mut server, &listen).await?.channel[0];
    let mut load = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        load.spawn(write(plane.clone(), writer));
    }
    load.spawn(join(plane, at));
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    Ok(())
}

async fn begin(plane: &Plane) -> anyhow::Result<()> {
    let begin = Begin {
        name: "crash".parse()?,
        plan: AddressPlan::default(),
        channel: vec!["192.0.2.1:7443".parse()?],
        swarm: SwarmSettings::default(),
        node_name: "first".parse()?,
    };
    channel::begin(plane, begin).await?;
    Ok(())
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made as an object"),
    }
}

/// Writes one secret over and over.
async fn write(plane: Plane, writer: u64) -> anyhow::Result<()> {
    for number in 1_u64.. {
        let path = format!("secret/data/writer-{writer}");
        let data = fields(json!({ "data": { "number": number } }));
        let done = plane.ask(Operation::Update, &path, data).await;
        let version = done.ok().and_then(|it| it.data?.get("version")?.as_u64());
        let version = version.context("a write was refused")?;
        // One write of one line: it is whole or not there.
        println!("wrote {writer} {version}");
    }
    Ok(())
}

/// Makes tickets, and lets two machines race for each over the real channel.
async fn join(plane: Plane, at: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..TICKETS {
        let made = plane
            .ask(Operation::Update, "auth/join/tickets", Map::new())
            .await;
        let made = made.ok().and_then(|it| it.data).context("no ticket")?;
        let text = made["ticket"].as_str().context("no ticket")?;
        println!("made {text}");
        let ticket: Ticket = text.parse()?;
        let (one, two) = tokio::join!(machine(&ticket, at, "a"), machine(&ticket, at, "b"));
        if one?.is_none() && two?.is_none() {
            bail!("nobody could join with a fresh ticket");
        }
    }
    Ok(())
}

/// A machine that tries to join. Returns whether it did.
async fn machine(ticket: &Ticket, at: SocketAddr, which: &str) -> anyhow::Result<Option<()>> {
    let id = ticket.id.to_string();
    let name = format!("{}-{which}", &id[id.len() - 12..]);
    let identity = Identity::generate();
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).context("no randomness")?;
    let request = JoinRequest {
        ticket: ticket.id,
        secret: BASE64.encode(ticket.secret.expose()),
        name: name.parse()?,
        site: "home".parse()?,
        arch: Arch::Amd64,
        wireguard: WireGuardKey::from_bytes(key),
        discovery: DiscoveryKey::from_bytes([1; 32]),
        csr: identity.csr_pem(),
        public: Vec::new(),
        routes: Vec::new(),
    };
    let client = Client::new(vec![at], Trust::Pin(ticket.pin), None, None)?;
    match client.join(&request).await {
        Ok(_) => {
            println!("spent {id} {name}");
            Ok(Some(()))
        }
        Err(_) => Ok(None),
    }
}
