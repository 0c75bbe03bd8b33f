//! `sys/plugins/catalog`: the engines and auth methods that this program has. All of them are a part of
//! it: none can be added, and none runs as a process of its own.

use serde_json::{Value, json};

use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::registry::{FIXED_MOUNTS, Place};
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The kinds of a list, without those of mounts that each cluster has.
fn kinds<'w>(ctx: &Context<'w, '_>, place: Place) -> Vec<&'w str> {
    let is_fixed = |kind: &str| FIXED_MOUNTS.iter().any(|(_, fixed, _)| *fixed == kind);
    let all = ctx.world.registry.kinds(place);
    all.filter(|kind| !is_fixed(kind)).collect()
}

fn version(ctx: &Context<'_, '_>) -> String {
    format!("v{}+builtin.vault", ctx.world.server.version)
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    let place = |name: &str| match name {
        "secret" => Some(Place::Secrets),
        "auth" => Some(Place::Auth),
        _ => None,
    };
    match (call.operation, rest) {
        (Operation::Read, []) => {
            let version = version(ctx);
            let (secret, auth) = (kinds(ctx, Place::Secrets), kinds(ctx, Place::Auth));
            let shown = |kind: &str, names: &[&str]| -> Vec<Value> {
                let one = |name: &&str| {
                    json!({
                        "name": name,
                        "type": kind,
                        "builtin": true,
                        "version": version,
                        "deprecation_status": "supported",
                    })
                };
                names.iter().map(one).collect()
            };
            let detailed = [shown("auth", &auth), shown("secret", &secret)].concat();
            Ok(Answer::json(json!({
                "auth": auth,
                "database": [],
                "secret": secret,
                "detailed": detailed,
            })))
        }
        (Operation::Read | Operation::List, ["database"]) => Answer::keys(Vec::new()),
        (Operation::Read | Operation::List, [kind]) => {
            let place = place(kind).ok_or_else(|| unknown_type(kind))?;
            let names = kinds(ctx, place);
            Answer::keys(names.into_iter().map(str::to_owned).collect())
        }
        (Operation::Read, [kind, name]) => {
            let place = place(kind).ok_or_else(|| unknown_type(kind))?;
            if !kinds(ctx, place).contains(name) {
                return Err(Refusal::Absent);
            }
            Ok(Answer::json(json!({
                "name": name,
                "args": [],
                "builtin": true,
                "command": "",
                "sha256": "",
                "version": version(ctx),
                "deprecation_status": "supported",
            })))
        }
        (Operation::Update | Operation::Delete, [_, _]) => Err(Refusal::invalid(
            "engines and auth methods are a part of this server: none can be added or removed",
        )),
        (_, [] | [_] | [_, _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn unknown_type(kind: &str) -> Refusal {
    Refusal::invalid(format!("unsupported plugin type {kind:?}"))
}
