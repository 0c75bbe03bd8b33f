//! `identity/oidc/role`, `token` and `introspect`: signed tokens that say who holds a token here.

use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::{bare, issuer, jwk, keys, room, template};
use crate::core::engines::identity::{facts, register};
use crate::core::identity::EntityFacts;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// How long a token is good where nothing is said.
const TTL_DEFAULT: u64 = 24 * 3600;
/// Letters of a client's id that is drawn here.
const CLIENT_LETTERS: usize = 26;
/// Longest client id, in bytes.
const CLIENT_BYTES_MAX: usize = 256;

/// A role, as it is stored.
#[derive(Serialize, Deserialize)]
struct Role {
    key: String,
    template: String,
    ttl: u64,
    client: String,
}

/// Returns where a role stands.
pub fn at(name: &str) -> String {
    format!("oidc/role/{name}")
}

/// Returns the roles that a named key signs for, and how long their tokens are good.
pub fn of_key(ctx: &mut Context<'_, '_>, key: &str) -> Result<Vec<(String, u64)>, Refusal> {
    let mut found = Vec::new();
    for name in ctx.keys("oidc/role/")? {
        if let Some(role) = ctx.load::<Role>(&at(&name))?
            && role.key == key
        {
            found.push((name, role.ttl));
        }
    }
    Ok(found)
}

/// Takes a template that may have come in base64; says what is wrong with it.
pub fn checked_template(ctx: &Context<'_, '_>, given: String) -> Result<String, Refusal> {
    let decoded = BASE64
        .decode(given.trim().as_bytes())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let template = decoded.unwrap_or(given);
    template::claims(&template, &EntityFacts::default(), ctx.now())
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(template)
}

pub(super) fn role(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    match call.operation {
        Operation::Read => {
            let role: Role = ctx.load(&at(name))?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(json!({
                "client_id": role.client,
                "key": role.key,
                "template": role.template,
                "ttl": role.ttl,
            })))
        }
        Operation::Create | Operation::Update => write(ctx, call, name),
        Operation::Delete => {
            ctx.delete(&at(name));
            Ok(Answer::done())
        }
        Operation::List | Operation::Patch => Err(Refusal::UnsupportedOperation),
    }
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut role = match ctx.load::<Role>(&at(name))? {
        Some(role) => role,
        None => {
            room(ctx, "oidc/role/")?;
            Role {
                key: String::new(),
                template: String::new(),
                ttl: TTL_DEFAULT,
                client: String::new(),
            }
        }
    };
    if let Some(key) = fields.text("key")? {
        role.key = key;
    }
    if role.key.is_empty() {
        return Err(Refusal::invalid("the key parameter is required"));
    }
    if let Some(given) = fields.text("template")? {
        role.template = checked_template(ctx, given)?;
    }
    if let Some(ttl) = fields.duration("ttl")? {
        role.ttl = ttl.as_secs();
    }
    let key = if role.key == keys::DEFAULT {
        keys::ready(ctx, &role.key)?
    } else {
        keys::find(ctx, &role.key)?
    };
    let Some(key) = key else {
        return Err(Refusal::invalid(format!("cannot find key {:?}", role.key)));
    };
    if key.verification_ttl < role.ttl {
        return Err(Refusal::invalid(
            "a role's token ttl cannot be longer than the verification_ttl of the key it references",
        ));
    }
    if let Some(client) = fields.text("client_id")?.filter(|it| !it.is_empty()) {
        if CLIENT_BYTES_MAX < client.len() {
            return Err(Refusal::invalid("client_id is too long"));
        }
        role.client = client;
    }
    if role.client.is_empty() {
        role.client = ctx.entropy().base62(CLIENT_LETTERS);
    }
    ctx.save(&at(name), &role)?;
    Ok(Answer::done())
}

/// Answers with a token that says who asks.
pub(super) fn token(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let Some(role) = ctx.load::<Role>(&at(name))? else {
        return Err(Refusal::invalid(format!("role {name:?} not found")));
    };
    let Some(key) = keys::ready(ctx, &role.key)? else {
        return Err(Refusal::invalid(format!("key {:?} not found", role.key)));
    };
    if !key.signs_for(&role.client) {
        return Err(Refusal::invalid(format!(
            "the key {:?} does not list the client ID of the role {name:?} as an allowed client ID",
            role.key
        )));
    }
    let Some(entity) = ctx.entity else {
        return Err(Refusal::invalid(
            "no entity associated with the request's token",
        ));
    };
    // A life of nothing must not be taken for one without end by a careless verifier.
    let ttl = role.ttl.min(key.verification_ttl).max(1);
    let now = ctx.now();
    let mut claims = template::claims(&role.template, entity, now)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    let expires = now.plus(Duration::from_secs(ttl)).as_secs();
    for (claim, value) in [
        ("iss", issuer(ctx)?.into()),
        ("namespace", Value::from("root")),
        ("sub", entity.id.as_str().into()),
        ("aud", role.client.as_str().into()),
        ("iat", now.as_secs().into()),
        ("exp", expires.into()),
    ] {
        claims.insert(claim.to_owned(), value);
    }
    let token = key.sign(&claims)?;
    Ok(Answer::json(json!({
        "token": token,
        "client_id": role.client,
        "ttl": ttl,
    })))
}

/// Says whether a token is one of ours, good now, and of an entity that is served.
pub(super) fn introspect(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let text = fields.text("token")?.unwrap_or_default();
    let client = fields.text("client_id")?.unwrap_or_default();
    Ok(bare(match judged(ctx, &text, &client)? {
        Ok(()) => json!({ "active": true }),
        Err(why) => json!({ "active": false, "error": why }),
    }))
}

fn judged(
    ctx: &mut Context<'_, '_>,
    text: &str,
    client: &str,
) -> Result<Result<(), String>, Refusal> {
    let now = ctx.now();
    let keys: Vec<_> = keys::all(ctx)?
        .iter()
        .flat_map(|key| key.public(now))
        .collect();
    let claims = match jwk::verified(text, &keys) {
        Ok(claims) => claims,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let told = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if told("iss") != issuer(ctx)? {
        return Ok(Err("error validating claims: invalid issuer".to_owned()));
    }
    if !is_current(&claims, now.as_secs()) {
        return Ok(Err("error validating claims: token is expired".to_owned()));
    }
    if !client.is_empty() && told("aud") != client {
        return Ok(Err("error validating claims: invalid audience".to_owned()));
    }
    let entity = facts::find(&mut register(ctx), told("sub"))?;
    Ok(match entity {
        None => Err("entity was not found".to_owned()),
        Some(entity) if entity.disabled => Err("entity is disabled".to_owned()),
        Some(_) => Ok(()),
    })
}

fn is_current(claims: &Map<String, Value>, now: u64) -> bool {
    let at = |name: &str| claims.get(name).and_then(Value::as_u64);
    let started = at("iat").is_some_and(|issued| issued <= now);
    started && at("exp").is_some_and(|end| now < end)
}
