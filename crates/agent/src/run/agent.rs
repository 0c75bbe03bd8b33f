//! The loop that holds it all together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::v1::PathFact;
use bastide_api::{NodeId, UnixTime, ports};
use bastide_client::{TaskError, TaskGroup};
use bastide_cluster::core::collisions::Collision;
use bastide_cluster::firewall::Rules;
use bastide_cluster::images::Blobs;
use bastide_cluster::{filter, firewall};
use bastide_linux::lock::Lock;
use bastide_linux::netlink;
use bastide_mesh::{Mesh, MeshError, PeerSpec};
use bastide_names::{Zone, upstreams};
use bastide_pki::certificate_made;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::engine::{EngineState, Order};
use super::follow::{self, Picture};
use super::handover::Handover;
use super::host::{self, HostError, INTERFACE, MeshDevice};
use super::images::ImageError;
use super::ledger::Ledger;
use super::membership::{Member, MembershipError, identity};
use super::socket::{self, Question, SocketError};
use super::state::{StateDir, StateError};
use super::{join, preflight};
use crate::core::journal::Change;
use crate::core::picture::Standing;
use crate::core::{desired, picture};

mod answer;
mod start;

/// How often paths are looked at: names and status follow within this time.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a last answer on the socket may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How long the folder may still be held by an agent that is ending.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const FREE_EVERY: Duration = Duration::from_millis(10);

/// How an agent runs.
pub struct AgentOptions {
    /// Its folder.
    pub state: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// A ticket, if this host is not a node yet.
    pub handover: Option<Handover>,
    /// Who is told how it does.
    pub pulse: Arc<dyn Fn(Pulse) + Send + Sync>,
}

