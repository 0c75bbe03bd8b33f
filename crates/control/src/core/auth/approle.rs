//! The auth method `approle`: a role's id, and a secret id that was made for it.
//!
//! Keys below the mount:
//!
//! ```text
//!   role/<name>                    the role
//!   id/<digest of the role id>     the role's name
//!   secret/<serial>/<HMAC>         a secret id, without itself
//!   accessor/<serial>/<accessor>   the HMAC of the secret id that it names
//! ```
//!
//! A role's serial is drawn when it is made: secret ids of a role that was deleted are not those of
//! one that is made later under its name, and an accessor names nothing of another role.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::core::auth::display_name;
use crate::core::cidrs;
use crate::core::engine::{Call, Context, Engine};
use crate::core::identity::Alias;
use crate::core::leases::{Lease, Subject};
use crate::core::lockout;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::Terms;
use crate::core::tokens::Token;

mod role;
mod secret_id;

use role::Role;

/// Longest role id or secret id, in bytes, as Vault's.
const ID_BYTES_MAX: usize = 4096;
/// Longest role id that wrong secret ids are counted under as it is, in bytes.
const COUNTED_BYTES_MAX: usize = 128;
/// What whoever brings a wrong role id or secret id is told: not which of the two it was.
const WRONG: &str = "invalid role or secret ID";

/// The auth method.
pub struct AppRole;

