//! `sys/config/auditing/request-headers`: which headers of requests stand in audit records.

use serde_json::{Map, Value, json};

use crate::core::audit::headers::{self, HEADERS_MAX, Shown};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Create, Delete, List, Read, Update};
    let mut all = headers::load(ctx.draft)?;
    match (call.operation, rest) {
        (Read | List, []) => {
            let each = all.0.iter();
            let each: Map<String, Value> = each
                .map(|(name, shown)| (name.clone(), told(*shown)))
                .collect();
            Ok(Answer::json(json!({ "headers": each })))
        }
        (Read, [name]) => {
            let shown = all.0.get(&headers::name(name)?);
            let shown = shown.ok_or_else(|| Refusal::invalid("Could not find header in config"))?;
            let mut data = Map::new();
            data.insert((*name).to_owned(), told(*shown));
            Ok(Answer::data(data))
        }
        (Create | Update, [name]) => {
            let shown = match call.fields().flag("hmac")? {
                Some(true) => Shown::Hashed,
                _ => Shown::Clear,
            };
            all.0.insert(headers::name(name)?, shown);
            if HEADERS_MAX < all.0.len() {
                return Err(Refusal::invalid(format!(
                    "more than {HEADERS_MAX} headers are not recorded"
                )));
            }
            headers::save(ctx.draft, &all)?;
            Ok(Answer::done())
        }
        (Delete, [name]) => {
            if all.0.remove(&headers::name(name)?).is_some() {
                headers::save(ctx.draft, &all)?;
            }
            Ok(Answer::done())
        }
        (_, [] | [_]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn told(shown: Shown) -> Value {
    json!({ "hmac": shown == Shown::Hashed })
}
