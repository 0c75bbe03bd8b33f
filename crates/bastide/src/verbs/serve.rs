//! The daemons: `bastide server` and `bastide agent`.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bastide_agent::{AgentError, AgentOptions, HANDOVER_BYTES_MAX, Handover, NodeSettings, Pulse};
use bastide_api::{
    AddressPlan, ClusterId, ClusterName, ClusterRecord, NodeName, Secret, SwarmSettings, ports,
};
use bastide_control::core::registry::Registry;
use bastide_control::run::channel::{self, Begin, ControllerCrew, Listen};
use bastide_control::run::dev as control_dev;
use bastide_control::run::gate::{Gate, GateConfig, Gatehouse};
use bastide_control::run::outbox::AuditTo;
use bastide_control::run::server::{SealKey, Server as ControlServer, ServerConfig};
use bastide_linux::{file, lock, memory};
use bastide_store::{KeyFileSeal, Sharing};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cli::{Agent, Server, Up};
use crate::exit::{Exit, Failure};
use crate::notify::Notifier;
use crate::verbs::{ending, services, standalone};
use crate::{output, paths};

/// How long a folder may still be held by a daemon that is ending.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const FREE_EVERY: Duration = Duration::from_millis(10);

/// The store's file in the server's folder.
const STORE: &str = "store.redb";
/// The certificates with which a server that is sealed by shares says so.
const KEPT: &str = "sealed.json";
/// The server's socket.
const SOCKET: &str = "server.sock";

/// Runs the agent until it is told to end.
pub async fn agent(arguments: Agent) -> anyhow::Result<()> {
    memory::harden().context("could not protect this process's memory")?;
    let handover = if arguments.handover {
        Some(read_handover(std::io::stdin().lock())?)
    } else {
        read_handover_file()?
    };
    let notifier = Arc::new(Notifier::from_environment());
    let options = AgentOptions {
        state: arguments.state,
        socket: paths::AGENT_SOCKET.into(),
        handover,
        pulse: {
            let notifier = Arc::clone(&notifier);
            Arc::new(move |pulse| match pulse {
                Pulse::Ready => {
                    delete_handover_file();
                    notifier.ready();
                }
                Pulse::Alive => notifier.alive(),
            })
        },
    };
    let stop = CancellationToken::new();
    let run = bastide_agent::run(options, stop.clone());
    match Box::pin(until_told_to_end(run, stop, &notifier)).await {
        Err(AgentError::Collides(collision)) => {
            let what = format!("{collision}; this host was not changed");
            Err(Failure::new(Exit::Conflict, what)
                .hint(format!(
                    "give the range up, and what was begun goes on: {}",
                    collision.mend()
                ))
                .into())
        }
        ended => ended.context("the agent ended"),
    }
}

fn read_handover(from: impl Read) -> anyhow::Result<Handover> {
    serde_json::from_reader(from.take(HANDOVER_BYTES_MAX)).context("the handover cannot be read")
}

/// Under systemd `join` leaves the handover in a file, for as long as it takes: an agent that fails to
/// join is started again, and the same ticket with the same keys gets the same answer.
fn read_handover_file() -> anyhow::Result<Option<Handover>> {
    let path = Path::new(paths::AGENT_HANDOVER);
    let bytes = file::read_bounded(path, HANDOVER_BYTES_MAX)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    let bytes = bytes.map(Secret::new);
    bytes
        .map(|bytes| read_handover(bytes.expose().as_slice()))
        .transpose()
}

/// Deletes it, once this host is a node.
fn delete_handover_file() {
    match std::fs::remove_file(paths::AGENT_HANDOVER) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = paths::AGENT_HANDOVER, "the spent ticket stays");
        }
        _ => {}
    }
}

/// Runs a daemon; a signal to end cancels `stop` and waits for it.
async fn until_told_to_end<T>(
    daemon: impl Future<Output = T>,
    stop: CancellationToken,
    notifier: &Notifier,
) -> T {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::pin!(daemon);
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    tokio::select! {
        result = &mut daemon => return result,
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    notifier.stopping();
    stop.cancel();
    daemon.await
}

/// Tells the service manager that this process still runs its tasks, until dropped.
async fn keep_alive(notifier: &Notifier) -> std::convert::Infallible {
    let Some(every) = notifier.every() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        notifier.alive();
    }
}