impl Engine for AppRole {
    fn kind(&self) -> &'static str {
        "approle"
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path == "login"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["role", name] => Ok(Some(role::find(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn role_of(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
    ) -> Result<Option<String>, Refusal> {
        let Some(id) = call.fields().text("role_id")? else {
            return Ok(None);
        };
        Ok(role::by_id(ctx, &id)?.map(|role| role.name))
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Delete, List, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login"]) => login(ctx, call),
            (List, ["role"]) => Answer::keys(ctx.list(role::FOLDER)?),
            (_, ["role", name]) => role::decide(ctx, call, name),
            (Update, ["tidy", "secret-id"]) => secret_id::tidy(ctx),
            (List, ["role", name, "secret-id"]) => {
                let role = role::existing(ctx, name)?;
                Answer::keys(secret_id::accessors(ctx, &role)?)
            }
            (Update, ["role", name, "secret-id"]) => {
                let role = role::existing(ctx, name)?;
                let drawn = ctx.entropy().uuid();
                secret_id::make(ctx, call, &role, drawn)
            }
            (Update, ["role", name, "custom-secret-id"]) => {
                let role = role::existing(ctx, name)?;
                let given = call.fields().required("secret_id")?;
                secret_id::make(ctx, call, &role, given)
            }
            (Update, ["role", name, "secret-id", "lookup"]) => {
                let role = role::existing(ctx, name)?;
                secret_id::look_up(ctx, call, &role)
            }
            (Update | Delete, ["role", name, "secret-id", "destroy"]) => {
                let role = role::existing(ctx, name)?;
                secret_id::destroy(ctx, call, &role)
            }
            (Update, ["role", name, "secret-id-accessor", "lookup"]) => {
                let role = role::existing(ctx, name)?;
                secret_id::look_up_by_accessor(ctx, call, &role)
            }
            (Update | Delete, ["role", name, "secret-id-accessor", "destroy"]) => {
                let role = role::existing(ctx, name)?;
                secret_id::destroy_by_accessor(ctx, call, &role)
            }
            (
                _,
                ["login" | "role"]
                | ["tidy", "secret-id"]
                | ["role", _, "secret-id" | "custom-secret-id"]
                | [
                    "role",
                    _,
                    "secret-id" | "secret-id-accessor",
                    "lookup" | "destroy",
                ],
            ) => Err(Refusal::UnsupportedOperation),
            (_, ["role", name, field]) => role::decide_field(ctx, call, name, field),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        let meta = token.meta.as_ref();
        let name = meta
            .and_then(|meta| meta.get("role_name"))
            .map(String::as_str);
        let name = name.unwrap_or_default();
        let role = role::find(ctx, name)?;
        let same = role.filter(|role| token.kept.get("serial") == Some(&role.serial));
        match same {
            Some(role) => Ok(Some(role.token.terms())),
            None => Err(Refusal::invalid(format!(
                "role \"{name}\" does not exist during renewal"
            ))),
        }
    }

    /// The lease of a secret id ended: so does the secret id.
    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        secret_id::expire(ctx, lease)
    }
}

/// Returns the name that wrong secret ids of a role are counted under: its id, or the digest of one
/// that is long or cannot be shown.
fn counted(role_id: &str) -> Cow<'_, str> {
    if role_id.len() <= COUNTED_BYTES_MAX && !role_id.chars().any(char::is_control) {
        return role_id.into();
    }
    HEXLOWER
        .encode(digest(&SHA256, role_id.as_bytes()).as_ref())
        .into()
}

/// Judges a role id and a secret id. A secret id is spent only once all else is found good. Ids of
/// roles that do not exist are counted as those that do: a lock tells nobody which is which.
fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let wrong = || Refusal::invalid(WRONG);
    let fields = call.fields();
    let role_id = fields.required("role_id")?;
    let counted = counted(&role_id);
    lockout::admit(ctx, &counted)?;
    let Some(role) = role::by_id(ctx, &role_id)? else {
        lockout::failed(ctx, &counted);
        return Err(wrong());
    };
    let mut metadata = BTreeMap::new();
    let mut token_bound_cidrs = Vec::new();
    let mut spent = None;
    if role.bind_secret_id {
        let given = fields.required("secret_id")?;
        let Some(found) = secret_id::find(ctx, &role, &given)? else {
            lockout::failed(ctx, &counted);
            return Err(wrong());
        };
        if !cidrs::admit(&found.entry.cidr_list, ctx.peer.address) {
            return Err(unauthorised(
                ctx,
                "through CIDR restrictions on the secret ID",
            ));
        }
        metadata.clone_from(&found.entry.metadata);
        token_bound_cidrs.clone_from(&found.entry.token_bound_cidrs);
        spent = Some(found);
    }
    if !cidrs::admit(&role.secret_id_bound_cidrs, ctx.peer.address) {
        return Err(unauthorised(ctx, "by CIDR restrictions on the role"));
    }
    metadata.insert("role_name".to_owned(), role.name.clone());
    let mut login = Login {
        alias: Some(Alias {
            name: role.id.clone(),
            ..Alias::default()
        }),
        metadata,
        kept: BTreeMap::from([("serial".to_owned(), role.serial.clone())]),
        display_name: display_name(&ctx.mount, ""),
        ..role.token.login()
    };
    if !token_bound_cidrs.is_empty() {
        // The role may have been narrowed since the secret id was made.
        if !login.bound_cidrs.is_empty()
            && !cidrs::lie_within(&token_bound_cidrs, &login.bound_cidrs)
        {
            return Err(wrong());
        }
        login.bound_cidrs = token_bound_cidrs;
    }
    if let Some(found) = spent {
        secret_id::spend(ctx, &role, found)?;
    }
    lockout::succeeded(ctx, &counted);
    Ok(Reply::Login(Box::new(login)).into())
}

fn unauthorised(ctx: &Context<'_, '_>, why: &str) -> Refusal {
    let address = ctx.peer.address;
    let shown = address.map_or_else(String::new, |it| it.ip().to_canonical().to_string());
    Refusal::invalid(format!("source address \"{shown}\" unauthorized {why}"))
}

fn role_serial(lease: &Lease) -> Option<(&str, &str)> {
    let Subject::Granted(data) = &lease.subject else {
        return None;
    };
    Some((data["serial"].as_str()?, data["hmac"].as_str()?))
}

fn delete_role(ctx: &mut Context<'_, '_>, role: &Role) -> Result<(), Refusal> {
    ctx.delete(&role::at(&role.name));
    let id = role::at_id(ctx, &role.id);
    ctx.delete(&id);
    secret_id::destroy_all(ctx, role)
}

#[cfg(test)]
mod tests;
