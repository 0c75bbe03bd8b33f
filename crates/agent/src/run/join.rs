//! Joining: a ticket becomes a membership.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use bastide_api::v1::{JoinReply, JoinRequest, NO_MEMBER, RenewRequest};
use bastide_api::{
    Arch, Controller, DiscoveryKey, NodeName, Secret, Ticket, TicketError, WaitingJoin,
    WireGuardKey,
};
use bastide_client::{Client, ClientError, Trust};
use bastide_linux::clock::Clock;
use bastide_pki::certificate_made;
use data_encoding::BASE64;
use tracing::{debug, info};

use super::handover::Handover;
use super::membership::{Member, MembershipError, fresh_key, identity};
use super::state::{Membership, StateDir};
use crate::core::schedule::retry_after;

/// How often an unreachable controller is asked before giving up.
const ATTEMPTS: u32 = 8;
/// How often a machine that waits to be approved asks.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long a host that is a node already asks whether it still is.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// How long telling the cluster that this host leaves may take.
const LEAVING_WITHIN: Duration = Duration::from_secs(3);

/// Why this host did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The ticket is none.
    #[error("the ticket cannot be read")]
    Ticket(#[source] TicketError),
    /// Keys or state could not be kept.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// An agent runs, or another join.
    #[error("this host's agent runs, or it is joining already")]
    Busy,
    /// It is a node of another cluster.
    #[error("this host is node `{name}` of another cluster")]
    OtherCluster {
        /// The node's name.
        name: NodeName,
    },
    /// It is a node that was removed.
    #[error("this host was node `{name}`, which was removed from the cluster")]
    Removed {
        /// The node's name.
        name: NodeName,
    },
    /// No controller took the ticket.
    #[error("the cluster did not take this host in")]
    Refused(#[source] ClientError),
}

/// How a join goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joining {
    /// An operator has to approve. Told once.
    Waits(WaitingJoin),
    /// This host is a node.
    Joined(NodeName),
    /// It was one already; the ticket was not spent.
    WasMember(NodeName),
}

/// Makes this host a node, in the agent's folder at `state`: its agent then needs no ticket. Repeated
/// after a lost answer, or cut off while it waited, it goes on where it was.
pub async fn join_host(
    state: &Path,
    handover: Handover,
    mut tell: impl FnMut(Joining),
) -> Result<(), JoinError> {
    let state = StateDir::open(state).map_err(MembershipError::from)?;
    let alone = state.take().map_err(MembershipError::from)?;
    let _alone = alone.ok_or(JoinError::Busy)?;
    if let Some(known) = state.membership().map_err(MembershipError::from)? {
        let ticket: Ticket = handover.ticket.parse().map_err(JoinError::Ticket)?;
        let name = known.answer.node.name.clone();
        if known.answer.cluster.id != ticket.cluster {
            return Err(JoinError::OtherCluster { name });
        }
        let identity = identity(&state)?;
        let member = Member::new(state.clone(), identity, known, state.clock())?;
        let (client, nothing) = (member.client(), RenewRequest::default());
        let asked = client.renew(&nothing);
        // Without a word from a controller it is the node that it was.
        if let Ok(Err(error)) = tokio::time::timeout(KNOWN_WITHIN, asked).await
            && error.status() == Some(NO_MEMBER)
        {
            return Err(JoinError::Removed { name });
        }
        tell(Joining::WasMember(name));
        return Ok(());
    }
    let clock = state.clock();
    join(&state, handover, &clock, tell).await.map(drop)
}

