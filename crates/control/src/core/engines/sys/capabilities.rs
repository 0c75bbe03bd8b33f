//! `sys/capabilities`, `-self` and `-accessor`: what a token may do at paths.

use bastide_api::Secret;
use serde_json::{Map, json};

use crate::core::engine::{Call, Context};
use crate::core::path::ApiPath;
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::tokens;

/// Most paths of one question.
const PATHS_MAX: usize = 1000;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    what: &str,
) -> Result<Answer, Refusal> {
    if call.operation != Operation::Update {
        return Err(Refusal::UnsupportedOperation);
    }
    let fields = call.fields();
    let paths = match fields.list("paths")? {
        None => fields.list("path")?.unwrap_or_default(),
        given => given.unwrap_or_default(),
    };
    if paths.is_empty() || PATHS_MAX < paths.len() {
        return Err(Refusal::invalid("paths must be supplied"));
    }
    let acl = match what {
        "capabilities-self" => pipeline::acl(ctx)?,
        "capabilities-accessor" => {
            let token = tokens::by_accessor(ctx.draft, &fields.required("accessor")?)?;
            let token = token.ok_or_else(|| Refusal::invalid("invalid accessor"))?;
            pipeline::acl_of_token(ctx, &token)?
        }
        _ => {
            let text = Secret::new(fields.required("token")?);
            let token = tokens::by_text(ctx.draft, &text)?;
            let token = token.ok_or_else(|| Refusal::invalid("invalid token"))?;
            pipeline::acl_of_token(ctx, &token)?
        }
    };
    let mut shown = Map::new();
    for text in &paths {
        let path = ApiPath::parse(text.trim_start_matches('/'))
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let folded = folded(ctx, &path)?;
        let names = acl.capabilities(&path, folded.as_ref());
        shown.insert(text.clone(), json!(names));
    }
    if let [only] = &paths[..] {
        let same = shown[only].clone();
        shown.insert("capabilities".into(), same);
    }
    Ok(Answer::data(shown))
}

/// Returns a path as the engine behind it reads it, where that folds names.
fn folded(ctx: &mut Context<'_, '_>, path: &ApiPath) -> Result<Option<ApiPath>, Refusal> {
    let mounts = ctx.draft.mounts()?;
    let Some((mount, below)) = mounts.route(path) else {
        return Ok(None);
    };
    let call = Call {
        operation: Operation::Read,
        path: below,
        folder: path.is_folder(),
        data: &Map::new(),
    };
    let engine = ctx.world.registry.of(mount)?;
    Ok(pipeline::folded(&**engine, &mount.path, &call))
}
