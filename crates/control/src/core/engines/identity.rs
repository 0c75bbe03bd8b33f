//! The mount `identity/`: who people are, by whatever method they log in.
//!
//! An *entity* is somebody; an *alias* is its name at an auth method; a *group* has members and
//! policies. A login finds the entity by its alias or makes one, and the token carries its id. From
//! then on [`person::Person`] says at each request what the entity and its groups add to the token's
//! policies, so that a change holds at once for tokens that are out already.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context, Engine, Persona};
use crate::core::engines::identity::register::Register;
use crate::core::engines::identity::stored::Metadata;
use crate::core::fields::Fields;
use crate::core::identity::EntityFacts;
use crate::core::leases::{Lease, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::tokens;

mod aliases;
mod entities;
mod facts;
mod groups;
mod login;
mod lookup;
mod merge;
pub mod names;
pub mod oidc;
mod register;
mod shown;
mod stored;

/// Most keys of metadata, the longest key and the longest value, in bytes: as Vault's.
const METADATA_KEYS_MAX: usize = 64;
const METADATA_KEY_BYTES_MAX: usize = 128;
const METADATA_VALUE_BYTES_MAX: usize = 512;
/// Most policies of one entity or group.
const POLICIES_MAX: usize = 128;
/// Longest name of a policy, in bytes.
const POLICY_BYTES_MAX: usize = 128;
/// Above so many a list has keys alone.
const LIST_INFO_MAX: usize = 10_000;

/// The engine behind `identity/`.
pub struct Identity;

impl Engine for Identity {
    fn kind(&self) -> &'static str {
        "identity"
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        match &call.segments()[..] {
            ["oidc", rest @ ..] => oidc::is_open(call.operation, rest),
            _ => false,
        }
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match &call.segments()[..] {
            ["oidc", rest @ ..] => oidc::exists(ctx, rest),
            _ => Ok(None),
        }
    }

    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        match &lease.subject {
            Subject::Granted(data) => oidc::revoke(ctx, data),
            Subject::Token(_) => Ok(()),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::Update;
        let segments = call.segments();
        match &segments[..] {
            ["entity", rest @ ..] => entities::decide(ctx, call, rest),
            ["entity-alias", rest @ ..] => aliases::of_entities(ctx, call, rest),
            ["group", rest @ ..] => groups::decide(ctx, call, rest),
            ["group-alias", rest @ ..] => aliases::of_groups(ctx, call, rest),
            // Names of old.
            ["alias", rest @ ..] => aliases::of_entities(ctx, call, rest),
            ["persona", rest @ ..] => aliases::of_entities(ctx, call, rest),
            ["lookup", "entity"] if call.operation == Update => lookup::entity(ctx, call),
            ["lookup", "group"] if call.operation == Update => lookup::group(ctx, call),
            ["oidc", rest @ ..] => oidc::decide(ctx, call, rest),
            ["lookup", "entity" | "group"] => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn entity_of(
        &self,
        ctx: &mut Context<'_, '_>,
        login: &Persona<'_>,
    ) -> Result<Option<Arc<EntityFacts>>, Refusal> {
        let mut register = register(ctx);
        let entity = login::entity_of(&mut register, login)?;
        let facts = facts::of(&mut register, entity)?;
        Ok(Some(Arc::new(facts)))
    }

    fn entity(
        &self,
        ctx: &mut Context<'_, '_>,
        id: &str,
    ) -> Result<Option<Arc<EntityFacts>>, Refusal> {
        let found = facts::find(&mut register(ctx), id)?;
        Ok(found.map(Arc::new))
    }
}

/// Returns the register behind the mount that is called.
fn register<'d, 's>(ctx: &'d mut Context<'_, 's>) -> Register<'d, 's> {
    let mount = ctx.mount.clone();
    Register::of(ctx.draft, &mount)
}

/// Returns the metadata under `name`, if it is given.
fn metadata(fields: Fields<'_>, name: &str) -> Result<Option<Metadata>, Refusal> {
    let Some(metadata) = fields.pairs(name)? else {
        return Ok(None);
    };
    if METADATA_KEYS_MAX < metadata.len() {
        return Err(Refusal::invalid(format!(
            "{name} has more than {METADATA_KEYS_MAX} keys"
        )));
    }
    for (key, value) in &metadata {
        if key.is_empty() || METADATA_KEY_BYTES_MAX < key.len() {
            return Err(Refusal::invalid(format!(
                "a key of {name} is empty or longer than {METADATA_KEY_BYTES_MAX} bytes"
            )));
        }
        if METADATA_VALUE_BYTES_MAX < value.len() {
            return Err(Refusal::invalid(format!(
                "a value of {name} is longer than {METADATA_VALUE_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(Some(metadata))
}

/// Returns the policies that are given, in their one form. `root` is refused in whatever spelling:
/// who may write entities would be root otherwise (CVE-2025-5999, CVE-2024-9180).
fn policies(fields: Fields<'_>) -> Result<Option<Vec<String>>, Refusal> {
    let Some(given) = fields.list("policies")? else {
        return Ok(None);
    };
    let policies = tokens::policies(&given, true);
    if policies.iter().any(|name| names::folded(name) == "root") {
        return Err(Refusal::invalid("policies cannot contain root"));
    }
    if POLICIES_MAX < policies.len() {
        return Err(Refusal::invalid(format!(
            "more than {POLICIES_MAX} policies"
        )));
    }
    if policies.iter().any(|name| POLICY_BYTES_MAX < name.len()) {
        return Err(Refusal::invalid("the name of a policy is too long"));
    }
    Ok(Some(policies))
}

/// Answers a list with what is to be known of each key; an empty one is absent.
fn listed(keys: Vec<String>, info: Map<String, Value>) -> Result<Answer, Refusal> {
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

#[cfg(test)]
mod tests;
