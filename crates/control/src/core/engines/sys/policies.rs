//! `sys/policies/acl` and, of old, `sys/policy`.

use bastide_store::{Key, KeyRange};
use serde_json::json;

use crate::core::engine::{Call, Context};
use crate::core::policy::builtin::RESERVED;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::tables;

/// Most policies of a cluster.
const POLICIES_MAX: usize = 10_000;
/// Longest name of a policy, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Folds a policy's name into its one form.
fn name(text: &str) -> Result<String, Refusal> {
    let name = text.to_lowercase();
    let plain = |c: char| c.is_alphanumeric() || "-_.@:".contains(c);
    if name.is_empty() || NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::invalid("policy name is not valid"));
    }
    Ok(name)
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    segments: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    let (old, rest) = match segments {
        ["policies", "acl", rest @ ..] => (false, rest),
        [_, rest @ ..] => (true, rest),
        [] => return Err(Refusal::UnsupportedPath),
    };
    match (call.operation, rest) {
        (List, []) => list(ctx, old),
        (Read, []) if old => list(ctx, old),
        (Read, [given]) => {
            let name = name(given)?;
            let text = match name.as_str() {
                "root" => String::new(),
                _ => read(ctx, &name)?.ok_or(Refusal::Absent)?,
            };
            let field = if old { "rules" } else { "policy" };
            Ok(Answer::json(json!({ "name": name, field: text })))
        }
        (Update, [given]) => write(ctx, call, given, old),
        (Delete, [given]) => {
            // Any name: one that cannot be written is absent, and deleting that is done.
            let name = given.to_lowercase();
            if name == "default" {
                return Err(Refusal::invalid("cannot delete default policy"));
            }
            if RESERVED.contains(&name.as_str()) {
                return Err(Refusal::invalid(format!("cannot delete \"{name}\" policy")));
            }
            ctx.draft.delete(Key::new(tables::POLICIES, name));
            Ok(Answer::done())
        }
        (_, [] | [_]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn read(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = ctx.draft.get(&Key::new(tables::POLICIES, name))? else {
        return Ok(None);
    };
    let text = String::from_utf8(text.expose().clone());
    text.map(Some)
        .map_err(|error| Refusal::corrupt("policy", error))
}

fn list(ctx: &mut Context<'_, '_>, old: bool) -> Result<Answer, Refusal> {
    let keys = ctx
        .draft
        .keys(&KeyRange::prefix(tables::POLICIES, ""), POLICIES_MAX)?;
    let mut names: Vec<String> = keys
        .iter()
        .map(|key| String::from_utf8_lossy(key.rest()).into_owned())
        .collect();
    names.push("root".to_owned());
    names.sort();
    Ok(Answer::json(if old {
        json!({ "keys": names, "policies": names })
    } else {
        json!({ "keys": names })
    }))
}

fn write(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    given: &str,
    old: bool,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let name = name(given)?;
    if RESERVED.contains(&name.as_str()) {
        return Err(Refusal::invalid(format!("cannot update \"{name}\" policy")));
    }
    let mut warnings = Vec::new();
    if name != given {
        warnings.push(format!("policy name was converted to {name}"));
    }
    // Some clients send the policy as an object, not as its text.
    let object = fields.get("policy").filter(|value| value.is_object());
    let text = match object {
        Some(object) => Some(object.to_string()),
        None => fields.text("policy")?,
    };
    let text = match text.filter(|text| !text.is_empty()) {
        Some(text) => text,
        None if old && fields.get("rules").is_some() => {
            warnings.push("'rules' is deprecated, please use 'policy' instead".to_owned());
            fields.text("rules")?.unwrap_or_default()
        }
        None => String::new(),
    };
    if text.is_empty() {
        return Err(Refusal::invalid("'policy' parameter not supplied or empty"));
    }
    let text = decoded(text);
    ctx.world
        .registry
        .policies
        .parse(&text)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    ctx.draft
        .put(Key::new(tables::POLICIES, name), text.into_bytes())?;
    Ok(Answer {
        warnings,
        ..Answer::default()
    })
}

/// Returns the text of a policy that may have come in base64.
fn decoded(text: String) -> String {
    let bytes = data_encoding::BASE64.decode(text.trim().as_bytes()).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or(text)
}
