//! The authorisation endpoint: whoever asks gets a code for a client.

use serde_json::json;

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::bare;
use crate::core::engines::identity::oidc::flow::{
    CODE_TTL, Code, Method, No, PKCE_BYTES, lease, row, text,
};
use crate::core::engines::identity::oidc::provider::{self, Client, OPENID, Provider};
use crate::core::leases::Owner;
use crate::core::redirect::is_registered;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Letters of a code: 190 bits.
const CODE_LETTERS: usize = 32;

/// Gives whoever asks a code, with which a client gets tokens that say who he is.
pub(in crate::core::engines::identity::oidc) fn authorize(
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
    if !is_registered(&redirect, &client.redirects) {
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