/// What the first start of a server needs: from `up`, on standard input.
#[derive(Serialize, Deserialize)]
struct Bootstrap {
    /// The seal's key, in base64; `None`: it is shared out. Zeroise after use.
    seal_key: Option<String>,
    /// How it is shared out.
    sharing: Option<Sharing>,
    /// The cluster's name.
    name: ClusterName,
    /// Its address plan.
    plan: AddressPlan,
    /// Where the world reaches the node channel.
    channel: Vec<SocketAddr>,
    /// How its Swarm is driven.
    swarm: SwarmSettings,
    /// The first node's name.
    node_name: NodeName,
}

/// What follows from it: to `up`, on standard output.
#[derive(Serialize, Deserialize)]
pub struct Bootstrapped {
    /// The operator's token.
    pub token: String,
    /// The cluster's CA (PEM).
    pub ca: String,
    /// The ticket for the agent of this host.
    pub ticket: String,
    /// The shares that open the server, in base64; none if a key file does.
    pub shares: Vec<String>,
}

/// Begins a cluster: a process that runs as the server will, without root, makes its store, sealed by
/// a key file or by shares. Nothing has begun before [`settle`]: cut off until then, it is made anew.
pub async fn bootstrap(
    arguments: &Up,
    node: &NodeSettings,
    plan: AddressPlan,
    sharing: Option<Sharing>,
) -> anyhow::Result<Bootstrapped> {
    let (uid, gid) = services::server_user()?;
    make_folders(uid, gid)?;
    match std::fs::remove_dir_all(paths::SERVER_BEGIN) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("could not clear what an earlier start left");
        }
        _ => {}
    }
    let seal_key = match sharing {
        Some(_) => None,
        None => {
            let seal = KeyFileSeal::open_or_create(Path::new(paths::SEAL_KEY))?;
            Some(BASE64.encode(seal.key().expose()))
        }
    };
    let channel = node
        .public
        .iter()
        .map(|public| SocketAddr::new(public.ip(), ports::CHANNEL));
    let mut channel: Vec<_> = channel.collect();
    if channel.is_empty() {
        let address = services::likely_address()?;
        output::note(format!(
            "other machines will be told to join at {address}; if they reach this one elsewhere, \
             begin anew with `--public ADDRESS`"
        ));
        channel.push(SocketAddr::new(address, ports::CHANNEL));
    }
    let asked = Bootstrap {
        seal_key,
        sharing,
        name: arguments.cluster.clone(),
        plan,
        channel,
        swarm: SwarmSettings {
            heartbeat_ms: arguments.swarm_heartbeat_ms,
            rebalance_after_ms: arguments.rebalance_after_s.saturating_mul(1000),
        },
        node_name: node.name.clone(),
    };
    let asked = Secret::new(serde_json::to_vec(&asked).context("could not encode the request")?);
    let words = ["server", "--bootstrap", "--state", paths::SERVER_BEGIN];
    let mut child = services::server_command(&words)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("could not start the server")?;
    services::give(&mut child, asked.expose())
        .await
        .context("could not speak to the server")?;
    let output = child
        .wait_with_output()
        .await
        .context("could not wait for the server")?;
    ensure!(
        output.status.success(),
        "the server could not begin a cluster: {}",
        output.status
    );
    let answer: Bootstrapped =
        serde_json::from_slice(&output.stdout).context("the server's answer cannot be read")?;
    keep(paths::OPERATOR_TOKEN, answer.token.as_bytes())?;
    // Anyone may read it: it is what clients of the API trust.
    std::fs::write(paths::CA, &answer.ca)
        .with_context(|| format!("could not write `{}`", paths::CA))?;
    Ok(answer)
}

/// Puts what was begun in its place: from now on this host has a cluster.
pub fn settle() -> anyhow::Result<()> {
    settle_in(Path::new(paths::SERVER_BEGIN), Path::new(paths::SERVER))
        .context("could not put the new store in its place")
}

