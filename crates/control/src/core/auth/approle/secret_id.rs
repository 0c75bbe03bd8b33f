//! Secret ids: made, looked up, spent, destroyed. Only their HMACs are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_api::UnixTime;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::role::{self, Role};
use super::{ID_BYTES_MAX, role_serial};
use crate::core::cidrs;
use crate::core::draft::RANGE_KEYS_MAX;
use crate::core::engine::{Call, Context};
use crate::core::leases::{Lease, LeaseId, Owner};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant, Reply, timestamp};
use crate::core::role::whole_secs;

/// Most secret ids that are destroyed with their role at once; those left are good for nothing, and
/// `tidy` clears them.
const DESTROYED_MAX: usize = 4096;
/// Most entries of metadata, and most bytes of all of them.
const METADATA_MAX: usize = 64;
const METADATA_BYTES_MAX: usize = 16 << 10;

/// A secret id, as it is stored: not the secret id itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SecretId {
    /// Names it to whoever may not hold it.
    pub accessor: String,
    /// How often it can still be used; 0: as often as wanted.
    pub num_uses: u64,
    /// For how long it was made, in seconds; 0: without end.
    pub ttl: u64,
    /// When it was made.
    pub created: UnixTime,
    /// When it ends; `None`: never.
    pub expires: Option<UnixTime>,
    /// When it was changed last.
    pub updated: UnixTime,
    /// What tokens made with it say.
    pub metadata: BTreeMap<String, String>,
    /// Networks that it can be used from; none: all.
    pub cidr_list: Vec<IpNet>,
    /// Networks that tokens made with it can be used from; none: as the role says.
    pub token_bound_cidrs: Vec<IpNet>,
    /// The lease that ends it.
    pub lease: Option<LeaseId>,
}

/// A secret id that is good now, and where it stands.
pub(super) struct Found {
    pub hmac: String,
    pub entry: SecretId,
}

fn at(role: &Role, hmac: &str) -> String {
    format!("secret/{}/{hmac}", role.serial)
}

fn at_accessor(role: &Role, accessor: &str) -> String {
    format!("accessor/{}/{accessor}", role.serial)
}

/// Returns the secret id, if it is of this role and good now.
pub(super) fn find(
    ctx: &mut Context<'_, '_>,
    role: &Role,
    secret_id: &str,
) -> Result<Option<Found>, Refusal> {
    if ID_BYTES_MAX < secret_id.len() {
        return Ok(None);
    }
    let hmac = role.hmac(ctx, secret_id);
    find_hmac(ctx, role, hmac)
}

fn find_hmac(
    ctx: &mut Context<'_, '_>,
    role: &Role,
    hmac: String,
) -> Result<Option<Found>, Refusal> {
    let now = ctx.now();
    let entry = ctx.load::<SecretId>(&at(role, &hmac))?;
    let good = entry.filter(|entry| entry.expires.is_none_or(|end| now < end));
    Ok(good.map(|entry| Found { hmac, entry }))
}

fn by_accessor(
    ctx: &mut Context<'_, '_>,
    role: &Role,
    accessor: &str,
) -> Result<Option<Found>, Refusal> {
    // An accessor is no path: what has a slash would name another key.
    if accessor.contains('/') || ID_BYTES_MAX < accessor.len() {
        return Ok(None);
    }
    match ctx.load::<String>(&at_accessor(role, accessor))? {
        Some(hmac) => find_hmac(ctx, role, hmac),
        None => Ok(None),
    }
}

