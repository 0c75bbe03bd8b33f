//! The user info endpoint: the holder of an access token is told about the person behind it.

use serde_json::{Map, Value};

use crate::core::engine::Context;
use crate::core::engines::identity::oidc::bare;
use crate::core::engines::identity::oidc::flow::{Access, No, TEXT_BYTES_MAX, row};
use crate::core::engines::identity::oidc::provider;
use crate::core::engines::identity::{facts, register};
use crate::core::identity::EntityFacts;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Tells the holder of an access token about the person behind it.
pub(in crate::core::engines::identity::oidc) fn userinfo(
    ctx: &mut Context<'_, '_>,
    name: &str,
) -> Result<Answer, Refusal> {
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
