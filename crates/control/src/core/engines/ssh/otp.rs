//! One-time passwords.
//!
//! Vault's helper asks `verify` without any token, from wherever it is, and the password is spent
//! before the helper has compared user and host. For hosts that are nodes of this cluster it is
//! otherwise: the node asks, with its certificate, and says who wants to log in; everything is
//! compared here, and only then the password is spent. Without the node's identity such a password is
//! not spent at all, unless `config/otp` says so, or the server's configuration `compat = "vault"`.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::{NodeId, UnixTime};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::role::{self, Role};
use super::{node, reach};
use crate::core::config::Compat;
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};
use crate::core::request::Identity;

/// How long a password is good where nothing else is said, and at most.
const TTL: Duration = Duration::from_secs(120);
const TTL_MAX: Duration = Duration::from_secs(600);
/// Longest password that is looked at, in bytes: ours have 36.
const OTP_BYTES_MAX: usize = 64;
const CONFIG: &str = "otp-config";

/// A password that can be spent, without the password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Password {
    format: u32,
    /// Who logs in.
    pub user: String,
    /// Where.
    pub address: IpAddr,
    /// By which role.
    pub role: String,
    /// The node that this is; `None`: a host that is no node.
    pub node: Option<NodeId>,
    /// Until when.
    pub until: UnixTime,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Config {
    /// In seconds; 0: [`TTL`].
    ttl: u64,
    /// Whether passwords for nodes can be spent without the node's identity.
    open_verify: bool,
}

/// Where a password stands: under a keyed hash, so that the store does not give it away.
fn at(ctx: &Context<'_, '_>, otp: &str) -> String {
    let purpose = format!("ssh otp {}", HEXLOWER.encode(&ctx.mount.id.0));
    let tag = ctx
        .draft
        .source()
        .barrier()
        .digest(&purpose, otp.as_bytes());
    format!("otp/{}", HEXLOWER.encode(&tag))
}

/// Returns a password that is still good, and where it stands.
pub fn find(ctx: &mut Context<'_, '_>, otp: &str) -> Result<Option<(String, Password)>, Refusal> {
    if OTP_BYTES_MAX < otp.len() {
        return Ok(None);
    }
    let at = at(ctx, otp);
    let now = ctx.now();
    let found: Option<Password> = ctx.load(&at)?;
    Ok(found.filter(|it| now < it.until).map(|it| (at, it)))
}

pub fn grant(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let role = match role::find(ctx, name)? {
        Some(Role::Otp(role)) => role,
        Some(Role::Ca(_)) => {
            return Err(Refusal::invalid(
                "role key type 'ca' not allowed to create one-time passwords",
            ));
        }
        None => return Err(Refusal::invalid(format!("Role \"{name}\" not found"))),
    };
    let host = match fields.text("node")?.filter(|text| !text.is_empty()) {
        Some(text) => Some(node::named(ctx, &text)?),
        None => None,
    };
    let (address, at_node) = match &host {
        Some(host) => (IpAddr::V4(host.address), Some(host.id)),
        None => {
            let text = fields.text("ip")?.unwrap_or_default();
            if text.is_empty() {
                return Err(Refusal::invalid("Missing ip"));
            }
            let address = reach::address(&text)?;
            (address, node::at(ctx, address)?)
        }
    };
    let user = role.user(fields.text("username")?)?;
    if 255 < user.len() || user.chars().any(char::is_control) {
        return Err(Refusal::invalid("username is not valid"));
    }
    reach::check(ctx, name, &role, address)?;
    let ttl = config(ctx)?.life(ctx);
    let otp = ctx.entropy().uuid();
    let at = at(ctx, &otp);
    let password = Password {
        format: 1,
        user,
        address,
        role: name.to_owned(),
        node: at_node,
        until: ctx.now().plus(ttl),
    };
    ctx.save(&at, &password)?;
    let mut data = json!({
        "key_type": "otp",
        "key": otp,
        "username": password.user,
        "ip": address,
        "port": role.port,
    });
    if let Some(host) = host {
        data["node"] = json!(host.name);
        data["node_id"] = json!(host.id);
        if let Some(line) = super::authority::public_line(ctx)? {
            data["host_authority"] = line.into();
        }
    }
    let mut answer = Answer::json(data);
    answer.lease = Some(Grant {
        ttl,
        ttl_max: ttl,
        renewable: false,
        data: json!({ "otp": at }),
    });
    Ok(answer)
}

