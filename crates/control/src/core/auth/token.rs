//! The auth method `token`: tokens make, show, renew and revoke tokens.

use std::time::Duration;

use bastide_api::Secret;
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Caller, Context, Engine};
use crate::core::path::ApiPath;
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::request::Operation;
use crate::core::tokens::{self, NewToken, Token};

/// Most accessors in one list.
const ACCESSORS_MAX: usize = 10_000;

/// The auth method.
pub struct TokenAuth;

impl Engine for TokenAuth {
    fn kind(&self) -> &'static str {
        "token"
    }

    fn needs_sudo(&self, call: &Call<'_>) -> bool {
        matches!(call.segments()[..], ["accessors" | "revoke-orphan", ..])
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["create"]) => create(ctx, call, Kin::Child),
            (Update, ["create-orphan"]) => create(ctx, call, Kin::Orphan),
            (Read | Update, ["lookup-self"]) => {
                let token = own(ctx)?;
                let text = own_text(ctx);
                Ok(Answer::data(shown(ctx, &token, text.into())))
            }
            (Read | Update, ["lookup"]) => match call.fields().text("token")? {
                Some(text) => {
                    let text = Secret::new(text);
                    let token = tokens::by_text(ctx.draft, &text)?
                        .ok_or_else(|| Refusal::Forbidden("bad token".to_owned()))?;
                    let id = Value::String(text.expose().clone());
                    Ok(Answer::data(shown(ctx, &token, id)))
                }
                None => {
                    let token = own(ctx)?;
                    let text = own_text(ctx);
                    Ok(Answer::data(shown(ctx, &token, text.into())))
                }
            },
            (Update, ["lookup-accessor"]) => {
                let token = of_accessor(ctx, call)?;
                Ok(Answer::data(shown(ctx, &token, "".into())))
            }
            (Update, ["renew-self"]) => {
                let token = own(ctx)?;
                renew(ctx, call, token, own_text(ctx))
            }
            (Update, ["renew"]) => match call.fields().text("token")? {
                Some(text) => {
                    let text = Secret::new(text);
                    let token = tokens::by_text(ctx.draft, &text)?
                        .ok_or_else(|| Refusal::invalid("token not found"))?;
                    renew(ctx, call, token, text.expose())
                }
                None => {
                    let token = own(ctx)?;
                    renew(ctx, call, token, own_text(ctx))
                }
            },
            (Update, ["renew-accessor"]) => {
                let token = of_accessor(ctx, call)?;
                renew(ctx, call, token, "")
            }
            (Update, ["revoke-self"]) => {
                let token = own(ctx)?;
                tokens::revoke(ctx.draft, ctx.world, &token.id)?;
                Ok(Answer::done())
            }
            (Update, ["revoke"]) => {
                if let Some(token) = named(ctx, call)? {
                    tokens::revoke(ctx.draft, ctx.world, &token.id)?;
                }
                Ok(Answer::done())
            }
            (Update, ["revoke-orphan"]) => {
                if let Some(token) = named(ctx, call)? {
                    tokens::revoke_orphan(ctx.draft, ctx.world, &token.id)?;
                }
                Ok(Answer::done())
            }
            (Update, ["revoke-accessor"]) => {
                let token = of_accessor(ctx, call)?;
                tokens::revoke(ctx.draft, ctx.world, &token.id)?;
                Ok(Answer::done())
            }
            (List, ["accessors"]) => Answer::keys(tokens::accessors(ctx.draft, ACCESSORS_MAX)?),
            (Update, ["tidy"]) => Ok(Answer::from(Reply::Accepted)),
            (
                _,
                [
                    "create" | "create-orphan" | "lookup" | "lookup-self" | "lookup-accessor"
                    | "renew" | "renew-self" | "renew-accessor" | "revoke" | "revoke-self"
                    | "revoke-orphan" | "revoke-accessor" | "accessors" | "tidy",
                ],
            ) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

fn own(ctx: &Context<'_, '_>) -> Result<Token, Refusal> {
    match ctx.caller {
        Caller::Token(token) => Ok(Token::clone(token)),
        Caller::Nobody | Caller::Machine(_) | Caller::Program => {
            Err(Refusal::Forbidden("no token was given".to_owned()))
        }
    }
}