/// Spends the ticket and stores the membership. Repeated after a lost answer, it gets the same one.
///
/// `clock` is taught on the way, by what is proven: the ticket's end, which comes from the operator,
/// says when it is at the latest, and the certificate that is given says when it is.
pub async fn join(
    state: &StateDir,
    handover: Handover,
    clock: &Clock,
    mut tell: impl FnMut(Joining),
) -> Result<Membership, JoinError> {
    let Handover { ticket, node } = handover;
    let ticket = Secret::new(ticket);
    let ticket: Ticket = ticket.expose().parse().map_err(JoinError::Ticket)?;
    let identity = identity(state)?;
    let wireguard = state.wireguard(fresh_key).map_err(MembershipError::from)?;
    let discovery = state.discovery(fresh_key).map_err(MembershipError::from)?;
    let request = JoinRequest {
        ticket: ticket.id,
        secret: BASE64.encode(ticket.secret.expose()),
        name: node.name.clone(),
        site: node.site.clone(),
        arch: Arch::HERE,
        wireguard: WireGuardKey::from_bytes(public_key(&wireguard)),
        discovery: DiscoveryKey::from_bytes(public_key(&discovery)),
        csr: identity.csr_pem(),
        public: node.public.clone(),
        routes: node.routes.clone(),
    };
    let joining = Clock::following(None);
    if ticket.expires < clock.now() {
        // Either this host's clock is ahead, or the ticket is over, which the controller will say.
        joining.learn(ticket.expires);
    }
    let client = Client::with_clock(
        ticket.controllers.clone(),
        Trust::Pin(ticket.pin),
        None,
        None,
        &joining,
    )
    .map_err(JoinError::Refused)?;
    let (mut attempt, mut is_told) = (0, false);
    let answer = loop {
        match client.apply(&request).await {
            Ok(JoinReply::Joined(answer)) => break *answer,
            Ok(JoinReply::Waiting(waiting)) => {
                attempt = 0;
                if !std::mem::replace(&mut is_told, true) {
                    tell(Joining::Waits(waiting));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
            // Who waits for a person can wait for a controller, too.
            Err(error) if error.is_passing() && (is_told || attempt + 1 < ATTEMPTS) => {
                debug!(%error, "controller not reached");
                tokio::time::sleep(retry_after(attempt, 0).min(ASK_EVERY)).await;
                attempt += 1;
            }
            Err(error) => return Err(JoinError::Refused(error)),
        }
    };
    if let Some(made) = certificate_made(&answer.certificate) {
        clock.learn(made);
        state.save_clock(clock).map_err(MembershipError::from)?;
    }
    info!(node = %answer.node.id, address = %answer.node.address, "joined the cluster");
    tell(Joining::Joined(answer.node.name.clone()));
    let membership = Membership {
        answer,
        settings: node,
        is_fresh: true,
    };
    state
        .save_membership(&membership)
        .map_err(MembershipError::from)?;
    Ok(membership)
}

/// Tells the cluster that this host leaves it, as the node that the agent's folder at `state` says;
/// `None` if it is none, or runs the control plane.
pub async fn tell_leaving(state: &Path) -> Option<Result<(), String>> {
    let member = member_of(state)?;
    let left = tokio::time::timeout(LEAVING_WITHIN, member.leave()).await;
    Some(match left {
        // It was removed before.
        Ok(Err(error)) if error.status() == Some(NO_MEMBER) => Ok(()),
        Ok(left) => left.map_err(|error| error.to_string()),
        Err(_) => Err("no controller answered".to_owned()),
    })
}

fn member_of(state: &Path) -> Option<Member> {
    if !state.is_dir() {
        return None;
    }
    let state = StateDir::open(state).ok()?;
    let membership = state.membership().ok()??;
    let is_controller = |one: &Controller| one.node == membership.node();
    if membership
        .answer
        .cluster
        .controllers
        .iter()
        .any(is_controller)
    {
        return None;
    }
    let clock = state.clock();
    Member::new(state.clone(), identity(&state).ok()?, membership, clock).ok()
}

/// The public half of an X25519 key.
fn public_key(private: &Secret<[u8; 32]>) -> [u8; 32] {
    let key = PrivateKey::from_private_key(&X25519, private.expose())
        .expect("any 32 bytes are an X25519 key");
    let public = key
        .compute_public_key()
        .expect("an X25519 key has a public half");
    public
        .as_ref()
        .try_into()
        .expect("an X25519 public key has 32 bytes")
}