/// Makes a secret id of a role.
pub(super) fn make(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    role: &Role,
    secret_id: String,
) -> Result<Answer, Refusal> {
    if !role.bind_secret_id {
        return Err(Refusal::invalid("bind_secret_id is not set on the role"));
    }
    if ID_BYTES_MAX < secret_id.len() {
        return Err(Refusal::invalid("secret_id is too long"));
    }
    let fields = call.fields();
    let within = |given: u64, bound: u64| bound == 0 || (given != 0 && given <= bound);
    let num_uses = fields.count("num_uses")?.unwrap_or(role.secret_id_num_uses);
    if !within(num_uses, role.secret_id_num_uses) {
        return Err(Refusal::invalid(
            "num_uses cannot be higher than the role's secret_id_num_uses",
        ));
    }
    let ttl = fields.duration("ttl")?;
    let ttl = ttl.map_or(role.secret_id_ttl, whole_secs);
    if !within(ttl, role.secret_id_ttl) {
        return Err(Refusal::invalid(
            "ttl cannot be longer than the role's secret_id_ttl",
        ));
    }
    let networks = |name: &'static str, bound: &[IpNet]| {
        let given = cidrs::field(fields, name)?.unwrap_or_default();
        if !bound.is_empty() && !cidrs::lie_within(&given, bound) {
            return Err(Refusal::invalid(format!(
                "failed to verify subset relationship between CIDR blocks on the role and CIDR \
                 blocks on the secret ID: {name} must lie within those of the role"
            )));
        }
        Ok(given)
    };
    let cidr_list = networks("cidr_list", &role.secret_id_bound_cidrs)?;
    let token_bound_cidrs = networks("token_bound_cidrs", role.token.bound_cidrs())?;
    let metadata = metadata(call)?;
    let hmac = role.hmac(ctx, &secret_id);
    if find_hmac(ctx, role, hmac.clone())?.is_some() {
        return Err(Refusal::invalid(
            "failed to store secret_id: SecretID is already registered",
        ));
    }
    // One of the same text that has ended, and was not yet swept, leaves no accessor behind.
    if let Some(ended) = ctx.load::<SecretId>(&at(role, &hmac))? {
        ctx.delete(&at_accessor(role, &ended.accessor));
    }
    let now = ctx.now();
    let accessor = ctx.entropy().uuid();
    let life = Duration::from_secs(ttl);
    let lease = if ttl == 0 {
        None
    } else {
        let grant = Grant {
            ttl: life,
            ttl_max: life,
            renewable: false,
            data: json!({ "serial": role.serial, "hmac": hmac }),
        };
        Some(ctx.grant(ctx.path, grant, Owner::Nobody)?)
    };
    let entry = SecretId {
        accessor,
        num_uses,
        ttl,
        created: now,
        expires: (ttl != 0).then(|| now.plus(life)),
        updated: now,
        metadata,
        cidr_list,
        token_bound_cidrs,
        lease,
    };
    ctx.save(&at(role, &hmac), &entry)?;
    ctx.save(&at_accessor(role, &entry.accessor), &hmac)?;
    Ok(Answer::json(json!({
        "secret_id": secret_id,
        "secret_id_accessor": entry.accessor,
        "secret_id_ttl": ttl,
        "secret_id_num_uses": num_uses,
    })))
}

fn metadata(call: &Call<'_>) -> Result<BTreeMap<String, String>, Refusal> {
    let metadata = call.fields().pairs("metadata")?.unwrap_or_default();
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if METADATA_MAX < metadata.len() || METADATA_BYTES_MAX < bytes {
        return Err(Refusal::invalid("metadata is too large"));
    }
    Ok(metadata)
}

/// Counts a use of a secret id; after the last it is gone.
pub(super) fn spend(ctx: &mut Context<'_, '_>, role: &Role, found: Found) -> Result<(), Refusal> {
    let Found { hmac, mut entry } = found;
    match entry.num_uses {
        0 => Ok(()),
        1 => forget(ctx, role, &Found { hmac, entry }),
        _ => {
            entry.num_uses -= 1;
            entry.updated = ctx.now();
            ctx.save(&at(role, &hmac), &entry)
        }
    }
}

fn forget(ctx: &mut Context<'_, '_>, role: &Role, found: &Found) -> Result<(), Refusal> {
    ctx.delete(&at(role, &found.hmac));
    ctx.delete(&at_accessor(role, &found.entry.accessor));
    match &found.entry.lease {
        Some(lease) => ctx.end(lease),
        None => Ok(()),
    }
}

/// Returns the accessors of a role's secret ids, those past their end excepted.
pub(super) fn accessors(ctx: &mut Context<'_, '_>, role: &Role) -> Result<Vec<String>, Refusal> {
    ctx.keys(&format!("accessor/{}/", role.serial))
}

