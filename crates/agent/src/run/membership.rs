//! That this host is a node: its keys, its certificate, and the clients that use them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bastide_api::v1::JoinAnswer;
use bastide_api::{NodeId, Secret};
use bastide_client::{Client, ClientError, ClientIdentity, Trust};
use bastide_linux::clock::Clock;
use bastide_pki::{Identity, IdentityError, certificate_lifetime};

use super::state::{Membership, StateDir, StateError};
use crate::core::schedule::Life;

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
        Ok(Self {
            inner: Arc::new(Inner {
                state,
                identity,
                clock,
                now,
            }),
        })
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
        let mut membership = self.with(|now| now.membership.clone());
        membership.answer.certificate = certificate;
        let addresses = channel_addresses(&membership.answer);
        let clock = &self.inner.clock;
        let channel = client(&self.inner.identity, &membership.answer, addresses, clock)?;
        self.inner.state.save_membership(&membership)?;
        let mut now = self
            .inner
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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

    /// A number that differs between nodes, to spread what they do in time.
    pub fn jitter(&self) -> u8 {
        self.node().as_bytes()[0]
    }

    fn with<T>(&self, read: impl FnOnce(&Now) -> T) -> T {
        read(
            &self
                .inner
                .now
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
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

/// Draws a private key of 32 bytes.
pub fn fresh_key() -> Secret<[u8; 32]> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).expect("the system's random source does not fail");
    Secret::new(key)
}