fn own_text<'c>(ctx: &Context<'c, '_>) -> &'c str {
    ctx.bearer.map_or("", |text| text.expose())
}

fn named(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<Token>, Refusal> {
    let text = Secret::new(call.fields().required("token")?);
    tokens::by_text(ctx.draft, &text)
}

fn of_accessor(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Token, Refusal> {
    let accessor = call.fields().required("accessor")?;
    let token = tokens::by_accessor(ctx.draft, &accessor)?;
    token.ok_or_else(|| Refusal::invalid("invalid accessor"))
}

fn shown(ctx: &Context<'_, '_>, token: &Token, id: Value) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
    put("id", id);
    put("accessor", token.accessor.as_str().into());
    put("policies", json!(token.policies));
    put("path", token.path.as_str().into());
    put("meta", json!(token.meta));
    put("display_name", token.display_name.as_str().into());
    put("num_uses", token.num_uses.into());
    put("orphan", token.ancestors.is_empty().into());
    put("creation_time", token.created.as_secs().into());
    put("creation_ttl", token.creation_ttl.into());
    put("expire_time", json!(token.expires.map(timestamp)));
    put("ttl", token.ttl(ctx.now()).into());
    put("explicit_max_ttl", token.explicit_max_ttl.into());
    put("entity_id", "".into());
    put("type", "service".into());
    if token.expires.is_some() {
        put("issue_time", timestamp(token.created).into());
        put("renewable", token.renewable.into());
    }
    if let Some(at) = token.renewed {
        put("last_renewal", timestamp(at).into());
        put("last_renewal_time", at.as_secs().into());
    }
    if token.period != 0 {
        put("period", token.period.into());
    }
    if let Some(role) = &token.role {
        put("role", role.as_str().into());
    }
    data
}

fn renew(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    token: Token,
    text: &str,
) -> Result<Answer, Refusal> {
    let asked = call.fields().duration("increment")?;
    let default = ctx.mount.ttl_default();
    let (token, cut) = tokens::renew(ctx.draft, token, asked, default)?;
    let ttl = Duration::from_secs(token.ttl(ctx.now()));
    let answer = Answer::from(Reply::Auth(pipeline::auth(text, &token, ttl)));
    Ok(if cut {
        answer.warn(format!(
            "TTL exceeded the effective max_ttl of the token; TTL value is capped to {} seconds",
            ttl.as_secs()
        ))
    } else {
        answer
    })
}

/// Whether a new token dies with its maker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kin {
    Child,
    Orphan,
}

/// What the maker may.
struct Maker {
    token: Option<Token>,
    sudo: bool,
    root: bool,
}

fn maker(ctx: &mut Context<'_, '_>) -> Result<Maker, Refusal> {
    let acl = pipeline::acl(ctx)?;
    let sudo = ApiPath::parse(ctx.path).is_ok_and(|path| {
        acl.capabilities(&path)
            .iter()
            .any(|it| ["root", "sudo"].contains(it))
    });
    Ok(Maker {
        token: ctx.caller.token().map(|token| Token::clone(token)),
        sudo,
        root: acl.is_root(),
    })
}

fn display_name(given: Option<String>) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '-'
        }
    };
    match given.filter(|name| !name.is_empty()) {
        Some(name) => format!(
            "token-{}",
            name.chars().take(128).map(fold).collect::<String>()
        ),
        None => "token".to_owned(),
    }
}

