//! The token endpoint: a client gets tokens for a code.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Algorithm as Hash, SHA256, digest};
use bastide_api::{Secret, UnixTime};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::flow::{
    Access, Code, Method, No, PKCE_BYTES, lease, row, text,
};
use crate::core::engines::identity::oidc::provider::{self, Client};
use crate::core::engines::identity::oidc::{bare, keys};
use crate::core::engines::identity::{facts, register};
use crate::core::leases::Owner;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Letters of an access token: 238 bits.
const ACCESS_LETTERS: usize = 40;

/// Gives a client tokens for a code.
pub(in crate::core::engines::identity::oidc) fn token(
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