/// How an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Its device, routes and rules are in place. Told once.
    Ready,
    /// Its loop goes round. Told several times a second.
    Alive,
}

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// This host is not a node, and there is no ticket.
    #[error("this host is no node of a cluster, and no ticket was given")]
    NoMember,
    /// There is one already.
    #[error("an agent runs on this host already")]
    Runs,
    /// It could not join.
    #[error("this host could not join")]
    Join(#[from] join::JoinError),
    /// Its folder.
    #[error("the agent's folder cannot be used")]
    State(#[from] StateError),
    /// Its keys or certificate.
    #[error("the node's membership cannot be used")]
    Membership(#[from] MembershipError),
    /// Its socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The mesh.
    #[error("the mesh could not be started")]
    Mesh(#[source] MeshError),
    /// The kernel.
    #[error("this host could not be set up")]
    Host(#[from] HostError),
    /// The images.
    #[error("the store of images cannot be used")]
    Images(#[from] ImageError),
    /// The host uses a range of the cluster for something else. Nothing was changed.
    #[error("{0}; this host was not changed")]
    Collides(Box<Collision>),
    /// One of its tasks ended.
    #[error("a part of the agent ended")]
    Task(#[source] TaskError),
}

/// Runs the agent until `stop`. What it changed on the host stays: [`super::undo::leave`] undoes it.
pub async fn run(options: AgentOptions, stop: CancellationToken) -> Result<(), AgentError> {
    let state = StateDir::open(&options.state)?;
    let _alone = take(&state).await?;
    let clock = state.clock();
    let membership = match (state.membership()?, options.handover) {
        (Some(membership), _) => membership,
        (None, Some(handover)) => Box::pin(join::join(&state, handover, &clock, drop)).await?,
        (None, None) => return Err(AgentError::NoMember),
    };
    if let Some(made) = certificate_made(&membership.answer.certificate) {
        clock.at_least(made);
    }
    let member = Member::new(state.clone(), identity(&state)?, membership, clock)?;
    member.begin_run()?;
    // Before the mesh sends anything to anybody: whom it knows from its disk may have been removed.
    follow::catch_up(&state, &member).await;
    let ledger = Ledger::open(&state)?;
    if ledger.to_undo().is_empty() {
        // Nothing is changed yet: the last moment to leave a host as it is.
        let plan = &member.answer().cluster.plan;
        let found = preflight::collisions(plan, &member.settings().engine).await?;
        if let Some(collision) = found.into_iter().next() {
            return Err(AgentError::Collides(Box::new(collision)));
        }
    }
    let agent = Agent::start(state, member, ledger, &options.socket).await?;
    agent.serve(stop, options.pulse).await
}

/// Takes the agent's folder. An agent that was killed may take a moment to end.
async fn take(state: &StateDir) -> Result<Lock, AgentError> {
    let began = Instant::now();
    loop {
        if let Some(lock) = state.take()? {
            return Ok(lock);
        }
        if FREE_WITHIN < began.elapsed() {
            return Err(AgentError::Runs);
        }
        tokio::time::sleep(FREE_EVERY).await;
    }
}

/// The agent, once everything it needs has started.
struct Agent {
    member: Member,
    me: NodeId,
    ledger: Ledger,
    mesh: Mesh,
    device: MeshDevice,
    rules: Option<Rules>,
    paths: watch::Sender<BTreeMap<NodeId, PathFact>>,
    pictures: watch::Receiver<Picture>,
    standing: watch::Receiver<Standing>,
    engine: watch::Receiver<EngineState>,
    /// What the engine's loop is told.
    orders: mpsc::Sender<Order>,
    zone: watch::Sender<Arc<Zone>>,
    image_peers: watch::Sender<Vec<SocketAddr>>,
    upstreams: watch::Sender<Vec<SocketAddr>>,
    blobs: Arc<Blobs>,
    inbox: mpsc::Receiver<Question>,
    socket: PathBuf,
    /// What follows, reports and keeps the engine in step.
    tasks: TaskGroup,
    /// The socket, which outlives the rest in order to tell how that ended.
    front: TaskGroup,
    has_resolver: bool,
    /// Told when something of ours in the kernel was changed by others.
    missing: Arc<Notify>,
    /// Whether this host keeps out of the mesh, because it is no node any more.
    is_outside: bool,
    /// When the first of the peers' certificates ends.
    peers_until: Option<UnixTime>,
}

impl Agent {
    /// Receives, decides, acts, until stopped.
    async fn serve(
        mut self,
        stop: CancellationToken,
        pulse: Arc<dyn Fn(Pulse) + Send + Sync>,
    ) -> Result<(), AgentError> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut network = netlink::Changes::open()
            .and_then(netlink::Changes::into_async)
            .map_err(HostError::Netlink)?;
        self.apply().await?;
        pulse(Pulse::Ready);
        loop {
            let question = tokio::select! {
                () = stop.cancelled() => break,
                changed = self.pictures.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.apply().await?;
                    None
                }
                changed = self.standing.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.apply().await?;
                    None
                }
                _ = look.tick() => {
                    pulse(Pulse::Alive);
                    let now = self.member.clock().now();
                    if self.peers_until.is_some_and(|until| until <= now) {
                        // Who is dropped now stays so, should this host forget what time it is.
                        self.member.keep_time();
                        self.apply().await?;
                    }
                    self.look();
                    None
                }
                () = self.missing.notified() => {
                    self.device = MeshDevice::default();
                    self.rules = None;
                    self.apply().await?;
                    None
                }
                changes = network.next() => {
                    match changes {
                        Ok(_) => self.mesh.network_changed(),
                        Err(error) => debug!(%error, "changes of the network were missed"),
                    }
                    None
                }
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(AgentError::Task)?;
                    None
                }
                Some(ended) = self.front.join_next() => {
                    ended.map_err(AgentError::Task)?;
                    None
                }
                question = self.inbox.recv() => question,
            };
            if let Some(question) = question {
                self.answer(question);
            }
        }
        end(std::mem::take(&mut self.tasks), Duration::ZERO).await;
        end(self.front, ANSWERED_WITHIN).await;
        // Last, because until then it carries what others send.
        self.mesh.stop().await;
        socket::close(&self.socket);
        Ok(())
    }

    /// Brings mesh, kernel and names in line with the picture.
    async fn apply(&mut self) -> Result<(), AgentError> {
        let picture = self.pictures.borrow_and_update().clone();
        let standing = *self.standing.borrow_and_update();
        if !picture::is_node(&picture.view, self.me, standing) {
            if !std::mem::replace(&mut self.is_outside, true) {
                warn!(
                    ?standing,
                    "this host is no node of the cluster and keeps out of the mesh"
                );
            }
            self.peers_until = None;
            self.mesh.set_peers(Vec::new());
            self.image_peers.send_replace(Vec::new());
            self.look();
            return Ok(());
        }
        self.is_outside = false;
        let now = self.member.clock().now();
        let peers = desired::peers(&picture.view, &picture.facts, self.me, now);
        self.peers_until = peers.iter().map(|peer| peer.until).min();
        self.mesh.set_peers(peers.into_iter().map(spec).collect());
        let Some(device) = desired::device(&picture.view, self.me) else {
            return Ok(());
        };
        let plan = &picture.view.cluster.plan;
        host::close_ranges(&self.ledger, &[plan.mesh, plan.containers])?;
        self.device.apply(&device)?;
        self.guard(&picture)?;
        if !self.has_resolver {
            self.start_on_mesh(&picture).await;
        }
        let images = picture
            .view
            .nodes
            .values()
            .filter(|node| node.id != self.me);
        let images = images
            .map(|node| SocketAddr::from((node.address, ports::IMAGES)))
            .collect();
        self.image_peers.send_replace(images);
        self.look();
        Ok(())
    }

    /// Puts the packet filter and the kernel settings in place.
    fn guard(&mut self, picture: &Picture) -> Result<(), AgentError> {
        let Some(own) = picture.view.nodes.get(&self.me) else {
            return Ok(());
        };
        let rules = Rules::new(&picture.view.cluster.plan, own, INTERFACE, 0);
        if self.rules.as_ref() == Some(&rules) {
            return Ok(());
        }
        for change in firewall::host_changes(INTERFACE) {
            self.ledger.set_sysctl(&change.path, change.value)?;
        }
        for family in ["inet", "bridge"] {
            let name = firewall::TABLE.to_owned();
            self.ledger.record(Change::NftTable {
                family: family.to_owned(),
                name,
            })?;
        }
        match filter::apply(&rules) {
            Ok(()) => self.rules = Some(rules),
            Err(error) => warn!(%error, "the packet filter is not in place"),
        }
        Ok(())
    }

    /// Looks at the paths, and tells names and reports when that makes a difference.
    fn look(&mut self) {
        let picture = self.pictures.borrow().clone();
        let paths = self.mesh.paths();
        let limits = desired::limits(&picture.view, &paths, self.me);
        if let Err(error) = self.device.limit(limits) {
            warn!(%error, "routes do not know how much their paths carry");
        }
        let dead = picture::dead(&picture.view, &paths, self.me);
        let mut facts = (*picture.facts).clone();
        facts
            .entry(self.me)
            .or_default()
            .tasks
            .clone_from(&self.engine.borrow().tasks);
        let zone = Zone::build(&picture.view, &facts, &dead);
        self.zone.send_if_modified(|known| {
            let is_news = **known != zone;
            if is_news {
                *known = Arc::new(zone);
            }
            is_news
        });
        self.paths.send_replace(paths);
        let own = IpAddr::V4(picture.view.cluster.plan.dns);
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = upstreams(&text, own);
        self.upstreams.send_if_modified(|known| {
            let is_news = *known != servers;
            *known = servers;
            is_news
        });
    }
}

/// Ends tasks: within that time those that watch for it, then the others.
async fn end(tasks: TaskGroup, within: Duration) {
    let (error, aborted) = tasks.shutdown(Instant::now() + within).await;
    if error.is_some() || !aborted.is_empty() {
        debug!(?error, ?aborted, "tasks ended");
    }
}

fn spec(peer: desired::Peer) -> PeerSpec {
    PeerSpec {
        node: peer.node,
        wireguard: peer.wireguard,
        discovery: peer.discovery,
        allowed: peer.allowed,
        candidates: peer.candidates,
        relay: peer.relay,
    }
}
