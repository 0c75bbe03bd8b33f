//! That this host is a node: its keys, its certificate, and the clients that use them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bastide_api::v1::{
    Instance, JoinAnswer, NO_MEMBER, RIVAL, RUNS_MAX, RenewAnswer, RenewRequest,
};
use bastide_api::{InstanceId, NodeId, Secret};
use bastide_client::{Client, ClientError, ClientIdentity, Trust};
use bastide_linux::clock::Clock;
use bastide_pki::{Identity, IdentityError, certificate_lifetime};
use tokio::sync::watch;
use tracing::{info, warn};

use super::state::{Membership, Runs, StateDir, StateError};
use crate::core::picture::Standing;
use crate::core::schedule::{Life, retry_after};

/// After how many attempts, 20 s in all, an agent that is not the node asks rarely, and how often.
const OUTSIDE_AFTER: u32 = 8;
const OUTSIDE_RETRY: Duration = Duration::from_secs(60);

/// What went wrong with the membership.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The agent's folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The identity key on disk is no key.
    #[error("the node's identity key cannot be used")]
    Identity(#[source] IdentityError),
    /// The client could not be made.
    #[error("the node's certificate cannot be used")]
    Client(#[source] ClientError),
}

/// The node that this host is. Cheap to clone; all clones see a renewed certificate.
#[derive(Clone)]
pub struct Member {
    inner: Arc<Inner>,
}

struct Inner {
    state: StateDir,
    identity: Identity,
    clock: Clock,
    now: Mutex<Now>,
    /// This run of the agent, and those before it.
    runs: Runs,
    /// Whether the one before it ran elsewhere.
    moved: bool,
    /// Whether a controller answered this run, so that those before it need not be known any more.
    is_known: AtomicBool,
    standing: watch::Sender<Standing>,
}

/// What a renewal replaces.
struct Now {
    membership: Membership,
    channel: Client,
}

impl Member {
    /// Takes up a membership, which is judged by `clock`.
    pub fn new(
        state: StateDir,
        identity: Identity,
        membership: Membership,
        clock: Clock,
    ) -> Result<Self, MembershipError> {
        let addresses = channel_addresses(&membership.answer);
        let channel = client(&identity, &membership.answer, addresses, &clock)?;
        let now = Mutex::new(Now {
            membership,
            channel,
        });
        let mut runs = state.runs()?;
        let place = place();
        let moved = place.is_empty() || place != runs.place;
        runs.place = place;
        runs.ids.insert(0, InstanceId::from_bytes(fresh()));
        while RUNS_MAX < runs.ids.len() {
            // The oldest is the one that a controller answered: it stays.
            runs.ids.remove(1);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                state,
                identity,
                clock,
                now,
                runs,
                moved,
                is_known: AtomicBool::new(false),
                standing: watch::channel(Standing::Member).0,
            }),
        })
    }

    /// Begins a run of the agent: from now on its disk knows of it.
    pub fn begin_run(&self) -> Result<(), MembershipError> {
        Ok(self.inner.state.save_runs(&self.inner.runs)?)
    }

    /// Reports, as this run of the agent. What the control plane makes of this host is noted.
    ///
    /// Not cancel safe: dropped after the request was sent, it may have been served.
    pub async fn report(&self, mut request: RenewRequest) -> Result<RenewAnswer, ClientError> {
        let (id, after) = self
            .inner
            .runs
            .ids
            .split_first()
            .expect("a member has at least its own run");
        request.instance = Some(Instance {
            id: *id,
            after: after.to_vec(),
            moved: self.inner.moved,
        });
        let answer = self.client().renew(&request).await;
        match &answer {
            Ok(_) => {
                if self.inner.standing.send_replace(Standing::Member) != Standing::Member {
                    info!("this host is the node again");
                }
            }
            Err(error) => self.refused(error),
        }
        if answer.is_ok()
            && !self.inner.is_known.swap(true, Ordering::Relaxed)
            && let Err(error) = self.inner.state.save_runs(&Runs {
                ids: vec![*id],
                place: self.inner.runs.place.clone(),
            })
        {
            warn!(%error, "this run of the agent was not noted");
        }
        answer
    }

    /// Notes what a refusal says of this host's standing. Any other error says nothing of it.
    pub fn refused(&self, error: &ClientError) {
        let standing = match error.status() {
            Some(NO_MEMBER) => Standing::Removed,
            Some(RIVAL) => Standing::Rival,
            _ => return,
        };
        if self.inner.standing.send_replace(standing) != standing {
            warn!(%error, "this host is not the node that it was");
        }
    }

    /// What the control plane makes of this host, and hears of each change.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    /// Leaves the cluster: this node's name and addresses are free for others.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let nothing = Some(serde_json::json!({}));
        let left = self.client().call("POST", "/v1/mesh/leave", nothing).await;
        left.map(drop)
    }

    /// Whether what an earlier membership left in the container engine is still to be looked for.
    pub fn is_fresh(&self) -> bool {
        self.with(|now| now.membership.is_fresh)
    }

    /// Notes that nothing of an earlier membership is left in the container engine.
    pub fn settled(&self) -> Result<(), MembershipError> {
        let mut now = self.lock();
        now.membership.is_fresh = false;
        Ok(self.inner.state.save_membership(&now.membership)?)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.with(|now| now.membership.node())
    }

    /// The time that membership is judged by: the controller's, as well as this host knows it.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// What the controller answered when this host joined.
    pub fn answer(&self) -> JoinAnswer {
        self.with(|now| now.membership.answer.clone())
    }

    /// How this host wanted to be a node.
    pub fn settings(&self) -> super::handover::NodeSettings {
        self.with(|now| now.membership.settings.clone())
    }

    /// A client of the controllers' node channel.
    pub fn client(&self) -> Client {
        self.with(|now| now.channel.clone())
    }

    /// Where the controllers' node channel is.
    pub fn channel_addresses(&self) -> Vec<SocketAddr> {
        channel_addresses(&self.answer())
    }

    /// A client of controllers at these addresses: of their channel, or of their API on the mesh.
    pub fn client_of(&self, controllers: Vec<SocketAddr>) -> Result<Client, MembershipError> {
        let answer = self.answer();
        client(
            &self.inner.identity,
            &answer,
            controllers,
            &self.inner.clock,
        )
    }

    /// Returns a certificate request (PEM) if it is time to renew.
    pub fn request_if_due(&self) -> Option<String> {
        let certificate = self.with(|now| now.membership.answer.certificate.clone());
        let life = certificate_lifetime(&certificate).map(|(begins, ends)| Life { begins, ends });
        let is_due = life.is_none_or(|life| life.is_renewal_due(self.inner.clock.now()));
        is_due.then(|| self.inner.identity.csr_pem())
    }

    /// Takes a renewed certificate (PEM): stored first, then used for new connections.
    pub fn renewed(&self, certificate: String) -> Result<(), MembershipError> {
        let mut now = self.lock();
        let mut membership = now.membership.clone();
        membership.answer.certificate = certificate;
        let addresses = channel_addresses(&membership.answer);
        let clock = &self.inner.clock;
        let channel = client(&self.inner.identity, &membership.answer, addresses, clock)?;
        self.inner.state.save_membership(&membership)?;
        *now = Now {
            membership,
            channel,
        };
        Ok(())
    }

    /// Writes down what the clock knows. Failing to is no reason to stop.
    pub fn keep_time(&self) {
        if let Err(error) = self.inner.state.save_clock(&self.inner.clock) {
            tracing::warn!(%error, "the time could not be kept on disk");
        }
    }

    /// How long to wait before attempt number `attempt` to reach the controller. Whoever is not the node
    /// asks from time to time whether that is so still, and no more often: each time is written down.
    pub fn retry_after(&self, attempt: u32) -> Duration {
        if *self.standing().borrow() != Standing::Member && OUTSIDE_AFTER < attempt {
            OUTSIDE_RETRY
        } else {
            retry_after(attempt, self.jitter())
        }
    }

    /// A number that differs between nodes, to spread what they do in time.
    fn jitter(&self) -> u8 {
        self.node().as_bytes()[0]
    }

    fn with<T>(&self, read: impl FnOnce(&Now) -> T) -> T {
        read(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        let now = self.inner.now.lock();
        now.unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(
    identity: &Identity,
    answer: &JoinAnswer,
    addresses: Vec<SocketAddr>,
    clock: &Clock,
) -> Result<Client, MembershipError> {
    let own =
        ClientIdentity::new(&answer.certificate, identity).map_err(MembershipError::Client)?;
    let trust = Trust::Ca(answer.ca.clone());
    Client::with_clock(addresses, trust, Some(own), None, clock).map_err(MembershipError::Client)
}

fn channel_addresses(answer: &JoinAnswer) -> Vec<SocketAddr> {
    answer
        .cluster
        .controllers
        .iter()
        .flat_map(|one| one.channel.iter().copied())
        .collect()
}

/// The identity key: read, or made and stored. It exists before a ticket is spent, so that a join
/// whose answer was lost can be repeated.
pub fn identity(state: &StateDir) -> Result<Identity, MembershipError> {
    if let Some(pem) = state.identity()? {
        return Identity::from_pem(&pem).map_err(MembershipError::Identity);
    }
    let identity = Identity::generate();
    state.save_identity(&identity.key_pem())?;
    Ok(identity)
}

/// Where this process runs: the boot of the machine, and its network. Empty if the kernel does not
/// say.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let network = std::fs::read_link("/proc/self/ns/net");
    match (boot, network) {
        (Ok(boot), Ok(network)) => format!("{} {}", boot.trim(), network.display()),
        _ => String::new(),
    }
}

/// Draws a private key of 32 bytes.
pub fn fresh_key() -> Secret<[u8; 32]> {
    Secret::new(fresh())
}

fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail");
    bytes
}