/// The store comes last: without it nothing has begun.
fn settle_in(from: &Path, to: &Path) -> std::io::Result<()> {
    for name in ["audit.log", STORE] {
        std::fs::rename(from.join(name), to.join(name))?;
        std::fs::File::open(to)?.sync_all()?;
    }
    std::fs::remove_dir_all(from)
}

fn keep(path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    file::write_private(Path::new(path), bytes).with_context(|| format!("could not write `{path}`"))
}

fn make_folders(uid: u32, gid: u32) -> anyhow::Result<()> {
    for path in [paths::SETTINGS, paths::STATE] {
        std::fs::create_dir_all(path).with_context(|| format!("could not make `{path}`"))?;
    }
    file::create_private_dir(Path::new(paths::SERVER))
        .and_then(|()| std::os::unix::fs::chown(paths::SERVER, Some(uid), Some(gid)))
        .with_context(|| format!("could not make `{}`", paths::SERVER))
}

/// Runs the server.
pub async fn server(arguments: Server) -> anyhow::Result<()> {
    memory::harden().context("could not protect this process's memory")?;
    memory::keep_small_pages();
    if arguments.dev {
        return dev(arguments).await;
    }
    if !arguments.config.is_empty() {
        return standalone::run(arguments).await;
    }
    if arguments.bootstrap {
        return begin(&arguments).await;
    }
    let _alone = take(&ending::server_lock_in(&arguments.state)).await?;
    let seal = if arguments.handover {
        let mut text = String::new();
        let read = std::io::stdin()
            .take(HANDOVER_BYTES_MAX)
            .read_to_string(&mut text);
        read.context("could not read the seal's key")?;
        let text = Secret::new(text);
        match text.expose().trim() {
            "" => SealKey::Absent,
            key => SealKey::Given(seal_key(key)?),
        }
    } else {
        SealKey::File(credential())
    };
    ensure!(
        arguments.state.join(STORE).exists(),
        "this server has begun no cluster: begin one with `bastide up`"
    );
    let crew = ControllerCrew::new(Some(arguments.state.join(KEPT)), Box::new(listens_at));
    let config = GateConfig {
        server: config(&arguments, seal, String::new()),
        cluster: fresh_cluster_id()?,
        registry: Registry::built_in,
        seals: Vec::new(),
        seals_disabled: Vec::new(),
    };
    let mut server = Gatehouse::start(config, Box::new(crew)).await?;
    server.listen_here(&arguments.state.join(SOCKET))?;
    let ended = attend(server.failed(), reopen_on_hangup(server.gate())).await;
    server.stop().await;
    ended
}

/// Stays with a server that has started until it is told to end, or until its store has failed; does
/// what is to be done at hangups meanwhile.
pub(super) async fn attend(
    failed: impl Future<Output = ()>,
    hangups: impl Future<Output = Infallible>,
) -> anyhow::Result<()> {
    let notifier = Notifier::from_environment();
    notifier.ready();
    let stop = CancellationToken::new();
    let ends = async {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = keep_alive(&notifier) => match never {},
            // A store that failed once takes no writes until it is opened anew.
            () = failed => Err(anyhow!("the store takes no more writes: see the log")),
            never = hangups => match never {},
        }
    };
    until_told_to_end(ends, stop.clone(), &notifier).await
}

/// Begins a new audit file whenever a hangup says that the old one was moved away.
async fn reopen_on_hangup(gate: &Gate) -> Infallible {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).expect("signals can be listened for");
    while hangups.recv().await.is_some() {
        if let Some(plane) = gate.plane() {
            plane.reopen_audit().await;
        }
    }
    std::future::pending().await
}

/// Returns where a controller listens.
fn listens_at(record: &ClusterRecord) -> Option<Listen> {
    // The host that began the cluster joined it first, so its address is the plan's first.
    let own = record.plan.slot(0)?.0;
    Some(Listen {
        channel: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, ports::CHANNEL))],
        api: vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, ports::API)),
            SocketAddr::from((own, ports::API)),
        ],
    })
}

