//! Logging in to another program: the authorisation code flow (RFC 6749, section 4.1; OpenID Connect
//! Core 1.0, section 3.1), with PKCE (RFC 7636).
//!
//! Codes and access tokens are random texts of which only an HMAC is kept. A code is good once, for
//! the client, the provider and the address that it was made for; it dies with the token of whoever
//! asked for it.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Algorithm as Hash, SHA256, digest};
use bastide_api::{Secret, UnixTime};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::provider::{self, Client, OPENID, Provider};
use crate::core::engines::identity::oidc::{bare, keys, told};
use crate::core::engines::identity::{facts, register};
use crate::core::identity::EntityFacts;
use crate::core::leases::{LeaseId, Owner};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};

/// How long a code is good (RFC 6749 asks for ten minutes at most).
const CODE_TTL: Duration = Duration::from_secs(5 * 60);
/// Letters of a code, and of an access token: 190 and 238 bits.
const CODE_LETTERS: usize = 32;
const ACCESS_LETTERS: usize = 40;
/// Longest text that a program may send, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;
/// Shortest and longest proof of PKCE, in bytes (RFC 7636, section 4.1).
const PKCE_BYTES: std::ops::RangeInclusive<usize> = 43..=128;

/// A code that was given out, as it is stored.
#[derive(Serialize, Deserialize)]
struct Code {
    provider: String,
    client: String,
    entity: String,
    redirect: String,
    nonce: String,
    scopes: Vec<String>,
    /// What the proof must hash to, or be.
    challenge: Option<(Method, String)>,
    /// When its holder logged in, if the program asked for that.
    auth_time: Option<u64>,
    until: UnixTime,
    lease: Option<LeaseId>,
}

/// How a proof becomes a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Method {
    Plain,
    Sha256,
}

/// An access token that was given out, as it is stored.
#[derive(Serialize, Deserialize)]
struct Access {
    provider: String,
    client: String,
    entity: String,
    scopes: Vec<String>,
    until: UnixTime,
}

/// What is refused, in OAuth's words.
struct No {
    status: u16,
    error: &'static str,
    description: String,
}

impl No {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        let status = match error {
            "invalid_client" | "invalid_token" => 401,
            _ => 400,
        };
        Self {
            status,
            error,
            description: description.into(),
        }
    }

    fn answer(self, state: Option<&str>) -> Answer {
        let mut data = Map::new();
        data.insert("error".to_owned(), self.error.into());
        data.insert("error_description".to_owned(), self.description.into());
        if let Some(state) = state {
            data.insert("state".to_owned(), state.into());
        }
        told(self.status, data)
    }
}

fn row(ctx: &Context<'_, '_>, kind: &str, text: &str) -> String {
    let barrier = ctx.draft.source().barrier();
    let digest = barrier.digest(&format!("oidc-{kind}"), text.as_bytes());
    format!("oidc/{kind}/{}", HEXLOWER.encode(&digest))
}

/// Grants a lease that ends with a row: what is stored under it is then gone.
fn lease(
    ctx: &mut Context<'_, '_>,
    row: &str,
    ttl: Duration,
    owner: Owner,
) -> Result<LeaseId, Refusal> {
    let grant = Grant {
        ttl,
        ttl_max: ttl,
        renewable: false,
        data: json!({ "row": row }),
    };
    let path = ctx.path.to_owned();
    ctx.grant(&path, grant, owner)
}

/// Deletes what a lease of this flow stood for.
pub(in crate::core::engines::identity) fn revoke(
    ctx: &mut Context<'_, '_>,
    data: &Value,
) -> Result<(), Refusal> {
    let row = data["row"].as_str();
    let row = row.filter(|row| row.starts_with("oidc/code/") || row.starts_with("oidc/access/"));
    let row = row.ok_or_else(|| Refusal::corrupt("lease", "it has no row"))?;
    ctx.delete(row);
    Ok(())
}

fn text(call: &Call<'_>, name: &str) -> Result<String, Refusal> {
    let text = call.fields().text(name)?.unwrap_or_default();
    if TEXT_BYTES_MAX < text.len() {
        return Err(Refusal::invalid(format!("{name} is too long")));
    }
    Ok(text)
}

