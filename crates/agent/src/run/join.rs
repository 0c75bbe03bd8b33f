//! Joining: a ticket becomes a membership.

use std::time::Duration;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use bastide_api::v1::JoinRequest;
use bastide_api::{Arch, DiscoveryKey, Secret, Ticket, TicketError, WireGuardKey};
use bastide_client::{Client, ClientError, Trust};
use bastide_linux::clock::Clock;
use bastide_pki::certificate_made;
use data_encoding::BASE64;
use tracing::{debug, info};

use super::handover::Handover;
use super::membership::{MembershipError, fresh_key, identity};
use super::state::{Membership, StateDir};
use crate::core::schedule::retry_after;

/// How often an unreachable controller is asked before giving up.
const ATTEMPTS: u32 = 8;

/// Why this host did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The ticket is none.
    #[error("the ticket cannot be read")]
    Ticket(#[source] TicketError),
    /// Keys or state could not be kept.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// No controller took the ticket.
    #[error("the cluster did not take this host in")]
    Refused(#[source] ClientError),
}

/// Spends the ticket and stores the membership. Repeated after a lost answer, it gets the same one.
///
/// `clock` is taught on the way, by what is proven: the ticket's end, which comes from the operator,
/// says when it is at the latest, and the certificate that is given says when it is.
pub async fn join(
    state: &StateDir,
    handover: Handover,
    clock: &Clock,
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
    let mut attempt = 0;
    let answer = loop {
        match client.join(&request).await {
            Ok(answer) => break answer,
            Err(error) if error.is_passing() && attempt + 1 < ATTEMPTS => {
                debug!(%error, "controller not reached");
                tokio::time::sleep(retry_after(attempt, 0).min(Duration::from_secs(2))).await;
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
    let membership = Membership {
        answer,
        settings: node,
    };
    state
        .save_membership(&membership)
        .map_err(MembershipError::from)?;
    Ok(membership)
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
