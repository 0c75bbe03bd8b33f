//! The runs of the control plane, as they stand in the view.

use bastide_api::history::History;
use serde_json::json;

use super::view;
use crate::core::engine::{Caller, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

pub(super) fn read(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let history = view::read_history(ctx)?.unwrap_or_default();
    Ok(Answer::json(json!(history)))
}

/// Notes that a run begins: the program does so before it signs anything.
pub(super) fn begin_run(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    match ctx.caller {
        Caller::Program => {}
        Caller::Nobody | Caller::Token(_) | Caller::Machine(_) => return Err(Refusal::Denied),
    }
    let (id, mut history) = drawn(ctx)?;
    history.begin(id, ctx.draft.source().revision());
    view::publish_history(ctx, &history)?;
    view::publish_log_key(ctx)?;
    Ok(Answer::done())
}

/// Begins a new generation: nodes follow it, whatever they knew before.
pub(super) fn accept(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    super::cluster(ctx)?;
    let (id, mut history) = drawn(ctx)?;
    history.begin_anew(id, ctx.draft.source().revision());
    view::publish_history(ctx, &history)?;
    view::publish_log_key(ctx)?;
    Ok(Answer::json(json!(history)))
}

fn drawn(ctx: &mut Context<'_, '_>) -> Result<(String, History), Refusal> {
    let id: [u8; 16] = ctx.entropy().bytes();
    let history = view::read_history(ctx)?.unwrap_or_default();
    Ok((data_encoding::HEXLOWER.encode(&id), history))
}
