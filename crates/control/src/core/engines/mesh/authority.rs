//! The cluster's beginning, its authority, and the certificates of controllers.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::{
    AddressPlan, ClusterName, ClusterRecord, Controller, EntryKey, NodeId, SwarmSettings,
};
use bastide_pki::{Authority, ProvenKey, Validity, ViewSigner};
use bastide_store::{BarrierError, OpenSnapshot};
use serde::Deserialize;
use serde_json::json;

use super::stored::{AUTHORITY, StoredAuthority};
use super::view;
use crate::core::draft::key;
use crate::core::engine::{Call, Caller, Context};
use crate::core::mounts::MountId;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::tables;

/// How long a node is a member without renewing: it may come back, with the key that it joined with,
/// though its certificate has ended.
pub const MEMBERSHIP_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// How long certificates of nodes and controllers are good: the longest outage of the control plane
/// in which nodes keep each other as peers.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Most controllers of a cluster, and most addresses of one.
const CONTROLLERS_MAX: usize = 7;
const CHANNELS_MAX: usize = 4;
/// Most addresses in a controller's certificate.
const ADDRESSES_MAX: usize = 16;

/// What a cluster begins with.
#[derive(Deserialize)]
struct Begin {
    name: ClusterName,
    plan: AddressPlan,
    controllers: Vec<Controller>,
    #[serde(default)]
    swarm: SwarmSettings,
}

pub(super) fn create(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    program_only(ctx)?;
    if view::read::<ClusterRecord>(ctx, &EntryKey::Cluster)?.is_some() {
        return Err(Refusal::invalid("the cluster has begun already"));
    }
    let begin: Begin = call.parse()?;
    let wrong = |error: bastide_api::PlanError| Refusal::invalid(error.to_string());
    begin.plan.check().map_err(wrong)?;
    let is_named = !begin.controllers.is_empty()
        && begin.controllers.len() <= CONTROLLERS_MAX
        && begin.controllers.iter().all(|controller| {
            !controller.channel.is_empty() && controller.channel.len() <= CHANNELS_MAX
        });
    if !is_named {
        return Err(Refusal::invalid(format!(
            "a cluster has 1 to {CONTROLLERS_MAX} controllers, each with 1 to {CHANNELS_MAX} \
             addresses"
        )));
    }
    let id = ctx.draft.source().barrier().cluster();
    let serial = ctx.entropy().bytes();
    let authority = Authority::create(id, ctx.now(), serial);
    let stored = StoredAuthority {
        format: 1,
        key: authority.key_pem().expose().clone(),
        certificate: authority.certificate_pem().to_owned(),
        view_seed: ctx.entropy().bytes(),
    };
    ctx.save(AUTHORITY, &stored)?;
    let record = ClusterRecord {
        id,
        name: begin.name,
        plan: begin.plan,
        controllers: begin.controllers,
        swarm: begin.swarm,
    };
    view::publish(ctx, &EntryKey::Cluster, &record)?;
    Ok(described(&authority, &stored))
}

pub(super) fn read(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let (authority, stored) = load(ctx)?;
    Ok(described(&authority, &stored))
}

fn described(authority: &Authority, stored: &StoredAuthority) -> Answer {
    Answer::json(json!({
        "cluster": authority.cluster(),
        "certificate": authority.certificate_pem(),
        "pin": data_encoding::HEXLOWER.encode(&authority.pin().0),
        "view_key": ViewSigner::from_seed(&stored.view_seed()).public_key(),
    }))
}

/// What a controller's process asks to have certified.
#[derive(Deserialize)]
struct ControllerKey {
    csr: String,
    /// Where clients reach it that look for addresses in certificates.
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

pub(super) fn certify_controller(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    node: NodeId,
) -> Result<Answer, Refusal> {
    program_only(ctx)?;
    let cluster = super::cluster(ctx)?;
    if !is_controller(&cluster, node) {
        return Err(Refusal::invalid("this node is no controller"));
    }
    let asked: ControllerKey = call.parse()?;
    let key =
        ProvenKey::from_request(&asked.csr).map_err(|why| Refusal::invalid(why.to_string()))?;
    if ADDRESSES_MAX < asked.addresses.len() {
        return Err(Refusal::invalid("a controller has fewer addresses"));
    }
    let (authority, _) = load(ctx)?;
    let serial = ctx.entropy().bytes();
    let issued = authority.sign_controller(&key, node, &asked.addresses, validity(ctx), serial);
    Ok(Answer::json(json!({
        "certificate": issued.pem,
        "ca": authority.certificate_pem(),
        "expires": issued.expires,
    })))
}

/// Returns the pin of the cluster's authority; `ctx` must be of the mount `mesh/`.
pub fn pin(ctx: &mut Context<'_, '_>) -> Result<[u8; 32], Refusal> {
    let (authority, _) = load(ctx)?;
    Ok(authority.pin().0)
}

/// Returns whether a node runs the control plane.
pub fn is_controller(cluster: &ClusterRecord, node: NodeId) -> bool {
    cluster
        .controllers
        .iter()
        .any(|controller| controller.node == node)
}

pub(super) fn validity(ctx: &Context<'_, '_>) -> Validity {
    Validity {
        now: ctx.now(),
        life: CERTIFICATE_LIFE,
    }
}

/// Loads the authority; `ctx` must be of the mount `mesh/`.
pub(super) fn load(ctx: &mut Context<'_, '_>) -> Result<(Authority, StoredAuthority), Refusal> {
    let stored: Option<StoredAuthority> = ctx.load(AUTHORITY)?;
    let stored = stored
        .ok_or_else(|| Refusal::Unavailable("this server has begun no cluster".to_owned()))?;
    let authority = Authority::load(&stored.key(), &stored.certificate)
        .map_err(|error| Refusal::corrupt("authority", error))?;
    Ok((authority, stored))
}

/// Returns what signs in the cluster's name; `ctx` may be of any mount.
pub fn signer(ctx: &mut Context<'_, '_>) -> Result<ViewSigner, Refusal> {
    let mut ctx = ctx.within(view::MOUNT)?;
    let (_, stored) = load(&mut ctx)?;
    Ok(ViewSigner::from_seed(&stored.view_seed()))
}

/// Returns what signs the view, for whoever serves the watch; `None` before there is a cluster.
pub fn view_signer(
    snapshot: &OpenSnapshot,
    mount: MountId,
) -> Result<Option<ViewSigner>, BarrierError> {
    let at = key(tables::ENGINE, &[&mount.0, AUTHORITY.as_bytes()]);
    let Some(text) = snapshot.get(&at)? else {
        return Ok(None);
    };
    let stored: Option<StoredAuthority> = serde_json::from_slice(text.expose()).ok();
    Ok(stored.map(|stored| ViewSigner::from_seed(&stored.view_seed())))
}

fn program_only(ctx: &Context<'_, '_>) -> Result<(), Refusal> {
    match ctx.caller {
        Caller::Program => Ok(()),
        Caller::Nobody | Caller::Token(_) | Caller::Machine(_) => Err(Refusal::Denied),
    }
}
