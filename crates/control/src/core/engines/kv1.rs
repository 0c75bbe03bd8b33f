//! Key-value store without versions: what is written is what is read.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::engine::{Call, Context, Engine};
use crate::core::fields::Fields;
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
            // No key's path ends with a slash.
            Operation::Read if call.folder => Err(Refusal::Absent),
            Operation::Delete if call.folder => Ok(Answer::done()),
            _ if call.path.is_empty() => Err(Refusal::UnsupportedPath),
            Operation::Read => match ctx.load::<Map<String, Value>>(call.path)? {
                Some(data) => {
                    let after = refresh_after(ctx, &data);
                    let mut answer = Answer::data(data);
                    answer.refresh_after = Some(after);
                    Ok(answer)
                }
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

/// Returns when to read a value again: what it says itself in `ttl` or `lease`, or the mount's time.
fn refresh_after(ctx: &Context<'_, '_>, data: &Map<String, Value>) -> Duration {
    let said = ["ttl", "lease"].iter().find_map(|name| {
        let fields = Fields(data);
        fields.duration(name).ok().flatten()
    });
    said.unwrap_or_else(|| ctx.mount.ttl_default())
}

#[cfg(test)]
mod tests;
