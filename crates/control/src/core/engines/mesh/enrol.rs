//! Making a machine a node: id, name, addresses, certificate, membership, in one batch.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bastide_api::v1::JoinAnswer;
use bastide_api::{
    Arch, DiscoveryKey, EntryKey, NodeId, NodeName, NodeRecord, SiteName, Tag, TicketId,
    WireGuardKey,
};
use bastide_pki::ProvenKey;
use ipnet::Ipv4Net;
use serde_json::json;

use super::stored::{self, StoredNode};
use super::{authority, claims, routes, view};
use crate::core::engine::Context;
use crate::core::leases::{LeaseId, Owner};
use crate::core::refusal::Refusal;
use crate::core::reply::Grant;

/// Most addresses that a node's operator declares.
pub(super) const PUBLIC_MAX: usize = 8;
/// A membership can be renewed for as long as the cluster lives.
const MEMBERSHIP_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Proof that somebody may make one machine a node. Only auth methods that spend something for it
/// make one; [`enrol`] consumes it, so one proof admits one node.
#[derive(Debug)]
#[must_use]
pub struct Admission {
    ticket: TicketId,
    node: Option<NodeId>,
    tags: BTreeSet<Tag>,
}

impl Admission {
    /// A ticket was spent; `node` is the id that the node is to have, if it is known already.
    pub(in crate::core) fn by_ticket(
        ticket: TicketId,
        node: Option<NodeId>,
        tags: BTreeSet<Tag>,
    ) -> Self {
        Self { ticket, node, tags }
    }
}

/// A machine that wants to be a node.
pub struct Applicant {
    /// The name it wants.
    pub name: NodeName,
    /// Where it stands.
    pub site: SiteName,
    /// What it runs on.
    pub arch: Arch,
    /// Its WireGuard key.
    pub wireguard: WireGuardKey,
    /// Its discovery key.
    pub discovery: DiscoveryKey,
    /// Its identity key.
    pub identity: ProvenKey,
    /// Where the world reaches its mesh port.
    pub public: Vec<SocketAddr>,
    /// Subnets that it offers to be the gateway for.
    pub routes: Vec<Ipv4Net>,
}

impl Applicant {
    /// Refuses what could not become a node now, before anybody is asked to approve of it. `ctx` must
    /// be of the mount `mesh/`; `id` is the node that it would be.
    pub fn check(&self, ctx: &mut Context<'_, '_>, id: NodeId) -> Result<(), Refusal> {
        check_public(&self.public)?;
        routes::check_sane(&self.routes)?;
        claims::check_name_is_free(ctx, &self.name)?;
        claims::check_keys(ctx, &self.wireguard, &self.identity.fingerprint(), id)
    }
}

/// Makes `applicant` a node. `ctx` must be of the mount `mesh/`.
pub fn enrol(
    ctx: &mut Context<'_, '_>,
    admission: Admission,
    applicant: Applicant,
) -> Result<JoinAnswer, Refusal> {
    let cluster = super::cluster(ctx)?;
    check_public(&applicant.public)?;
    routes::check_sane(&applicant.routes)?;
    let (authority, keys) = authority::load(ctx)?;
    let id = match admission.node {
        Some(id) => id,
        None => NodeId::from_bytes(ctx.entropy().bytes()),
    };
    if ctx.get(&stored::node(id))?.is_some() {
        return Err(Refusal::invalid(format!("node `{id}` has joined already")));
    }
    let fingerprint = applicant.identity.fingerprint();
    claims::name(ctx, &applicant.name, id)?;
    claims::keys(ctx, &applicant.wireguard, &fingerprint, id)?;
    let slot = claims::slot(ctx, &cluster, id)?;
    let (address, containers) = cluster
        .plan
        .slot(slot)
        .expect("a slot that was claimed is within the plan");
    let serial = ctx.entropy().bytes();
    let issued = authority.sign_node(&applicant.identity, id, authority::validity(ctx), serial);
    let record = NodeRecord {
        id,
        name: applicant.name,
        site: applicant.site,
        arch: applicant.arch,
        address,
        containers,
        wireguard: applicant.wireguard,
        discovery: applicant.discovery,
        public: applicant.public,
        routes: Vec::new(),
        tags: admission.tags,
        expires: issued.expires,
    };
    let lease = grant(ctx, id)?;
    let node = StoredNode {
        format: 1,
        slot,
        lease,
        joined: ctx.now(),
        ticket: admission.ticket,
        offered: applicant.routes,
        identity: Some(fingerprint),
    };
    ctx.save(&stored::node(id), &node)?;
    view::publish(ctx, &EntryKey::Node(id), &record)?;
    Ok(JoinAnswer {
        node: record,
        cluster,
        certificate: issued.pem,
        ca: authority.certificate_pem().to_owned(),
        view_key: bastide_pki::ViewSigner::from_seed(&keys.view_seed()).public_key(),
    })
}

fn grant(ctx: &mut Context<'_, '_>, id: NodeId) -> Result<LeaseId, Refusal> {
    let membership = Grant {
        ttl: authority::MEMBERSHIP_LIFE,
        ttl_max: MEMBERSHIP_MAX,
        // A node renews by its certificate, not by knowing its lease's id.
        renewable: false,
        data: json!({ "node": id }),
    };
    ctx.grant(&format!("mesh/nodes/{id}"), membership, Owner::Nobody)
}

pub(super) fn check_public(public: &[SocketAddr]) -> Result<(), Refusal> {
    if PUBLIC_MAX < public.len() {
        return Err(Refusal::invalid(format!(
            "a node declares at most {PUBLIC_MAX} addresses"
        )));
    }
    let is_wrong =
        |to: &&SocketAddr| to.port() == 0 || to.ip().is_unspecified() || to.ip().is_multicast();
    match public.iter().find(is_wrong) {
        Some(wrong) => Err(Refusal::invalid(format!(
            "`{wrong}` is not an address that a node can be reached at"
        ))),
        None => Ok(()),
    }
}
