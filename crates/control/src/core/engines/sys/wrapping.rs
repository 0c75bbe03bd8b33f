//! `sys/wrapping`: put an answer aside, look at it, fetch it once.

use bastide_api::Secret;
use serde_json::json;

use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::request::Operation;
use crate::core::tokens::TokenId;
use crate::core::wrapping::{self, Spend};

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    what: &str,
) -> Result<Answer, Refusal> {
    match (call.operation, what) {
        // The pipeline wraps it: it answers only requests that ask for that.
        (Operation::Update, "wrap") => Ok(Answer::data(call.data.clone())),
        (Operation::Update, "lookup") => look_up(ctx, call),
        (Operation::Read, "lookup") if call.data.is_empty() => look_up(ctx, call),
        (Operation::Update, "unwrap") => {
            let (text, spend) = named(ctx, call)?;
            let envelope = wrapping::unwrap(ctx.draft, ctx.world, &text, spend)?;
            Ok(Reply::Ready(Box::new(envelope)).into())
        }
        (Operation::Update, "rewrap") => {
            let (text, spend) = named(ctx, call)?;
            let envelope = wrapping::rewrap(ctx.draft, ctx.world, &text, spend)?;
            Ok(Reply::Ready(Box::new(envelope)).into())
        }
        (_, "wrap" | "lookup" | "unwrap" | "rewrap") => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

/// Returns the wrapping token that a call names, or its caller's own.
fn named(ctx: &Context<'_, '_>, call: &Call<'_>) -> Result<(Secret<String>, Spend), Refusal> {
    let invalid = || Refusal::invalid("wrapping token is not valid or does not exist");
    let given = call.fields().text("token")?.filter(|text| !text.is_empty());
    let own = ctx.bearer.filter(|_| ctx.caller.token().is_some());
    match (given, own) {
        (Some(given), own) => {
            let given = Secret::new(given);
            let barrier = ctx.draft.source().barrier();
            let is_own =
                own.is_some_and(|own| TokenId::of(barrier, own) == TokenId::of(barrier, &given));
            // Twice the same is a double use: it is spent, and nothing is shown.
            if is_own {
                return Err(invalid());
            }
            Ok((given, Spend::Here))
        }
        (None, Some(own)) => Ok((Secret::new(own.expose().clone()), Spend::ByUse)),
        (None, None) => Err(invalid()),
    }
}

fn look_up(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let given = call.fields().text("token")?.filter(|text| !text.is_empty());
    let given = given.map(Secret::new);
    let text = given
        .as_ref()
        .or(ctx.bearer)
        .ok_or_else(|| Refusal::invalid("missing \"token\" value in input"))?;
    let wrapping = wrapping::look_up(ctx.draft, text)?;
    Ok(Answer::json(json!({
        "creation_time": timestamp(wrapping.at),
        "creation_ttl": wrapping.ttl,
        "creation_path": wrapping.path,
    })))
}