/// Returns whether a client may be called back there: an address that it registered, to the letter; on
/// loopback with any port (RFC 8252, section 7.3).
fn may_redirect(asked: &str, registered: &[String]) -> bool {
    let bare = |uri: &str| -> Option<String> {
        let rest = uri.strip_prefix("http://")?;
        let host = ["127.0.0.1", "[::1]", "localhost"]
            .into_iter()
            .find(|host| rest.starts_with(host))?;
        let rest = &rest[host.len()..];
        let path = match rest.strip_prefix(':') {
            Some(port) => port.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        (path.is_empty() || path.starts_with('/')).then(|| format!("{host}{path}"))
    };
    registered
        .iter()
        .any(|uri| uri == asked || (bare(asked).is_some() && bare(uri) == bare(asked)))
}

fn scopes(call: &Call<'_>, provider: &Provider) -> Result<Result<Vec<String>, No>, Refusal> {
    let asked = text(call, "scope")?;
    let asked: Vec<&str> = asked.split_whitespace().collect();
    if !asked.contains(&OPENID) {
        return Ok(Err(No::new(
            "invalid_request",
            format!("scope parameter must contain the {OPENID:?} value"),
        )));
    }
    // What a provider does not know is left out (OpenID Connect Core 1.0, section 3.1.2.1).
    let known = |scope: &&str| provider.scopes.iter().any(|it| it == scope);
    let mut scopes: Vec<String> = asked.into_iter().filter(known).map(str::to_owned).collect();
    scopes.sort();
    scopes.dedup();
    Ok(Ok(scopes))
}

/// Gives whoever asks a code, with which a client gets tokens that say who he is.
pub(super) fn authorize(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let state = text(call, "state")?;
    match judge_authorize(ctx, call, name)? {
        Ok(code) => {
            let code_text = ctx.entropy().base62(CODE_LETTERS);
            let row = row(ctx, "code", &code_text);
            let owner = match ctx.caller.token() {
                Some(token) => Owner::Token(token.id),
                None => Owner::Nobody,
            };
            let lease = lease(ctx, &row, CODE_TTL, owner)?;
            let code = Code {
                lease: Some(lease),
                ..code
            };
            ctx.save(&row, &code)?;
            Ok(bare(json!({ "code": code_text, "state": state })))
        }
        Err(no) => Ok(no.answer(Some(&state))),
    }
}

fn judge_authorize(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Result<Code, No>, Refusal> {
    let no = |error, description: &str| Ok(Err(No::new(error, description)));
    let id = text(call, "client_id")?;
    if id.is_empty() {
        return no("invalid_client_id", "client_id parameter is required");
    }
    let Some(client) = provider::client(ctx, &id)? else {
        return no("invalid_client_id", "client with client_id not found");
    };
    let redirect = text(call, "redirect_uri")?;
    if redirect.is_empty() {
        return no("invalid_request", "redirect_uri parameter is required");
    }
    if !may_redirect(&redirect, &client.redirects) {
        return no(
            "invalid_redirect_uri",
            "redirect_uri is not allowed for the client",
        );
    }
    let Some(found) = provider::find(ctx, name)? else {
        return no("invalid_request", "provider not found");
    };
    if !found.serves(&id) {
        return no(
            "unauthorized_client",
            "client is not authorized to use the provider",
        );
    }
    for (field, error) in [
        ("request", "request_not_supported"),
        ("request_uri", "request_uri_not_supported"),
    ] {
        if call.fields().get(field).is_some() {
            return no(error, "the parameter is not supported");
        }
    }
    let scopes = match scopes(call, &found)? {
        Ok(scopes) => scopes,
        Err(no) => return Ok(Err(no)),
    };
    match text(call, "response_type")?.as_str() {
        "code" => {}
        "" => return no("invalid_request", "response_type parameter is required"),
        _ => {
            return no(
                "unsupported_response_type",
                "unsupported response_type value",
            );
        }
    }
    let Some(entity) = ctx.entity else {
        return no(
            "access_denied",
            "identity entity must be associated with the request",
        );
    };
    if !provider::admits(ctx, &client, entity)? {
        return no(
            "access_denied",
            "identity entity not authorized by client assignment",
        );
    }
    let challenge = match challenge(call, &client)? {
        Ok(challenge) => challenge,
        Err(why) => return no("invalid_request", why),
    };
    let auth_time = match call.fields().int("max_age")? {
        None => None,
        Some(max) if max < 1 => {
            return no("invalid_request", "max_age must be greater than zero");
        }
        Some(max) => {
            let Some(token) = ctx.caller.token() else {
                return no("access_denied", "token associated with request not found");
            };
            let age = ctx.now().since(token.created).as_secs();
            if max.unsigned_abs() < age {
                return no(
                    "max_age_violation",
                    "active re-authentication is required by max_age",
                );
            }
            Some(token.created.as_secs())
        }
    };
    Ok(Ok(Code {
        provider: name.to_owned(),
        client: id,
        entity: entity.id.clone(),
        redirect,
        nonce: text(call, "nonce")?,
        scopes,
        challenge,
        auth_time,
        until: ctx.now().plus(CODE_TTL),
        lease: None,
    }))
}

#[expect(clippy::type_complexity, reason = "a challenge, or why it is none")]
fn challenge(
    call: &Call<'_>,
    client: &Client,
) -> Result<Result<Option<(Method, String)>, &'static str>, Refusal> {
    let challenge = text(call, "code_challenge")?;
    if challenge.is_empty() {
        return Ok(if client.public {
            Err("PKCE is required for public clients")
        } else {
            Ok(None)
        });
    }
    let method = match text(call, "code_challenge_method")?.as_str() {
        "" | "plain" => Method::Plain,
        "S256" => Method::Sha256,
        _ => return Ok(Err("invalid code_challenge_method")),
    };
    Ok(if PKCE_BYTES.contains(&challenge.len()) {
        Ok(Some((method, challenge)))
    } else {
        Err("invalid code_challenge")
    })
}

/// Gives a client tokens for a code.
pub(super) fn token(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    match redeem(ctx, call, name)? {
        Ok(data) => Ok(bare(data)),
        Err(no) => Ok(no.answer(None)),
    }
}

fn redeem(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Result<Value, No>, Refusal> {
    let no = |error, description: &str| Ok(Err(No::new(error, description)));
    let Some(found) = provider::find(ctx, name)? else {
        return no("invalid_request", "provider not found");
    };
    let id = text(call, "client_id")?;
    if id.is_empty() {
        return no("invalid_request", "client_id parameter is required");
    }
    let secret = Secret::new(text(call, "client_secret")?);
    let client = provider::client(ctx, &id)?;
    let proven = |client: &Client| {
        client.public
            || verify_slices_are_equal(client.secret.as_bytes(), secret.expose().as_bytes()).is_ok()
    };
    let Some(client) = client.filter(proven) else {
        return no("invalid_client", "client failed to authenticate");
    };
    if !found.serves(&id) {
        return no(
            "invalid_client",
            "client is not authorized to use the provider",
        );
    }
    let Some(key) = keys::ready(ctx, &client.key)? else {
        return no("invalid_client", "the client's key is gone");
    };
    if !key.signs_for(&id) {
        return no("invalid_client", "client is not authorized to use the key");
    }
    if text(call, "grant_type")? != "authorization_code" {
        return no("unsupported_grant_type", "unsupported grant_type value");
    }
    let text_of_code = text(call, "code")?;
    if text_of_code.is_empty() {
        return no("invalid_request", "code parameter is required");
    }
    let at = row(ctx, "code", &text_of_code);
    let Some(code) = ctx.load::<Code>(&at)? else {
        return no("invalid_grant", "authorization grant is invalid or expired");
    };
    // Whatever comes of it, this code is spent: who guessed at what it belongs to guesses once.
    ctx.delete(&at);
    if let Some(lease) = &code.lease {
        ctx.end(lease)?;
    }
    if let Err(no) = judge_code(call, &code, &id, name, ctx.now())? {
        return Ok(Err(no));
    }
    let entity = facts::find(&mut register(ctx), &code.entity)?;
    let Some(entity) = entity.filter(|entity| !entity.disabled) else {
        return no(
            "invalid_request",
            "identity entity associated with the request not found",
        );
    };
    if !provider::admits(ctx, &client, &entity)? {
        return no(
            "invalid_request",
            "identity entity not authorized by client assignment",
        );
    }
    let now = ctx.now();
    let mut claims = match provider::claims_of(ctx, &code.scopes, &entity)? {
        Ok(claims) => claims,
        Err(why) => return no("invalid_request", &why),
    };
    let access = give_access(ctx, &client, &code, name)?;
    let hash = key.algorithm.hash();
    for (claim, value) in [
        ("iss", provider::issuer(ctx, name, &found)?.into()),
        ("namespace", Value::from("root")),
        ("sub", entity.id.as_str().into()),
        ("aud", id.into()),
        ("iat", now.as_secs().into()),
        ("exp", now.plus(secs(client.id_ttl)).as_secs().into()),
        ("at_hash", half(hash, &access).into()),
        ("c_hash", half(hash, &text_of_code).into()),
    ] {
        claims.insert(claim.to_owned(), value);
    }
    if !code.nonce.is_empty() {
        claims.insert("nonce".to_owned(), code.nonce.into());
    }
    if let Some(at) = code.auth_time {
        claims.insert("auth_time".to_owned(), at.into());
    }
    Ok(Ok(json!({
        "token_type": "Bearer",
        "access_token": access,
        "id_token": key.sign(&claims)?,
        "expires_in": secs(client.access_ttl).as_secs(),
    })))
}

/// A life of nothing is one second.
fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs.max(1))
}

