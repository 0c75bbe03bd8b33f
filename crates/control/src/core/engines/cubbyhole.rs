//! Cubbyhole: storage of a token's own, which ends with it.

use serde_json::{Map, Value};

use crate::core::engine::{Call, Caller, Context, Engine};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::token_type::TokenKind;

/// The engine.
pub struct Cubbyhole;

impl Engine for Cubbyhole {
    fn kind(&self) -> &'static str {
        "cubbyhole"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        let at = at(ctx, call.path)?;
        Ok(Some(ctx.get(&at)?.is_some()))
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        let at = at(ctx, call.path)?;
        match call.operation {
            Operation::List => {
                let folder = if call.path.is_empty() {
                    at
                } else {
                    format!("{at}/")
                };
                Answer::keys(ctx.list(&folder)?)
            }
            _ if call.path.is_empty() => Err(Refusal::UnsupportedOperation),
            Operation::Read => match ctx.load::<Map<String, Value>>(&at)? {
                Some(data) => Ok(Answer::data(data)),
                None => Err(Refusal::Absent),
            },
            Operation::Create | Operation::Update => {
                if call.data.is_empty() {
                    return Err(Refusal::invalid("missing data fields"));
                }
                ctx.save(&at, call.data)?;
                Ok(Answer::done())
            }
            Operation::Delete => {
                ctx.delete(&at);
                Ok(Answer::done())
            }
            Operation::Patch => Err(Refusal::UnsupportedOperation),
        }
    }
}

fn at(ctx: &Context<'_, '_>, path: &str) -> Result<String, Refusal> {
    match ctx.caller {
        Caller::Token(token) if token.kind == TokenKind::Batch => Err(Refusal::invalid(
            "cubbyhole operations are only supported by \"service\" type tokens",
        )),
        Caller::Token(token) => Ok(format!("{}/{path}", token.id)),
        Caller::Nobody | Caller::Machine(_) | Caller::Program => Err(Refusal::Forbidden(
            "a cubbyhole belongs to a token".to_owned(),
        )),
    }
}
