//! Roles: their fields, each of which has a path of its own as well.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ID_BYTES_MAX, delete_role};
use crate::core::cidrs;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::role::{self, TokenSettings};

/// Where roles are kept.
pub(super) const FOLDER: &str = "role/";

/// A role, as it is stored. Durations are in seconds; 0 is *without end*, as for counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Role {
    /// Its name, in lower case.
    pub name: String,
    /// The id that a login names it by.
    pub id: String,
    /// Tells it from roles of the same name that were deleted.
    pub serial: String,
    /// Whether a login needs a secret id.
    pub bind_secret_id: bool,
    /// Networks that logins come from; none: all.
    pub secret_id_bound_cidrs: Vec<IpNet>,
    /// How often each secret id can be used.
    pub secret_id_num_uses: u64,
    /// For how long each secret id is good.
    pub secret_id_ttl: u64,
    /// Kept for clients: there is one cluster.
    pub local_secret_ids: bool,
    /// Whether the networks were set under their old name, and are shown under it too.
    #[serde(default)]
    pub old_cidrs: bool,
    /// What tokens are like.
    pub token: TokenSettings,
}

impl Role {
    /// Returns the HMAC of a secret id of this role under a key of the cluster, in hexadecimal.
    pub fn hmac(&self, ctx: &Context<'_, '_>, secret_id: &str) -> String {
        let barrier = ctx.draft.source().barrier();
        let key = barrier.digest("approle secret id", self.serial.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        HEXLOWER.encode(hmac::sign(&key, secret_id.as_bytes()).as_ref())
    }

    fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        if let Some(flag) = fields.flag("bind_secret_id")? {
            self.bind_secret_id = flag;
        }
        for (name, is_old) in [("bound_cidr_list", true), ("secret_id_bound_cidrs", false)] {
            if let Some(nets) = cidrs::field(fields, name)? {
                self.secret_id_bound_cidrs = nets;
                self.old_cidrs = is_old;
            }
        }
        if let Some(uses) = fields.count("secret_id_num_uses")? {
            self.secret_id_num_uses = uses;
        }
        if let Some(ttl) = fields.duration("secret_id_ttl")? {
            self.secret_id_ttl = role::whole_secs(ttl);
        }
        self.token.update(fields)?;
        let is_bound = self.bind_secret_id
            || !self.secret_id_bound_cidrs.is_empty()
            || !self.token.bound_cidrs().is_empty();
        if !is_bound {
            return Err(Refusal::invalid(
                "at least one constraint should be enabled on the role",
            ));
        }
        Ok(())
    }

    fn shown(&self) -> Map<String, Value> {
        let mut data = self.token.shown();
        let nets = match self.secret_id_bound_cidrs.as_slice() {
            [] => Value::Null,
            nets => cidrs::shown_in_full(nets),
        };
        data.insert("bind_secret_id".into(), self.bind_secret_id.into());
        data.insert("local_secret_ids".into(), self.local_secret_ids.into());
        if self.old_cidrs {
            data.insert("bound_cidr_list".into(), nets.clone());
        }
        data.insert("secret_id_bound_cidrs".into(), nets);
        data.insert("secret_id_num_uses".into(), self.secret_id_num_uses.into());
        data.insert("secret_id_ttl".into(), self.secret_id_ttl.into());
        data
    }
}

pub(super) fn at(name: &str) -> String {
    format!("{FOLDER}{name}")
}

/// A role id may hold anything, and is not to be read from keys: its digest stands there.
pub(super) fn at_id(ctx: &Context<'_, '_>, role_id: &str) -> String {
    let barrier = ctx.draft.source().barrier();
    let digest = barrier.digest("approle role id", role_id.as_bytes());
    format!("id/{}", HEXLOWER.encode(&digest))
}

/// Returns a role.
pub(super) fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Role>, Refusal> {
    role::find(ctx, FOLDER, name)
}

pub(super) fn existing(ctx: &mut Context<'_, '_>, name: &str) -> Result<Role, Refusal> {
    find(ctx, name)?.ok_or_else(|| Refusal::invalid(format!("role \"{name}\" does not exist")))
}

/// Returns the role with this id.
pub(super) fn by_id(ctx: &mut Context<'_, '_>, role_id: &str) -> Result<Option<Role>, Refusal> {
    if ID_BYTES_MAX < role_id.len() {
        return Ok(None);
    }
    let at_id = at_id(ctx, role_id);
    match ctx.load::<String>(&at_id)? {
        Some(name) => ctx.load(&at(&name)),
        None => Ok(None),
    }
}

/// Gives a role an id that no other role of the mount has.
fn set_id(ctx: &mut Context<'_, '_>, role: &mut Role, role_id: String) -> Result<(), Refusal> {
    if ID_BYTES_MAX < role_id.len() {
        return Err(Refusal::invalid("role_id is too long"));
    }
    let new = at_id(ctx, &role_id);
    if ctx
        .load::<String>(&new)?
        .is_some_and(|holder| holder != role.name)
    {
        return Err(Refusal::invalid("role_id already in use"));
    }
    if !role.id.is_empty() {
        let old = at_id(ctx, &role.id);
        ctx.delete(&old);
    }
    role.id = role_id;
    ctx.save(&new, &role.name)
}

