//! Logging in by a browser: the authorisation code flow (RFC 6749, section 4.1; OpenID Connect Core 1.0,
//! section 3.1), with PKCE (RFC 7636).
//!
//! ```text
//!   begin    role, where to go back to   ->  an address at the provider, with a state
//!            (the person logs in there, and the browser goes back with code and state)
//!   end      state, code                 ->  the provider's token for the code; a token of ours
//! ```
//!
//! A state ends at one mount and provider, within ten minutes, and makes one token. A try that fails
//! does not end it: whoever saw it on its way would else end another's login with it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::digest;
use bastide_api::Secret;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::config::Config;
use super::provider::{self, Given, Provider, discover, proven, tell};
use super::role::{self, Role, listed};
use super::state::{Begun, STATE_BYTES_MAX};
use super::token::{Proven, TokenError, Unproven};
use super::{URL_BYTES_MAX, made};
use crate::core::engine::{Call, Context};
use crate::core::outside::{Age, encoded};
use crate::core::redirect::is_registered;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Longest code, in bytes. Those of some providers are tokens of their own.
const CODE_BYTES_MAX: usize = 6 << 10;
/// Longest text of the client's own that it shows at both ends, in bytes.
const NONCE_BYTES_MAX: usize = 1024;
/// The scope that each login asks for.
const OPENID: &str = "openid";

fn failed(why: &str) -> Refusal {
    Refusal::invalid(format!("Vault login failed. {why}"))
}

fn text(call: &Call<'_>, name: &str, bytes_max: usize) -> Result<String, Refusal> {
    let text = call.fields().text(name)?.unwrap_or_default();
    if bytes_max < text.len() {
        return Err(Refusal::invalid(format!("{name} is too long")));
    }
    Ok(text)
}

/// Returns the configuration of a mount at which people log in.
fn config(ctx: &mut Context<'_, '_>) -> Result<Config, Refusal> {
    let config: Option<Config> = ctx.load("config")?;
    let config = config.ok_or_else(|| Refusal::invalid("could not load configuration"))?;
    if !config.is_for_people() {
        return Err(Refusal::invalid(
            "OIDC login is not configured for this mount",
        ));
    }
    Ok(config)
}

