//! `identity/oidc`: signed statements about who holds a token, for programs that trust this server.
//!
//! A *named key* signs and is rotated; a *role* says what a token tells and which key signs it; a
//! *provider* lets people log in to other programs by OpenID Connect with the account they have here.

use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::keys::NamedKey;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply};
use crate::core::request::Operation;

mod flow;
pub(crate) mod jwk;
mod keys;
mod provider;
pub(crate) mod template;
mod tokens;

pub(super) use flow::revoke;

/// Longest name of a key, a role, a client and their like, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most things of one kind.
const THINGS_MAX: usize = 1_000;
/// Longest issuer, in bytes.
const ISSUER_BYTES_MAX: usize = 256;

/// Returns whether a path below `oidc/` needs no token of ours: what verifiers read, and where other
/// programs come with credentials of their own.
pub fn is_open(operation: Operation, rest: &[&str]) -> bool {
    use Operation::{Read, Update};
    matches!(
        (operation, rest),
        (Read, [".well-known", "keys" | "openid-configuration"])
            | (
                Read,
                [
                    "provider",
                    _,
                    ".well-known",
                    "keys" | "openid-configuration"
                ]
            )
            | (Update, ["provider", _, "token"])
            | (Read | Update, ["provider", _, "userinfo"])
    )
}

/// Returns whether what a write goes to is there.
pub fn exists(ctx: &mut Context<'_, '_>, rest: &[&str]) -> Result<Option<bool>, Refusal> {
    let at = match rest {
        ["key", name] if *name == keys::DEFAULT => return Ok(Some(true)),
        ["key", name] => keys::at(name),
        ["role", name] => tokens::at(name),
        ["provider", name] if *name == provider::DEFAULT => return Ok(Some(true)),
        [
            kind @ ("provider" | "client" | "scope" | "assignment"),
            name,
        ] => provider::at(kind, name),
        _ => return Ok(None),
    };
    Ok(Some(ctx.get(&at)?.is_some()))
}

/// Decides a call below `oidc/`.
pub fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Create, List, Read, Update};
    match (call.operation, rest) {
        (Read, ["config"]) => {
            let config = config(ctx)?;
            Ok(Answer::json(json!({ "issuer": config })))
        }
        (Update, ["config"]) => set_config(ctx, call),
        (_, ["config"]) => Err(Refusal::UnsupportedOperation),
        (List, [kind @ ("key" | "role" | "provider" | "client" | "scope" | "assignment")]) => {
            match *kind {
                "key" => keys::list(ctx),
                "role" => Answer::keys(ctx.list("oidc/role/")?),
                kind => provider::list(ctx, call, kind),
            }
        }
        (_, ["key", name]) => keys::decide(ctx, call, checked(name)?),
        (Create | Update, ["key", name, "rotate"]) => keys::rotate(ctx, call, checked(name)?),
        (_, ["role", name]) => tokens::role(ctx, call, checked(name)?),
        (Read, ["token", role]) => tokens::token(ctx, role),
        (Update, ["introspect"]) => tokens::introspect(ctx, call),
        (Read, [".well-known", "openid-configuration"]) => discovery(ctx),
        (Read, [".well-known", "keys"]) => {
            let all = keys::all(ctx)?;
            Ok(published(ctx, &all))
        }
        (
            _,
            [
                kind @ ("provider" | "client" | "scope" | "assignment"),
                name,
            ],
        ) => provider::decide(ctx, call, kind, checked(name)?),
        (Read, ["provider", name, ".well-known", what]) => match *what {
            "openid-configuration" => provider::discovery(ctx, name),
            "keys" => provider::published(ctx, name),
            _ => Err(Refusal::UnsupportedPath),
        },
        (Read | Update, ["provider", name, "authorize"]) => flow::authorize(ctx, call, name),
        (Update, ["provider", name, "token"]) => flow::token(ctx, call, name),
        (Read | Update, ["provider", name, "userinfo"]) => flow::userinfo(ctx, name),
        (_, ["key", _, "rotate"] | ["token", _] | ["introspect"] | [".well-known", _]) => {
            Err(Refusal::UnsupportedOperation)
        }
        _ => Err(Refusal::UnsupportedPath),
    }
}

/// Returns a name that is one: letters, digits, `-`, `_` and `.`.
fn checked(name: &str) -> Result<&str, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::UnsupportedPath);
    }
    Ok(name)
}

/// Refuses one more thing of a kind where there are [`THINGS_MAX`].
fn room(ctx: &mut Context<'_, '_>, prefix: &str) -> Result<(), Refusal> {
    if THINGS_MAX <= ctx.keys(prefix)?.len() {
        return Err(Refusal::invalid(format!(
            "there are {THINGS_MAX} of these already"
        )));
    }
    Ok(())
}

fn config(ctx: &mut Context<'_, '_>) -> Result<String, Refusal> {
    Ok(ctx.load("oidc/config")?.unwrap_or_default())
}

/// Returns the issuer that tokens of roles name.
fn issuer(ctx: &mut Context<'_, '_>) -> Result<String, Refusal> {
    Ok(format!("{}/v1/identity/oidc", config(ctx)?))
}

/// What is said to whoever sets an issuer, in Vault's words.
const ISSUER_SET: &str = "If \"issuer\" is set explicitly, all tokens must be validated against \
                          that address, including those issued by secondary clusters. Setting \
                          issuer to \"\" will restore the default behavior of using the \
                          cluster's api_addr as the issuer.";

/// Returns whether a text is scheme, host and perhaps a port, and nothing more.
fn is_issuer(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~[]:".contains(c);
    text.len() <= ISSUER_BYTES_MAX
        && host.is_some_and(|host| !host.is_empty() && host.chars().all(plain))
}

/// Takes an issuer from a call; the warning beside it is said if it is not empty.
fn given_issuer(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let Some(issuer) = call.fields().text("issuer")? else {
        return Ok(None);
    };
    if !issuer.is_empty() && !is_issuer(&issuer) {
        return Err(Refusal::invalid(
            "invalid issuer, which must include only a scheme, host, and optional port (e.g. \
             https://example.com:8200)",
        ));
    }
    Ok(Some(issuer))
}

fn set_config(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let Some(issuer) = given_issuer(call)? else {
        return Ok(Answer::done());
    };
    ctx.save("oidc/config", &issuer)?;
    Ok(if issuer.is_empty() {
        Answer::done()
    } else {
        Answer::done().warn(ISSUER_SET)
    })
}

fn discovery(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let issuer = issuer(ctx)?;
    Ok(bare(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/keys"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": jwk::Algorithm::NAMES,
    })))
}

/// Answers with the public halves of keys that may have signed what is still good, and of those that
/// will sign next.
fn published(ctx: &Context<'_, '_>, keys: &[NamedKey]) -> Answer {
    let now = ctx.now();
    let keys: Vec<Value> = keys.iter().flat_map(|key| key.published(now)).collect();
    bare(json!({ "keys": keys }))
}

fn bare(value: Value) -> Answer {
    let Value::Object(object) = value else {
        unreachable!("answers are JSON objects")
    };
    Reply::Bare(object).into()
}

/// Answers with JSON alone and a status of its own, as OAuth asks for.
fn told(status: u16, data: Map<String, Value>) -> Answer {
    Reply::Told(crate::core::reply::Partial { data, status }).into()
}

#[cfg(test)]
mod tests;