fn shown(found: &Found) -> Map<String, Value> {
    let entry = &found.entry;
    let never = || "0001-01-01T00:00:00Z".to_owned();
    let shown = json!({
        "cidr_list": cidrs::shown_in_full(&entry.cidr_list),
        "creation_time": timestamp(entry.created),
        "expiration_time": entry.expires.map_or_else(never, timestamp),
        "last_updated_time": timestamp(entry.updated),
        "metadata": entry.metadata,
        "secret_id_accessor": entry.accessor,
        "secret_id_num_uses": entry.num_uses,
        "secret_id_ttl": entry.ttl,
        "token_bound_cidrs": cidrs::shown_in_full(&entry.token_bound_cidrs),
    });
    match shown {
        Value::Object(shown) => shown,
        _ => unreachable!("made as an object"),
    }
}

/// Shows a secret id; nothing is said of one that is not known, as Vault does.
pub(super) fn look_up(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    role: &Role,
) -> Result<Answer, Refusal> {
    let given = call.fields().required("secret_id")?;
    let found = find(ctx, role, &given)?;
    Ok(found.map_or_else(Answer::done, |found| Answer::data(shown(&found))))
}

pub(super) fn destroy(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    role: &Role,
) -> Result<Answer, Refusal> {
    let given = call.fields().required("secret_id")?;
    if let Some(found) = find(ctx, role, &given)? {
        forget(ctx, role, &found)?;
    }
    Ok(Answer::done())
}

fn no_accessor(accessor: &str) -> Answer {
    let text = format!("failed to find accessor entry for secret_id_accessor: {accessor:?}");
    let data = Map::from_iter([("error".to_owned(), text.into())]);
    Reply::AbsentData(data).into()
}

pub(super) fn look_up_by_accessor(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    role: &Role,
) -> Result<Answer, Refusal> {
    let accessor = call.fields().required("secret_id_accessor")?;
    Ok(match by_accessor(ctx, role, &accessor)? {
        Some(found) => Answer::data(shown(&found)),
        None => no_accessor(&accessor),
    })
}

pub(super) fn destroy_by_accessor(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    role: &Role,
) -> Result<Answer, Refusal> {
    let accessor = call.fields().required("secret_id_accessor")?;
    match by_accessor(ctx, role, &accessor)? {
        Some(found) => {
            forget(ctx, role, &found)?;
            Ok(Answer::done())
        }
        None => Ok(no_accessor(&accessor)),
    }
}

/// Destroys the secret ids of a role that is deleted.
pub(super) fn destroy_all(ctx: &mut Context<'_, '_>, role: &Role) -> Result<(), Refusal> {
    for accessor in accessors(ctx, role)?.into_iter().take(DESTROYED_MAX) {
        if let Some(found) = by_accessor(ctx, role, &accessor)? {
            forget(ctx, role, &found)?;
        }
    }
    Ok(())
}

/// Deletes the secret id whose lease ended.
pub(super) fn expire(ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
    let (serial, hmac) =
        role_serial(lease).ok_or_else(|| Refusal::corrupt("lease", "names no secret id"))?;
    let at = format!("secret/{serial}/{hmac}");
    // One that was destroyed and made again under the same text has a lease of its own.
    if let Some(entry) = ctx.load::<SecretId>(&at)?
        && entry.lease.as_ref() == Some(&lease.id)
    {
        ctx.delete(&format!("accessor/{serial}/{}", entry.accessor));
        ctx.delete(&at);
    }
    Ok(())
}

/// Clears what is left of roles that were deleted with very many secret ids. Everything else ends with
/// its lease, without being asked.
pub(super) fn tidy(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let mut serials = std::collections::BTreeSet::new();
    let names = ctx.keys(role::FOLDER)?;
    // A role that is not seen must not lose what it has.
    if RANGE_KEYS_MAX <= names.len() {
        return Err(Refusal::invalid(format!(
            "{RANGE_KEYS_MAX} roles or more are too many to tell which secret ids have none: delete \
             some roles"
        )));
    }
    for name in names {
        if let Some(role) = ctx.load::<Role>(&role::at(&name))? {
            serials.insert(role.serial);
        }
    }
    for prefix in ["secret/", "accessor/"] {
        let dead = ctx.keys(prefix)?.into_iter().filter(|key| {
            let serial = key.split('/').next().unwrap_or_default();
            !serials.contains(serial)
        });
        for key in dead.take(DESTROYED_MAX) {
            ctx.delete(&format!("{prefix}{key}"));
        }
    }
    Ok(Answer::from(Reply::Accepted).warn(
        "Tidy operation successfully started. Any information from the operation will be printed \
         to Vault's server logs.",
    ))
}