/// Spends a password for whoever has it: as Vault's helper asks.
pub fn verify(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let otp = call.fields().text("otp")?.unwrap_or_default();
    if otp == "verify-echo-request" {
        return Ok(Answer::json(json!({ "message": "verify-echo-response" })));
    }
    let unknown = || Refusal::invalid("OTP not found");
    let (at, password) = find(ctx, &otp)?.ok_or_else(unknown)?;
    if let Some(of) = password.node
        && asking(ctx) != Some(of)
        && ctx.world.server.compat != Compat::Vault
        && !config(ctx)?.open_verify
    {
        return Err(Refusal::Ticket {
            record: "one-time password of a node, without the node's identity",
            text: "this one-time password is for a node of this cluster, and only that node may \
                   spend it: set the node up with `bastide ssh setup --otp`"
                .to_owned(),
        });
    }
    still_allowed(ctx, &password)?;
    ctx.delete(&at);
    Ok(Answer::json(json!({
        "username": password.user,
        "ip": password.address,
        "role_name": password.role,
    })))
}

/// Returns which node asks, if a member does.
pub fn asking(ctx: &Context<'_, '_>) -> Option<NodeId> {
    match ctx.caller.machine()? {
        Identity::Node(node) | Identity::Controller(node) => Some(node),
        Identity::Ended(_) => None,
    }
}

/// Refuses a password whose role is gone, or would not give it any more.
pub fn still_allowed(ctx: &mut Context<'_, '_>, password: &Password) -> Result<(), Refusal> {
    let refused = || Refusal::Ticket {
        record: "the role of the one-time password allows it no more",
        text: "OTP not found".to_owned(),
    };
    match role::find(ctx, &password.role)? {
        Some(Role::Otp(role)) if role.allows(&password.user) => {
            reach::check(ctx, &password.role, &role, password.address).map_err(|_| refused())
        }
        _ => Err(refused()),
    }
}

fn config(ctx: &mut Context<'_, '_>) -> Result<Config, Refusal> {
    Ok(ctx.load(CONFIG)?.unwrap_or_default())
}

impl Config {
    /// Returns how long a password is good. The mount's own default counts if somebody set it: 768
    /// hours, which Vault takes, are not for a password.
    fn life(&self, ctx: &Context<'_, '_>) -> Duration {
        let tuned = ctx.mount.config.default_lease_ttl;
        let life = match (self.ttl, tuned) {
            (0, 0) => TTL,
            (0, tuned) => Duration::from_secs(tuned),
            (set, _) => Duration::from_secs(set),
        };
        life.min(TTL_MAX).min(ctx.mount.ttl_max())
    }
}

pub fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut config = config(ctx)?;
    if let Some(ttl) = fields.duration("ttl")? {
        if TTL_MAX < ttl || (!ttl.is_zero() && ttl < Duration::from_secs(1)) {
            return Err(Refusal::invalid(format!(
                "ttl is 1 to {} seconds, or 0 for the default",
                TTL_MAX.as_secs()
            )));
        }
        config.ttl = ttl.as_secs();
    }
    if let Some(open) = fields.flag("allow_unauthenticated_verify")? {
        config.open_verify = open;
    }
    ctx.save(CONFIG, &config)?;
    Ok(Answer::done())
}

pub fn read_config(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let config = config(ctx)?;
    Ok(Answer::json(json!({
        "ttl": config.life(ctx).as_secs(),
        "allow_unauthenticated_verify": config.open_verify,
    })))
}
