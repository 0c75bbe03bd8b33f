//! `sys/quotas`: rate limits, and what is set for all of them.

use bastide_store::{Key, KeyRange};
use serde_json::{Value, json};

use crate::core::draft::Draft;
use crate::core::engine::{Call, Context};
use crate::core::path::ApiPath;
use crate::core::quotas::{ALWAYS_EXEMPT, RATE_MAX, RULES_MAX, Rule, Rules, Settings};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::tables;

/// Longest name of a rule, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest interval and block, in seconds.
const SECS_MAX: u64 = 30 * 24 * 3600;
/// Most exempt paths.
const EXEMPT_MAX: usize = 256;

fn at(name: &str) -> Key {
    Key::new(tables::QUOTAS, format!("rate-limit/{name}"))
}

fn settings_at() -> Key {
    Key::new(tables::QUOTAS, "config")
}

fn all() -> KeyRange {
    KeyRange::prefix(tables::QUOTAS, "rate-limit/")
}

/// Returns where all of it stands.
pub fn range() -> KeyRange {
    KeyRange::prefix(tables::QUOTAS, "")
}

/// Reads the rules.
pub fn load(draft: &mut Draft<'_>) -> Result<Rules, Refusal> {
    let settings = draft.load(&settings_at())?.unwrap_or_default();
    Ok(Rules::new(rules(draft)?, settings))
}

fn rules(draft: &mut Draft<'_>) -> Result<Vec<Rule>, Refusal> {
    let mut rules = Vec::new();
    for (_, text) in draft.range(&all(), RULES_MAX)? {
        let rule = serde_json::from_slice(text.expose());
        rules.push(rule.map_err(|error| Refusal::corrupt("quota", error))?);
    }
    Ok(rules)
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    match (call.operation, rest) {
        (Read, ["config"]) => {
            let settings: Settings = ctx.draft.load(&settings_at())?.unwrap_or_default();
            Ok(Answer::json(json!({
                "absolute_rate_limit_exempt_paths": ALWAYS_EXEMPT,
                "enable_rate_limit_audit_logging": settings.audit,
                "enable_rate_limit_response_headers": settings.headers,
                "rate_limit_exempt_paths": settings.exempt,
            })))
        }
        (Update, ["config"]) => configure(ctx, call),
        (List, ["rate-limit"]) => {
            let rules = rules(ctx.draft)?;
            Answer::keys(rules.into_iter().map(|rule| rule.name).collect())
        }
        (Read, ["rate-limit", name]) => {
            let rule: Rule = ctx.draft.load(&at(name))?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(shown(&rule)))
        }
        (Update, ["rate-limit", name]) => write(ctx, call, name),
        (Delete, ["rate-limit", name]) => {
            ctx.draft.delete(at(name));
            Ok(Answer::done())
        }
        (_, ["config"] | ["rate-limit"] | ["rate-limit", _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}

fn shown(rule: &Rule) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rates are at most RATE_MAX"
    )]
    let rate = if rule.rate.fract() == 0.0 {
        json!(rule.rate as i64)
    } else {
        json!(rule.rate)
    };
    json!({
        "type": "rate-limit",
        "name": rule.name,
        "path": rule.path,
        "role": rule.role,
        "rate": rate,
        "interval": rule.interval,
        "block_interval": rule.block,
        "inheritable": rule.inheritable,
    })
}

fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut settings: Settings = ctx.draft.load(&settings_at())?.unwrap_or_default();
    if let Some(paths) = fields.list("rate_limit_exempt_paths")? {
        if EXEMPT_MAX < paths.len() {
            return Err(Refusal::invalid(format!("more than {EXEMPT_MAX} paths")));
        }
        let parsed = paths.iter().map(|path| {
            let path = path.trim_start_matches('/').trim_end_matches('/');
            let path = ApiPath::parse(path).map_err(|error| Refusal::invalid(error.to_string()))?;
            Ok(path.as_str().to_owned())
        });
        settings.exempt = parsed.collect::<Result<_, Refusal>>()?;
    }
    if let Some(flag) = fields.flag("enable_rate_limit_audit_logging")? {
        settings.audit = flag;
    }
    if let Some(flag) = fields.flag("enable_rate_limit_response_headers")? {
        settings.headers = flag;
    }
    ctx.draft.save(settings_at(), &settings)?;
    Ok(Answer::done())
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::invalid("the name of a quota is not valid"));
    }
    if let Some(kind) = fields.text("type")?
        && !["", "rate-limit"].contains(&kind.as_str())
    {
        return Err(Refusal::invalid(
            "quotas of type \"rate-limit\" alone are served",
        ));
    }
    let rate = match fields.get("rate") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let rate = rate
        .filter(|rate: &f64| rate.is_finite() && 0.0 < *rate && *rate <= RATE_MAX)
        .ok_or_else(|| Refusal::invalid("'rate' is invalid"))?;
    let secs = |name: &str, default: u64| -> Result<u64, Refusal> {
        let secs = fields.duration(name)?.map(|it| it.as_secs());
        match secs.unwrap_or(default) {
            secs if SECS_MAX < secs => Err(Refusal::invalid(format!("'{name}' is invalid"))),
            secs => Ok(secs),
        }
    };
    let interval = match secs("interval", 1)? {
        0 => 1,
        secs => secs,
    };
    let role = fields.text("role")?.unwrap_or_default();
    let path = path(ctx, &fields.text("path")?.unwrap_or_default(), &role)?;
    let rule = Rule {
        name: name.to_owned(),
        rate,
        interval,
        block: secs("block_interval", 0)?,
        path,
        role,
        inheritable: fields.flag("inheritable")?.unwrap_or(false),
    };
    let others = rules(ctx.draft)?;
    let is_twin =
        |it: &&Rule| it.name != rule.name && (&it.path, &it.role) == (&rule.path, &rule.role);
    if let Some(twin) = others.iter().find(is_twin) {
        return Err(Refusal::invalid(format!(
            "quota rule with similar properties exists under the name {:?}",
            twin.name
        )));
    }
    if RULES_MAX <= others.len() && !others.iter().any(|it| it.name == rule.name) {
        return Err(Refusal::invalid(format!(
            "there are {RULES_MAX} quotas already"
        )));
    }
    ctx.draft.save(at(name), &rule)?;
    Ok(Answer::done())
}

/// Checks what a rule is for: a mount that is there, or something in one.
fn path(ctx: &mut Context<'_, '_>, given: &str, role: &str) -> Result<String, Refusal> {
    if given.is_empty() {
        if !role.is_empty() {
            return Err(Refusal::invalid("a role needs the path of an auth mount"));
        }
        return Ok(String::new());
    }
    let invalid = || Refusal::invalid(format!("invalid mount path {given:?}"));
    let (body, glob) = match given.strip_suffix('*') {
        Some(body) => (body, true),
        None => (given, false),
    };
    if given.starts_with('/') || body.contains('*') || body.is_empty() {
        return Err(invalid());
    }
    let parsed = ApiPath::parse(body).map_err(|_| invalid())?;
    let mounts = ctx.draft.mounts()?;
    let (mount, below) = mounts.route(&parsed).ok_or_else(invalid)?;
    let is_mount = below.is_empty() && !glob;
    let is_auth_mount = is_mount && mount.is_auth();
    if !role.is_empty() && !is_auth_mount {
        return Err(Refusal::invalid(
            "a role needs the path of an auth mount, and that alone",
        ));
    }
    Ok(if is_mount {
        mount.path.as_str().to_owned()
    } else if glob {
        given.to_owned()
    } else {
        parsed.as_str().to_owned()
    })
}
