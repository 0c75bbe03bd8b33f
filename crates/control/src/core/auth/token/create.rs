//! `auth/token/create`, `create-orphan` and `create/<role>`.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::Secret;
use bastide_store::Key;

use crate::core::auth::token::roles;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::path::ApiPath;
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply};
use crate::core::tables;
use crate::core::tokens::{self, NewToken, Token};

/// Whether a new token dies with its maker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
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

/// Makes a token by the fields of the call alone.
pub(super) fn create(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    kin: Kin,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let maker = maker(ctx)?;
    let no_parent = fields.flag("no_parent")?.unwrap_or(false);
    if no_parent && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to create orphan token",
        ));
    }
    let period = lasting(fields, "period")?;
    if period.is_some() && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to create periodic token",
        ));
    }
    let no_default_policy = fields.flag("no_default_policy")?.unwrap_or(false);
    let new = NewToken {
        policies: wanted_policies(fields.list("policies")?, &maker, no_default_policy)?,
        explicit_max_ttl: lasting(fields, "explicit_max_ttl")?,
        period,
        ..common(ctx, fields, &maker)?
    };
    let orphan = kin == Kin::Orphan || no_parent;
    finish(ctx, maker, new, orphan)
}

/// Makes a token by a role, which says what the maker may choose.
pub(super) fn with_role(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let role =
        roles::find(ctx, name)?.ok_or_else(|| Refusal::invalid(format!("unknown role {name}")))?;
    let maker = maker(ctx)?;
    let no_default = fields.flag("no_default_policy")?.unwrap_or(false);
    let given = fields.list("policies")?.unwrap_or_default();
    let policies = if role.limits_policies() {
        role.policies(&given, no_default)?
    } else {
        role.allows(&wanted_policies(
            Some(given),
            &maker,
            no_default || role.no_default_policy,
        )?)?
    };
    let secs = |secs: u64| (secs != 0).then(|| Duration::from_secs(secs));
    let max = [
        secs(role.explicit_max_ttl),
        lasting(fields, "explicit_max_ttl")?,
    ];
    let mut new = NewToken {
        policies,
        explicit_max_ttl: max.into_iter().flatten().min(),
        period: secs(role.period),
        role: Some(name.to_owned()),
        ..common(ctx, fields, &maker)?
    };
    new.fixed |= !role.renewable;
    if role.num_uses != 0 {
        new.num_uses = match new.num_uses {
            0 => role.num_uses,
            uses => uses.min(role.num_uses),
        };
    }
    if !role.path_suffix.is_empty() {
        new.path = format!("{}/{}", new.path, role.path_suffix);
    }
    let orphan = role.orphan;
    finish(ctx, maker, new, orphan)
}

fn lasting(fields: Fields<'_>, name: &str) -> Result<Option<Duration>, Refusal> {
    Ok(fields.duration(name)?.filter(|given| !given.is_zero()))
}

/// Reads what is the same with and without a role.
fn common(ctx: &Context<'_, '_>, fields: Fields<'_>, maker: &Maker) -> Result<NewToken, Refusal> {
    let restricted = maker
        .token
        .as_ref()
        .is_some_and(|token| token.num_uses != 0);
    if restricted {
        return Err(Refusal::invalid(
            "restricted use token cannot generate child tokens",
        ));
    }
    match fields.text("type")?.as_deref() {
        None | Some("" | "service") => {}
        Some("batch") => return Err(Refusal::invalid("batch tokens are not served")),
        Some(_) => return Err(Refusal::invalid("invalid 'type' value")),
    }
    let text = fields.text("id")?.filter(|id| !id.is_empty());
    if let Some(id) = &text {
        if !maker.sudo {
            return Err(Refusal::invalid(
                "root or sudo privileges required to specify token id",
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if tokens::TOKEN_BYTES_MAX < id.len() || !id.chars().all(plain) || id.starts_with("hvs.") {
            return Err(Refusal::invalid("custom token ID is not valid"));
        }
    }
    let ttl = match lasting(fields, "ttl")? {
        None => lasting(fields, "lease")?,
        given => given,
    };
    Ok(NewToken {
        path: ctx.path.to_owned(),
        meta: fields.pairs("meta")?,
        display_name: display_name(fields.text("display_name")?),
        num_uses: fields.count("num_uses")?.unwrap_or(0),
        ttl,
        fixed: !fields.flag("renewable")?.unwrap_or(true),
        text: text.map(Secret::new),
        no_default_policy: true,
        ..NewToken::default()
    })
}

/// Judges what no role may allow, and makes the token.
fn finish(
    ctx: &mut Context<'_, '_>,
    maker: Maker,
    mut new: NewToken,
    orphan: bool,
) -> Result<Answer, Refusal> {
    let root = new.policies == ["root"];
    if root && !maker.root {
        return Err(Refusal::invalid(
            "root tokens may not be created without parent token being root",
        ));
    }
    let unlimited = new.period.is_none() && new.explicit_max_ttl.is_none() && new.ttl.is_none();
    new.eternal = root && unlimited;
    let ends = maker
        .token
        .as_ref()
        .is_some_and(|token| token.expires.is_some());
    if new.eternal && ends {
        return Err(Refusal::invalid(
            "expiring root tokens cannot create non-expiring root tokens",
        ));
    }
    let warnings = missing(ctx, &new.policies)?;
    new.parent = maker.token.filter(|_| !orphan);
    // A child is of its parent's entity; an orphan of nobody's.
    if let Some(parent) = &new.parent {
        new.entity_id.clone_from(&parent.entity_id);
    }
    let mount = Arc::clone(&ctx.mount);
    let (text, token) = tokens::create(ctx.draft, &mount, new)?;
    let ttl = Duration::from_secs(token.creation_ttl);
    let entity = pipeline::entity_of_token(ctx, &token)?;
    let auth = pipeline::auth(text.expose(), &token, entity.as_deref(), ttl);
    let mut answer = Answer::from(Reply::Auth(auth));
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
        let key = Key::new(tables::POLICIES, name);
        if !ctx.draft.has(&key)? {
            warnings.push(format!("Policy \"{name}\" does not exist"));
        }
    }
    Ok(warnings)
}