fn create(ctx: &mut Context<'_, '_>, call: &Call<'_>, kin: Kin) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let maker = maker(ctx)?;
    if maker
        .token
        .as_ref()
        .is_some_and(|token| token.num_uses != 0)
    {
        return Err(Refusal::invalid(
            "restricted use token cannot generate child tokens",
        ));
    }
    match fields.text("type")?.as_deref() {
        None | Some("" | "service") => {}
        Some("batch") => return Err(Refusal::invalid("batch tokens are not served")),
        Some(_) => return Err(Refusal::invalid("invalid 'type' value")),
    }
    let no_parent = fields.flag("no_parent")?.unwrap_or(false);
    if no_parent && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to create orphan token",
        ));
    }
    let text = fields.text("id")?.filter(|id| !id.is_empty());
    if text.is_some() && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to specify token id",
        ));
    }
    if let Some(id) = &text {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if tokens::TOKEN_BYTES_MAX < id.len() || !id.chars().all(plain) || id.starts_with("hvs.") {
            return Err(Refusal::invalid("custom token ID is not valid"));
        }
    }
    let period = fields
        .duration("period")?
        .filter(|period| !period.is_zero());
    if period.is_some() && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to create periodic token",
        ));
    }
    let no_default_policy = fields.flag("no_default_policy")?.unwrap_or(false);
    let policies = wanted_policies(fields.list("policies")?, &maker, no_default_policy)?;
    let ttl = match fields.duration("ttl")? {
        None => fields.duration("lease")?,
        given => given,
    };
    let explicit_max_ttl = fields
        .duration("explicit_max_ttl")?
        .filter(|max| !max.is_zero());
    let root = policies == ["root"];
    if root && !maker.root {
        return Err(Refusal::invalid(
            "root tokens may not be created without parent token being root",
        ));
    }
    let unlimited = period.is_none() && explicit_max_ttl.is_none();
    let eternal = root && unlimited && ttl.is_none_or(|ttl| ttl.is_zero());
    if eternal
        && maker
            .token
            .as_ref()
            .is_some_and(|token| token.expires.is_some())
    {
        return Err(Refusal::invalid(
            "expiring root tokens cannot create non-expiring root tokens",
        ));
    }
    let orphan = kin == Kin::Orphan || no_parent;
    let warnings = missing(ctx, &policies)?;
    let new = NewToken {
        policies,
        path: ctx.path.to_owned(),
        meta: fields.pairs("meta")?,
        display_name: display_name(fields.text("display_name")?),
        num_uses: fields.count("num_uses")?.unwrap_or(0),
        ttl: ttl.filter(|ttl| !ttl.is_zero()),
        explicit_max_ttl,
        period,
        fixed: !fields.flag("renewable")?.unwrap_or(true),
        eternal,
        parent: maker.token.filter(|_| !orphan),
        text: text.map(Secret::new),
        no_default_policy: true,
        ..NewToken::default()
    };
    let mount = std::sync::Arc::clone(&ctx.mount);
    let (text, token) = tokens::create(ctx.draft, &mount, new)?;
    let ttl = Duration::from_secs(token.creation_ttl);
    let mut answer = Answer::from(Reply::Auth(pipeline::auth(text.expose(), &token, ttl)));
    answer.warnings = warnings;
    Ok(answer)
}

/// Returns the policies of a new token: those asked for, which must be its maker's unless that one
/// may do everything, or the maker's own.
fn wanted_policies(
    given: Option<Vec<String>>,
    maker: &Maker,
    no_default_policy: bool,
) -> Result<Vec<String>, Refusal> {
    let own = maker
        .token
        .as_ref()
        .map_or_else(|| vec!["root".to_owned()], |it| it.policies.clone());
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        let keep_default = own.iter().any(|policy| policy == "default");
        return Ok(tokens::policies(&own, no_default_policy || !keep_default));
    };
    let wanted = tokens::policies(&given, no_default_policy);
    let subset = wanted
        .iter()
        .all(|policy| own.contains(policy) || policy == "default");
    if !maker.sudo && !maker.root && !subset {
        return Err(Refusal::invalid("child policies must be subset of parent"));
    }
    Ok(wanted)
}

fn missing(ctx: &mut Context<'_, '_>, policies: &[String]) -> Result<Vec<String>, Refusal> {
    let mut warnings = Vec::new();
    for name in policies.iter().filter(|name| *name != "root") {
        let key = bastide_store::Key::new(crate::core::tables::POLICIES, name);
        if !ctx.draft.has(&key)? {
            warnings.push(format!("Policy \"{name}\" does not exist"));
        }
    }
    Ok(warnings)
}