fn judge_code(
    call: &Call<'_>,
    code: &Code,
    client: &str,
    provider: &str,
    now: UnixTime,
) -> Result<Result<(), No>, Refusal> {
    let no = |description| Ok(Err(No::new("invalid_grant", description)));
    if code.until <= now {
        return no("authorization grant is invalid or expired");
    }
    if code.client != client {
        return no("authorization code was not issued to the client");
    }
    if code.provider != provider {
        return no("authorization code was not issued by the provider");
    }
    if text(call, "redirect_uri")? != code.redirect {
        return no(
            "redirect_uri does not match the redirect_uri used in the authorization request",
        );
    }
    let verifier = text(call, "code_verifier")?;
    match &code.challenge {
        None if verifier.is_empty() => {}
        None => return no("unexpected code_verifier for token exchange"),
        Some((method, challenge)) => {
            let shown = match method {
                Method::Plain => verifier.clone(),
                Method::Sha256 => {
                    let hash = digest(&SHA256, verifier.as_bytes());
                    BASE64URL_NOPAD.encode(hash.as_ref())
                }
            };
            let equal = verify_slices_are_equal(shown.as_bytes(), challenge.as_bytes());
            if equal.is_err() || !PKCE_BYTES.contains(&verifier.len()) {
                return no("invalid code_verifier for token exchange");
            }
        }
    }
    Ok(Ok(()))
}