/// Answers with the address at which somebody logs in; an empty one if his browser may not be sent back
/// where he wants it, as in Vault.
pub(super) fn begin(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let config = config(ctx)?;
    let named = Some(text(call, "role", URL_BYTES_MAX)?).filter(|name| !name.is_empty());
    let name = named.unwrap_or_else(|| config.default_role.clone());
    if name.is_empty() {
        return Err(Refusal::invalid("missing role"));
    }
    let redirect = text(call, "redirect_uri", URL_BYTES_MAX)?;
    if redirect.is_empty() {
        return Err(Refusal::invalid("missing redirect_uri"));
    }
    let client_nonce = text(call, "client_nonce", NONCE_BYTES_MAX)?;
    let client_nonce = Some(client_nonce).filter(|nonce| !nonce.is_empty());
    let role = role::find(ctx, &name)?
        .ok_or_else(|| Refusal::invalid(format!("role {name:?} could not be found")))?;
    if !is_registered(&redirect, &role.allowed_redirect_uris) {
        let why = "redirect_uri is not one of the role's allowed_redirect_uris";
        return Ok(Answer::json(json!({ "auth_url": "" })).warn(why));
    }
    let provider = discover(ctx, &config, Age::Minutes)
        .map_err(|why| tell("error getting the provider's address", why))?;
    let base = provider
        .authorization_endpoint()
        .map_err(Refusal::invalid)?;
    let begun = Begun::new(ctx, &role.name, &redirect, client_nonce.as_deref());
    let more = role.oidc_scopes.iter().map(String::as_str);
    let mut scopes = vec![OPENID];
    scopes.extend(more.filter(|scope| *scope != OPENID));
    // In the order of their names, as Vault's own.
    let mut query = vec![
        ("client_id", config.oidc_client_id.clone()),
        ("code_challenge", begun.challenge(ctx)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    if role.max_age != 0 {
        query.push(("max_age", role.max_age.to_string()));
    }
    query.push(("nonce", begun.nonce(ctx)));
    query.push(("redirect_uri", redirect));
    if let Some(mode) = config.response_mode() {
        query.push(("response_mode", mode.to_owned()));
    }
    query.push(("response_type", "code".to_owned()));
    query.push(("scope", scopes.join(" ")));
    query.push(("state", begun.seal(ctx, &config)));
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let mark = if base.contains('?') { '&' } else { '?' };
    let url = format!("{base}{mark}{}", query.join("&"));
    Ok(Answer::json(json!({ "auth_url": url })))
}

/// Makes a token for whoever comes back from the provider with a state of ours and a code of its.
pub(super) fn end(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let config = config(ctx)?;
    let over = || failed("Expired or missing OAuth state.");
    let state = text(call, "state", STATE_BYTES_MAX)?;
    let begun = Begun::open(ctx, &config, &state).ok_or_else(over)?;
    if begun.is_spent(ctx)? {
        return Err(over());
    }
    let client_nonce = text(call, "client_nonce", NONCE_BYTES_MAX)?;
    if !begun.is_ended_by(&client_nonce) {
        return Err(Refusal::invalid("invalid client_nonce"));
    }
    let role = role::find(ctx, begun.role())?;
    let role = role.ok_or_else(|| failed("Role could not be found"))?;
    // It may have changed since.
    if !is_registered(begun.redirect(), &role.allowed_redirect_uris) {
        return Err(failed("The role does not allow the redirect_uri any more."));
    }
    let code = text(call, "code", CODE_BYTES_MAX)?;
    if code.is_empty() {
        return Err(match call.fields().get("error") {
            None => failed("No code or id_token received."),
            Some(_) => failed("The provider has not logged anybody in."),
        });
    }
    let provider = discover(ctx, &config, Age::Minutes)
        .map_err(|why| tell("Vault login failed. Error asking the provider", why))?;
    // RFC 9207: a code that comes from another provider goes to no one.
    let from = text(call, "iss", URL_BYTES_MAX)?;
    if !from.is_empty() && from != provider.issuer {
        return Err(failed("The code is of another provider."));
    }
    let fields = vec![
        ("grant_type", Secret::new("authorization_code".to_owned())),
        ("code", Secret::new(code)),
        ("redirect_uri", Secret::new(begun.redirect().to_owned())),
        ("code_verifier", begun.verifier(ctx)),
    ];
    let given = provider::exchange(ctx, &config, &provider, fields)
        .map_err(|why| tell("Vault login failed. Error exchanging oidc code", why))?;
    let token = judged(ctx, &config, &provider, &begun, &role, &given)?;
    let found = role.judge_person(&token, ctx.now())?;
    begun.spend(ctx)?;
    Ok(made(ctx, &role, found))
}

/// Judges the provider's token (OpenID Connect Core 1.0, section 3.1.3.7), and adds what it tells besides.
fn judged(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    provider: &Provider,
    begun: &Begun,
    role: &Role,
    given: &Given,
) -> Result<Proven, Refusal> {
    let wrong = |why: TokenError| Refusal::invalid(format!("error validating token: {why}"));
    let unproven = Unproven::read(given.id_token.expose()).map_err(wrong)?;
    let mut token = proven(ctx, config, &unproven)?;
    let nonce = begun.nonce(ctx);
    let now = i64::try_from(ctx.now().as_secs()).unwrap_or(i64::MAX);
    judge_id_token(&token, config, provider, &nonce)
        .and_then(|()| judge_age(&token, role, now))
        .map_err(|why| Refusal::invalid(format!("error validating token: {why}")))?;
    let Some(access_token) = &given.access_token else {
        return Ok(token);
    };
    if let Some(said) = token.claim("at_hash") {
        let hash = digest(unproven.alg().hash(), access_token.expose().as_bytes());
        let half = BASE64URL_NOPAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2]);
        if said.as_str() != Some(&half) {
            return Err(Refusal::invalid(
                "error validating token: the access token is another one's (at_hash)",
            ));
        }
    }
    let Some(more) = provider::more(ctx, config, provider, access_token)? else {
        return Ok(token);
    };
    // Section 5.3.2: what is said of somebody else does not count.
    if token.claim("sub").is_none() || more.get("sub") != token.claim("sub") {
        return Err(Refusal::invalid(
            "error validating token: the provider's user info is about somebody else (sub)",
        ));
    }
    token.add(more);
    Ok(token)
}

fn judge_id_token(
    token: &Proven,
    config: &Config,
    provider: &Provider,
    nonce: &str,
) -> Result<(), &'static str> {
    let text = |name: &str| token.claim(name).and_then(Value::as_str);
    let issuer = text("iss");
    let is_bound = config.bound_issuer.is_empty() || issuer == Some(&config.bound_issuer);
    if issuer != Some(&provider.issuer) || !is_bound {
        return Err("invalid issuer (iss) claim");
    }
    let client = Some(config.oidc_client_id.as_str());
    let audiences = token.claim("aud").map(listed).unwrap_or_default();
    if !audiences.iter().any(|it| it.as_str() == client) {
        return Err("invalid audience (aud) claim");
    }
    // A token for several says which of them asked for it.
    let is_ours = match token.claim("azp") {
        Some(azp) => azp.as_str() == client,
        None => audiences.len() == 1,
    };
    if !is_ours {
        return Err("invalid authorized party (azp) claim");
    }
    for time in ["exp", "iat"] {
        if !matches!(token.moment(time), Ok(Some(_))) {
            return Err("no expiration time (exp) or issued at (iat) claim in token");
        }
    }
    let said = text("nonce").unwrap_or_default();
    if verify_slices_are_equal(said.as_bytes(), nonce.as_bytes()).is_err() {
        return Err("invalid nonce (nonce) claim");
    }
    Ok(())
}

/// Judges how long ago the person was asked who he is, where the role says how long at most.
fn judge_age(token: &Proven, role: &Role, now: i64) -> Result<(), &'static str> {
    if role.max_age == 0 {
        return Ok(());
    }
    let at = token.moment("auth_time").ok().flatten();
    let at = at.ok_or("no time of authentication (auth_time) claim in token")?;
    let age_max = i64::try_from(role.max_age).unwrap_or(i64::MAX);
    let until = at.saturating_add(age_max).saturating_add(role.skew());
    if until < now {
        return Err("the authentication is older than max_age");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
