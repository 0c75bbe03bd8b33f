//! What somebody may do: the policies of a token, and of the entity that it belongs to.

use crate::core::engine::{Caller, Context, Persona};
use crate::core::identity::{Alias, EntityFacts};
use crate::core::policy::acl::Acl;
use crate::core::policy::builtin;
use crate::core::policy::compiled::Set;
use crate::core::refusal::Refusal;
use crate::core::request::Identity;
use crate::core::tables;
use crate::core::tokens::Token;
use crate::core::wrapping;
use bastide_store::{Key, KeyRange};
use std::sync::Arc;

/// Most policies of one token.
const POLICIES_MAX: usize = 256;

/// Returns the merged policies of whoever calls.
pub fn acl(ctx: &mut Context<'_, '_>) -> Result<Arc<Acl>, Refusal> {
    match ctx.caller {
        Caller::Program => Ok(Arc::new(Acl::root())),
        Caller::Nobody => Ok(Arc::new(Acl::default())),
        Caller::Token(token) => acl_of(ctx, &token.policies, ctx.entity),
        Caller::Machine(identity) => {
            let texts: &[&str] = match identity {
                Identity::Node(_) => &[builtin::NODE],
                Identity::Controller(_) => &[builtin::NODE, builtin::CONTROLLER],
                Identity::Ended(_) => &[builtin::ENDED],
            };
            let id = identity.node().to_string();
            let value = |name: &str| (name == "node.id").then_some(id.as_str());
            let parse = |text: &&str| ctx.world.registry.policies.parse(text);
            let policies: Vec<_> = texts
                .iter()
                .filter_map(|text| parse(text).ok())
                .map(|policy| policy.fill(value))
                .collect();
            Ok(Arc::new(Acl::new(&policies)))
        }
    }
}

/// Returns the merged policies of a token that need not be the caller's.
pub fn acl_of_token(ctx: &mut Context<'_, '_>, token: &Token) -> Result<Arc<Acl>, Refusal> {
    let entity = entity_of_token(ctx, token)?;
    acl_of(ctx, &token.policies, entity.as_ref())
}

/// Returns the entity of a token that need not be the caller's; `None` if it belongs to none, or to
/// one that is gone or disabled.
pub fn entity_of_token(
    ctx: &mut Context<'_, '_>,
    token: &Token,
) -> Result<Option<Arc<EntityFacts>>, Refusal> {
    if token.entity_id.is_empty() {
        return Ok(None);
    }
    let mut within = ctx.within("identity/")?;
    let engine = Arc::clone(within.engine()?);
    let entity = engine.entity(&mut within, &token.entity_id)?;
    Ok(entity.filter(|entity| !entity.disabled))
}

/// Returns the entity of an alias at the mount that is called, made if there is none.
pub fn entity_of_alias(
    ctx: &mut Context<'_, '_>,
    alias: &Alias,
) -> Result<Option<Arc<EntityFacts>>, Refusal> {
    let mount = Arc::clone(&ctx.mount);
    let persona = Persona {
        mount: &mount,
        alias,
        groups: &[],
    };
    let Ok(mut within) = ctx.within("identity/") else {
        return Ok(None);
    };
    let engine = Arc::clone(within.engine()?);
    let entity = engine.entity_of(&mut within, &persona)?;
    if entity.as_ref().is_some_and(|entity| entity.disabled) {
        return Err(Refusal::Unauthenticated);
    }
    Ok(entity)
}

/// Returns the merged policies of these names and of an entity; a policy that does not exist grants
/// nothing.
fn acl_of(
    ctx: &mut Context<'_, '_>,
    names: &[String],
    entity: Option<&Arc<EntityFacts>>,
) -> Result<Arc<Acl>, Refusal> {
    if names.iter().any(|name| name == "root") {
        return Ok(Arc::new(Acl::root()));
    }
    let value = |name: &str| entity.and_then(|entity| entity.value(name));
    let more = entity.map(|it| it.policies.as_slice()).unwrap_or_default();
    // Nobody is root by who he is: only a token is.
    let more = more
        .iter()
        .filter(|name| *name != "root" && !names.contains(name));
    let names = names.iter().chain(more);
    // To leave some out could leave out the one that denies.
    if POLICIES_MAX < names.clone().count() {
        return Err(Refusal::Forbidden(format!(
            "more than {POLICIES_MAX} policies by token, entity and groups"
        )));
    }
    let registry = ctx.world.registry;
    let set = match ctx.world.policies {
        // What this very request writes is not yet in what is remembered.
        Some(version) if !ctx.draft.is_written_in(tables::POLICIES) => {
            ctx.draft.rests_on(KeyRange::prefix(tables::POLICIES, ""));
            let read = || read_set(ctx, names.clone());
            registry.sets.get(version, names.clone(), read)?
        }
        _ => Arc::new(read_set(ctx, names)?),
    };
    Ok(set.acl(value))
}

/// Reads policies; one that does not exist grants nothing.
fn read_set<'n>(
    ctx: &mut Context<'_, '_>,
    names: impl Iterator<Item = &'n String>,
) -> Result<Set, Refusal> {
    let parse = |text: &str| {
        let policy = ctx.world.registry.policies.parse(text);
        policy.map_err(|error| Refusal::corrupt("policy", error))
    };
    let mut policies = Vec::new();
    for name in names {
        if name == wrapping::POLICY {
            policies.push(parse(builtin::WRAPPING)?);
            continue;
        }
        let Some(text) = ctx.draft.get(&Key::new(tables::POLICIES, name))? else {
            continue;
        };
        let text = std::str::from_utf8(text.expose())
            .map_err(|error| Refusal::corrupt("policy", error))?;
        policies.push(parse(text)?);
    }
    Ok(Set::new(policies))
}
