//! Key-value store without versions: what is written is what is read.

use serde_json::{Map, Value};

use crate::core::engine::{Call, Context, Engine};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The engine `kv` with option `version=1`.
pub struct KvV1;

impl Engine for KvV1 {
    fn kind(&self) -> &'static str {
        "kv"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        Ok(Some(ctx.get(call.path)?.is_some()))
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        match call.operation {
            Operation::List => {
                let folder = if call.path.is_empty() {
                    String::new()
                } else {
                    format!("{}/", call.path)
                };
                Answer::keys(ctx.list(&folder)?)
            }
            _ if call.path.is_empty() => Err(Refusal::UnsupportedPath),
            Operation::Read => match ctx.load::<Map<String, Value>>(call.path)? {
                Some(data) => Ok(Answer::data(data)),
                None => Err(Refusal::Absent),
            },
            Operation::Create | Operation::Update => {
                if call.data.is_empty() {
                    return Err(Refusal::invalid("missing data fields"));
                }
                ctx.save(call.path, call.data)?;
                Ok(Answer::done())
            }
            Operation::Delete => {
                ctx.delete(call.path);
                Ok(Answer::done())
            }
            Operation::Patch => Err(Refusal::UnsupportedOperation),
        }
    }
}
