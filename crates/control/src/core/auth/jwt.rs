//! The auth methods `jwt` and `oidc`: a token that somebody else signed.
//!
//! The keys that signatures are checked with stand in the configuration, or are fetched from where it
//! says: a set of keys, or what an OpenID provider tells of itself (OpenID Connect Discovery 1.0).
//!
//! People log in by a browser at such a provider (`flow`): this server gives them an address there, and
//! takes what comes back.
//!
//! Keys below the mount: `config`, `role/<name>`, `spent/<digest of a login>`.

use serde_json::Value;

use crate::core::auth::display_name;
use crate::core::engine::{Call, Context, Engine};
use crate::core::identity::Alias;
use crate::core::leases::Lease;
use crate::core::outside::Age;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::Terms;
use crate::core::tokens::Token;

pub mod config;
mod flow;
pub mod keys;
pub mod provider;
mod role;
mod state;
pub mod token;

use config::Config;
use provider::{discover, proven, tell};
use role::{Found, Role};
use token::{Proven, TokenError, Unproven};

/// Longest URL of a configuration, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// The auth method, under one of its two names.
pub struct Jwt(pub &'static str);

impl Engine for Jwt {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        use Operation::{Read, Update};
        matches!(
            (call.operation, call.path),
            (Update, "login" | "oidc/auth_url") | (Read | Update, "oidc/callback")
        )
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["role", name] => Ok(Some(role::find(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login"]) => login(ctx, call),
            (Read, ["config"]) => {
                let config: Config = ctx.load("config")?.ok_or(Refusal::Absent)?;
                Ok(config.shown())
            }
            (Update, ["config"]) => config::configure(ctx, call),
            (Update, ["oidc", "auth_url"]) => flow::begin(ctx, call),
            (Read | Update, ["oidc", "callback"]) => flow::end(ctx, call),
            (List, ["role"]) => Answer::keys(ctx.list(role::FOLDER)?),
            (Read, ["role", name]) => {
                let role = role::find(ctx, name)?.ok_or(Refusal::Absent)?;
                Ok(Answer::data(role.shown()))
            }
            (Create | Update, ["role", name]) => role::write(ctx, call, name),
            (Delete, ["role", name]) => {
                role::delete(ctx, name);
                Ok(Answer::done())
            }
            (
                _,
                ["login" | "config" | "role"] | ["role", _] | ["oidc", "auth_url" | "callback"],
            ) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        let name = token.kept.get("role").cloned().unwrap_or_default();
        match role::find(ctx, &name)? {
            Some(role) => role.token.terms_for(token).map(Some),
            None => Err(Refusal::invalid(format!(
                "role {name} does not exist during renewal"
            ))),
        }
    }

    /// A login that ended is remembered no more: its time is over.
    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        state::forget(ctx, lease)
    }
}

fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let config: Config = ctx
        .load("config")?
        .ok_or_else(|| Refusal::invalid("could not load configuration"))?;
    let named = fields.text("role")?.filter(|name| !name.is_empty());
    let name = named.unwrap_or_else(|| config.default_role.clone());
    if name.is_empty() {
        return Err(Refusal::invalid("missing role"));
    }
    let text = fields.text("jwt")?.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Refusal::invalid("missing token"))?;
    let role = role::find(ctx, &name)?
        .ok_or_else(|| Refusal::invalid(format!("role {name:?} could not be found")))?;
    if role.role_type == "oidc" {
        return Err(Refusal::invalid("role with oidc role_type is not allowed"));
    }
    let refused = |why: TokenError| Refusal::invalid(format!("error validating token: {why}"));
    let unproven = Unproven::read(&text).map_err(refused)?;
    let token = proven(ctx, &config, &unproven)?;
    judge_issuer(ctx, &config, &token)?;
    granted(ctx, &role, &token)
}

fn judge_issuer(ctx: &mut Context<'_, '_>, config: &Config, token: &Proven) -> Result<(), Refusal> {
    let said = token.claim("iss").and_then(Value::as_str);
    let mut wanted = Vec::new();
    if !config.bound_issuer.is_empty() {
        wanted.push(config.bound_issuer.clone());
    }
    if !config.oidc_discovery_url.is_empty() && config.bound_issuer.is_empty() {
        let provider = discover(ctx, config, Age::Minutes)
            .map_err(|why| tell("error validating token", why))?;
        wanted.push(provider.issuer);
    }
    if wanted.iter().any(|wanted| said != Some(wanted)) {
        return Err(Refusal::invalid(
            "error validating token: invalid issuer (iss) claim",
        ));
    }
    Ok(())
}

fn granted(ctx: &mut Context<'_, '_>, role: &Role, token: &Proven) -> Result<Answer, Refusal> {
    let found = role.judge(token, ctx.now())?;
    Ok(made(ctx, role, found))
}

/// Makes a token of what is known of somebody.
fn made(ctx: &Context<'_, '_>, role: &Role, found: Found) -> Answer {
    let login = Login {
        alias: Some(Alias {
            name: found.user.clone(),
            metadata: found.metadata.clone(),
        }),
        groups: found.groups,
        display_name: display_name(&ctx.mount, &found.user),
        metadata: found.metadata,
        kept: [("role".to_owned(), role.name.clone())].into(),
        ..role.token.login()
    };
    Reply::Login(Box::new(login)).into()
}

#[cfg(test)]
mod tests;
