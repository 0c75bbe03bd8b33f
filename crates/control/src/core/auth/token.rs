//! The auth method `token`: tokens make, show, renew and revoke tokens.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::Secret;
use serde_json::{Map, Value, json};

use crate::core::auth::renewal;
use crate::core::cidrs;
use crate::core::engine::{Call, Caller, Context, Engine};
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::request::Operation;
use crate::core::token_type::TokenKind;
use crate::core::tokens::{self, Token};

mod create;
mod roles;

use create::Kin;

/// Most accessors in one list.
const ACCESSORS_MAX: usize = 10_000;

/// The auth method.
pub struct TokenAuth;

impl Engine for TokenAuth {
    fn kind(&self) -> &'static str {
        "token"
    }

    fn needs_sudo(&self, call: &Call<'_>) -> bool {
        matches!(call.segments()[..], ["accessors" | "revoke-orphan", ..])
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["roles", name] => Ok(Some(roles::find(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["create"]) => create::create(ctx, call, Kin::Child, None),
            (Update, ["create-orphan"]) => create::create(ctx, call, Kin::Orphan, None),
            (Update, ["create", role]) => create::create(ctx, call, Kin::Child, Some(role)),
            (_, ["roles", ..]) => roles::decide(ctx, call),
            (Read | Update, ["lookup-self"]) => {
                let token = own(ctx)?;
                let text = own_text(ctx);
                lookup(ctx, &token, text.into())
            }
            // A token in a URL stands in logs and histories of everything on the way.
            (Read, ["lookup"]) if call.fields().get("token").is_some() => Err(Refusal::invalid(
                "a token does not belong in a URL: send it in the body",
            )),
            (Read | Update, ["lookup"]) => match call.fields().text("token")? {
                Some(text) => {
                    let text = Secret::new(text);
                    let token = tokens::by_text(ctx.draft, &text)?
                        .ok_or_else(|| Refusal::Forbidden("bad token".to_owned()))?;
                    let id = Value::String(text.expose().clone());
                    lookup(ctx, &token, id)
                }
                None => {
                    let token = own(ctx)?;
                    let text = own_text(ctx);
                    lookup(ctx, &token, text.into())
                }
            },
            (Update, ["lookup-accessor"]) => {
                let token = of_accessor(ctx, call)?;
                lookup(ctx, &token, "".into())
            }
            (Update, ["renew-self"]) => {
                let token = own(ctx)?;
                renew(ctx, call, token, own_text(ctx))
            }
            (Update, ["renew"]) => match call.fields().text("token")? {
                Some(text) => {
                    let text = Secret::new(text);
                    let token = tokens::by_text(ctx.draft, &text)?
                        .ok_or_else(|| Refusal::invalid("token not found"))?;
                    renew(ctx, call, token, text.expose())
                }
                None => {
                    let token = own(ctx)?;
                    renew(ctx, call, token, own_text(ctx))
                }
            },
            (Update, ["renew-accessor"]) => {
                let token = of_accessor(ctx, call)?;
                renew(ctx, call, token, "")
            }
            (Update, ["revoke-self"]) => {
                let token = own(ctx)?;
                revoke(ctx, &token)
            }
            (Update, ["revoke"]) => match named(ctx, call)? {
                Some(token) => revoke(ctx, &token),
                None => Ok(Answer::done()),
            },
            (Update, ["revoke-orphan"]) => match named(ctx, call)? {
                Some(token) if token.kind == TokenKind::Service => {
                    tokens::revoke_orphan(ctx.draft, ctx.world, &token.id)?;
                    Ok(Answer::done())
                }
                Some(token) => revoke(ctx, &token),
                None => Err(Refusal::invalid("token to revoke not found")),
            },
            (Update, ["revoke-accessor"]) => {
                let accessor = call.fields().required("accessor")?;
                match tokens::by_accessor(ctx.draft, &accessor)? {
                    Some(token) => revoke(ctx, &token),
                    None => Ok(Answer::done().warn("No token found with this accessor")),
                }
            }
            (List, ["accessors"]) => Answer::keys(tokens::accessors(ctx.draft, ACCESSORS_MAX)?),
            (Update, ["tidy"]) => Ok(Answer::from(Reply::Accepted).warn(
                "tokens need no tidying: an entry and what hangs on it are committed together, \
                 and swept within a second",
            )),
            (
                _,
                [
                    "create" | "create-orphan" | "lookup" | "lookup-self" | "lookup-accessor"
                    | "renew" | "renew-self" | "renew-accessor" | "revoke" | "revoke-self"
                    | "revoke-orphan" | "revoke-accessor" | "accessors" | "tidy",
                ],
            ) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

fn own(ctx: &Context<'_, '_>) -> Result<Arc<Token>, Refusal> {
    match ctx.caller {
        Caller::Token(token) => Ok(Arc::clone(token)),
        Caller::Nobody | Caller::Machine(_) | Caller::Program => {
            Err(Refusal::Forbidden("no token was given".to_owned()))
        }
    }
}

fn own_text<'c>(ctx: &Context<'c, '_>) -> &'c str {
    ctx.bearer.map_or("", |text| text.expose())
}

fn named(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<Arc<Token>>, Refusal> {
    let text = Secret::new(call.fields().required("token")?);
    tokens::by_text(ctx.draft, &text)
}

fn of_accessor(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Arc<Token>, Refusal> {
    let accessor = call.fields().required("accessor")?;
    let token = tokens::by_accessor(ctx.draft, &accessor)?;
    token.ok_or_else(|| Refusal::invalid("invalid accessor"))
}

fn revoke(ctx: &mut Context<'_, '_>, token: &Token) -> Result<Answer, Refusal> {
    if token.kind == TokenKind::Batch {
        return Err(Refusal::invalid("batch tokens cannot be revoked"));
    }
    tokens::revoke(ctx.draft, ctx.world, &token.id)?;
    Ok(Answer::done())
}

fn lookup(ctx: &mut Context<'_, '_>, token: &Token, id: Value) -> Result<Answer, Refusal> {
    let entity = pipeline::entity_of_token(ctx, token)?;
    let mut data = shown(ctx, token, id);
    if let Some(entity) = entity.filter(|entity| !entity.policies.is_empty()) {
        data.insert("identity_policies".into(), json!(entity.policies));
    }
    Ok(Answer::data(data))
}

fn shown(ctx: &Context<'_, '_>, token: &Token, id: Value) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
    put("id", id);
    put("accessor", token.accessor.as_str().into());
    put("policies", json!(token.policies));
    put("path", token.path.as_str().into());
    put("meta", json!(token.meta));
    put("display_name", token.display_name.as_str().into());
    put("num_uses", token.num_uses.into());
    put("orphan", token.ancestors.is_empty().into());
    put("creation_time", token.created.as_secs().into());
    put("creation_ttl", token.creation_ttl.into());
    put("expire_time", json!(token.expires.map(timestamp)));
    put("ttl", token.ttl(ctx.now()).into());
    put("explicit_max_ttl", token.explicit_max_ttl.into());
    put("entity_id", token.entity_id.as_str().into());
    put("type", token.kind.as_str().into());
    if !token.bound_cidrs.is_empty() {
        put("bound_cidrs", cidrs::shown(&token.bound_cidrs));
    }
    if token.expires.is_some() {
        put("issue_time", timestamp(token.created).into());
        put("renewable", token.renewable.into());
    }
    if let Some(at) = token.renewed {
        put("last_renewal", timestamp(at).into());
        put("last_renewal_time", at.as_secs().into());
    }
    if token.period != 0 {
        put("period", token.period.into());
    }
    if let Some(role) = &token.role {
        put("role", role.as_str().into());
    }
    data
}

fn renew(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    token: Arc<Token>,
    text: &str,
) -> Result<Answer, Refusal> {
    let mut token = Arc::unwrap_or_clone(token);
    let asked = call.fields().duration("increment")?;
    let default = renewal::judge(ctx, &mut token)?;
    let (token, cut) = tokens::renew(ctx.draft, token, asked, default)?;
    let ttl = Duration::from_secs(token.ttl(ctx.now()));
    let entity = pipeline::entity_of_token(ctx, &token)?;
    let auth = pipeline::auth(text, &token, entity.as_deref(), ttl);
    let answer = Answer::from(Reply::Auth(auth));
    Ok(if cut {
        answer.warn(format!(
            "TTL exceeded the effective max_ttl of the token; TTL value is capped to {} seconds",
            ttl.as_secs()
        ))
    } else {
        answer
    })
}

#[cfg(test)]
mod tests;