/// Takes the server's folder. A server that was killed may take a moment to end.
async fn take(path: &Path) -> anyhow::Result<lock::Lock> {
    let began = Instant::now();
    loop {
        let taken = lock::take(path);
        let taken = taken.with_context(|| format!("could not take `{}`", path.display()))?;
        if let Some(lock) = taken {
            return Ok(lock);
        }
        ensure!(
            began.elapsed() < FREE_WITHIN,
            "a server runs on this host already"
        );
        tokio::time::sleep(FREE_EVERY).await;
    }
}

/// Begins a cluster with what standard input says.
async fn begin(arguments: &Server) -> anyhow::Result<()> {
    let asked: Bootstrap = serde_json::from_reader(std::io::stdin().take(HANDOVER_BYTES_MAX))
        .context("the request cannot be read")?;
    let (cluster, registry) = (fresh_cluster_id()?, Registry::built_in());
    let (server, root, shares) = if let Some(key) = asked.seal_key.map(Secret::new) {
        let seal = SealKey::Given(seal_key(key.expose())?);
        let config = config(arguments, seal, asked.name.to_string());
        let (server, root) = ControlServer::start(&config, cluster, registry)?;
        let root = root.context("this server's store exists already")?;
        (server, root, Vec::new())
    } else {
        let sharing = asked.sharing.context("the request names no seal")?;
        let config = config(arguments, SealKey::Absent, asked.name.to_string());
        let (server, made) = ControlServer::start_shared(&config, cluster, registry, sharing)?;
        (server, made.root, made.shares)
    };
    let begun = channel::begin(
        server.plane(),
        Begin {
            name: asked.name,
            plan: asked.plan,
            channel: asked.channel,
            swarm: asked.swarm,
            node_name: asked.node_name,
        },
    )
    .await?;
    let answer = Bootstrapped {
        token: root.expose().clone(),
        ca: begun.ca,
        ticket: begun.ticket.expose().clone(),
        shares: shares
            .iter()
            .map(|share| BASE64.encode(share.expose()))
            .collect(),
    };
    let text = Secret::new(serde_json::to_string(&answer).context("could not encode the answer")?);
    server.stop().await;
    output::data(text.expose());
    Ok(())
}

fn config(arguments: &Server, seal: SealKey, cluster_name: String) -> ServerConfig {
    let audit = Some(AuditTo::file(arguments.state.join("audit.log")));
    ServerConfig {
        audit,
        cluster_name,
        ..ServerConfig::in_folder(&arguments.state, seal)
    }
}

pub(super) fn fresh_cluster_id() -> anyhow::Result<ClusterId> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).context("the system's random source does not answer")?;
    Ok(ClusterId::from_bytes(id))
}

fn seal_key(text: &str) -> anyhow::Result<Secret<[u8; 32]>> {
    let bytes = BASE64.decode(text.as_bytes()).ok().map(Secret::new);
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.expose().as_slice()).ok());
    key.map(Secret::new)
        .context("the seal's key has a wrong form")
}

/// The seal's key as systemd hands it to the server's unit, or where it lies for root.
fn credential() -> PathBuf {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) => Path::new(&folder).join("seal.key"),
        None => PathBuf::from(paths::SEAL_KEY),
    }
}

/// Runs the development server.
async fn dev(arguments: Server) -> anyhow::Result<()> {
    let root = arguments.root_token.map(Secret::new);
    let server = control_dev::start(arguments.listen, root).await?;
    output::note("WARNING: a development server. It keeps everything in memory, is unsealed, and");
    output::note("speaks plain HTTP: use it to try things out, and for nothing else.");
    output::note(format!(
        "\n    export VAULT_ADDR='http://{}'\n",
        server.address
    ));
    output::data(format!("Root Token: {}", server.root_token.expose()));
    let notifier = Notifier::from_environment();
    notifier.ready();
    let stop = CancellationToken::new();
    until_told_to_end(stop.clone().cancelled_owned(), stop, &notifier).await;
    server.server.stop().await;
    Ok(())
}