/// Decides what is asked of a role as a whole.
pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    match call.operation {
        Operation::Create | Operation::Update => write(ctx, call, name),
        Operation::Read => {
            let role = find(ctx, name)?.ok_or(Refusal::Absent)?;
            Ok(Answer::data(role.shown()))
        }
        Operation::Delete => {
            if let Some(role) = find(ctx, name)? {
                delete_role(ctx, &role)?;
            }
            Ok(Answer::done())
        }
        Operation::Patch | Operation::List => Err(Refusal::UnsupportedOperation),
    }
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let folded = role::name_to_write(name)?;
    let old = find(ctx, name)?;
    let is_local = fields.flag("local_secret_ids")?;
    let mut role = match old {
        Some(role) => {
            if is_local.is_some_and(|asked| asked != role.local_secret_ids) {
                return Err(Refusal::invalid(
                    "local_secret_ids can only be modified during role creation",
                ));
            }
            role
        }
        None => Role {
            name: folded,
            id: String::new(),
            serial: HEXLOWER.encode(&ctx.entropy().bytes::<16>()),
            bind_secret_id: true,
            secret_id_bound_cidrs: Vec::new(),
            secret_id_num_uses: 0,
            secret_id_ttl: 0,
            local_secret_ids: is_local.unwrap_or_default(),
            old_cidrs: false,
            token: TokenSettings::default(),
        },
    };
    role.update(fields)?;
    let given = fields.text("role_id")?.filter(|id| !id.is_empty());
    match given {
        Some(id) if id != role.id => set_id(ctx, &mut role, id)?,
        Some(_) => {}
        None if role.id.is_empty() => {
            let drawn = ctx.entropy().uuid();
            set_id(ctx, &mut role, drawn)?;
        }
        None => {}
    }
    ctx.save(&at(&role.name), &role)?;
    Ok(role.token.written(&ctx.mount))
}

/// Paths below a role that stand for one field, and the field; the first name is the one shown.
const FIELDS: &[(&str, &[&str])] = &[
    ("bind-secret-id", &["bind_secret_id"]),
    ("bound-cidr-list", &["bound_cidr_list"]),
    ("local-secret-ids", &["local_secret_ids"]),
    ("period", &["token_period", "period"]),
    ("policies", &["token_policies", "policies"]),
    ("secret-id-bound-cidrs", &["secret_id_bound_cidrs"]),
    ("secret-id-num-uses", &["secret_id_num_uses"]),
    ("secret-id-ttl", &["secret_id_ttl"]),
    ("token-bound-cidrs", &["token_bound_cidrs"]),
    ("token-max-ttl", &["token_max_ttl"]),
    ("token-num-uses", &["token_num_uses"]),
    ("token-ttl", &["token_ttl"]),
];

/// Decides what is asked of one field of a role.
pub(super) fn decide_field(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
    segment: &str,
) -> Result<Answer, Refusal> {
    use Operation::{Create, Delete, Read, Update};
    if segment == "role-id" {
        return decide_id(ctx, call, name);
    }
    let known = FIELDS.iter().find(|(path, _)| *path == segment);
    let &(_, names) = known.ok_or(Refusal::UnsupportedPath)?;
    match call.operation {
        Read => {
            let role = find(ctx, name)?.ok_or(Refusal::Absent)?;
            let mut all = role.shown();
            if segment == "bound-cidr-list" {
                let nets = all.get("secret_id_bound_cidrs").cloned();
                all.insert("bound_cidr_list".into(), nets.unwrap_or_default());
            }
            let shown = names.iter().filter_map(|name| {
                let value = all.get(*name)?;
                Some(((*name).to_owned(), value.clone()))
            });
            Ok(Answer::data(shown.collect()))
        }
        Create | Update if segment != "local-secret-ids" => {
            let mut role = existing(ctx, name)?;
            let given = names.iter().filter_map(|name| {
                let value = call.fields().get(name)?;
                Some(((*name).to_owned(), value.clone()))
            });
            let given: Map<String, Value> = given.collect();
            if given.is_empty() {
                return Err(Refusal::invalid(format!("missing {}", names[0])));
            }
            role.update(Fields(&given))?;
            ctx.save(&at(&role.name), &role)?;
            Ok(Answer::done())
        }
        Delete if segment != "local-secret-ids" => {
            if let Some(mut role) = find(ctx, name)? {
                let reset = match names[0] {
                    "bind_secret_id" => json!({ "bind_secret_id": true }),
                    "secret_id_num_uses" => json!({ "secret_id_num_uses": 0 }),
                    "secret_id_ttl" => json!({ "secret_id_ttl": 0 }),
                    "bound_cidr_list" | "secret_id_bound_cidrs" => {
                        json!({ "secret_id_bound_cidrs": [] })
                    }
                    "token_bound_cidrs" => json!({ "token_bound_cidrs": [] }),
                    "token_policies" => json!({ "token_policies": [] }),
                    other => json!({ other: 0 }),
                };
                let reset = reset.as_object().expect("made as an object");
                role.update(Fields(reset))?;
                ctx.save(&at(&role.name), &role)?;
            }
            Ok(Answer::done())
        }
        _ => Err(Refusal::UnsupportedOperation),
    }
}

fn decide_id(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    match call.operation {
        Operation::Read => {
            let role = find(ctx, name)?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(json!({ "role_id": role.id })))
        }
        Operation::Create | Operation::Update => {
            let mut role = existing(ctx, name)?;
            let given = call.fields().required("role_id")?;
            if given != role.id {
                set_id(ctx, &mut role, given)?;
                ctx.save(&at(&role.name), &role)?;
            }
            Ok(Answer::done())
        }
        _ => Err(Refusal::UnsupportedOperation),
    }
}