fn give_access(
    ctx: &mut Context<'_, '_>,
    client: &Client,
    code: &Code,
    provider: &str,
) -> Result<String, Refusal> {
    let access = format!("hvb.{}", ctx.entropy().base62(ACCESS_LETTERS));
    let row = row(ctx, "access", &access);
    let ttl = secs(client.access_ttl);
    lease(ctx, &row, ttl, Owner::Nobody)?;
    let stored = Access {
        provider: provider.to_owned(),
        client: client.id.clone(),
        entity: code.entity.clone(),
        scopes: code.scopes.clone(),
        until: ctx.now().plus(ttl),
    };
    ctx.save(&row, &stored)?;
    Ok(access)
}

/// The left half of a hash, as OpenID Connect Core 1.0, section 3.1.3.6, binds tokens to each other.
fn half(hash: &'static Hash, text: &str) -> String {
    let hash = digest(hash, text.as_bytes());
    BASE64URL_NOPAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// Tells the holder of an access token about the person behind it.
pub(super) fn userinfo(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    match person(ctx, name)? {
        Ok((entity, mut claims)) => {
            claims.insert("sub".to_owned(), entity.id.into());
            Ok(bare(Value::Object(claims)))
        }
        Err(no) => Ok(no.answer(None)),
    }
}

#[expect(clippy::type_complexity, reason = "a person and claims, or why not")]
fn person(
    ctx: &mut Context<'_, '_>,
    name: &str,
) -> Result<Result<(EntityFacts, Map<String, Value>), No>, Refusal> {
    let no = |error, description: &str| Ok(Err(No::new(error, description)));
    let Some(bearer) = ctx.bearer else {
        return no("invalid_token", "access token is required");
    };
    if TEXT_BYTES_MAX < bearer.expose().len() {
        return no("invalid_token", "access token is not valid");
    }
    let row = row(ctx, "access", bearer.expose());
    let access: Option<Access> = ctx.load(&row)?;
    let now = ctx.now();
    let good = |access: &Access| now < access.until && access.provider == name;
    let Some(access) = access.filter(good) else {
        return no("invalid_token", "access token is not valid");
    };
    let Some(client) = provider::client(ctx, &access.client)? else {
        return no("access_denied", "client is gone");
    };
    let served = provider::find(ctx, name)?.is_some_and(|it| it.serves(&client.id));
    let entity = facts::find(&mut register(ctx), &access.entity)?;
    let Some(entity) = entity.filter(|entity| !entity.disabled && served) else {
        return no("access_denied", "identity entity is not served");
    };
    if !provider::admits(ctx, &client, &entity)? {
        return no(
            "access_denied",
            "identity entity not authorized by client assignment",
        );
    }
    Ok(match provider::claims_of(ctx, &access.scopes, &entity)? {
        Ok(claims) => Ok((entity, claims)),
        Err(why) => Err(No::new("invalid_request", why)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_called_back_where_it_said_and_on_loopback_at_any_port() {
        let registered = [
            "https://app.test/cb".to_owned(),
            "http://127.0.0.1/cb".to_owned(),
            "http://[::1]:8080/".to_owned(),
        ];
        for good in [
            "https://app.test/cb",
            "http://127.0.0.1:4711/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9/",
        ] {
            assert!(may_redirect(good, &registered), "{good}");
        }
        for wrong in [
            "https://app.test/cb?x=1",
            "https://app.test:8443/cb",
            "https://app.test.evil.test/cb",
            "http://127.0.0.1.evil.test/cb",
            "http://127.0.0.1:80@evil.test/cb",
            "http://127.0.0.1:4711/other",
            "https://127.0.0.1/cb",
            "http://localhost/cb",
            "",
        ] {
            assert!(!may_redirect(wrong, &registered), "{wrong}");
        }
    }
}
