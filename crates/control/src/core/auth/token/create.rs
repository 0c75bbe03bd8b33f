//! `auth/token/create`, `create-orphan` and `create/<role>`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::Secret;
use bastide_store::Key;
use ipnet::IpNet;

use crate::core::auth::token::roles::{self, Role};
use crate::core::engine::{Call, Caller, Context};
use crate::core::engines::identity::names::alias_name;
use crate::core::fields::{Fields, go_duration};
use crate::core::identity::Alias;
use crate::core::path::ApiPath;
use crate::core::pipeline;
use crate::core::policy::builtin::RESERVED;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply};
use crate::core::tables;
use crate::core::token_type::{TokenKind, TokenType};
use crate::core::tokens::{self, NewToken, Token};

/// Most entries of a token's metadata.
const META_MAX: usize = 64;
/// Most bytes of a token's metadata, keys and values together.
const META_BYTES_MAX: usize = 16 << 10;
/// Longest name for people, in bytes.
const DISPLAY_BYTES_MAX: usize = 128;

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

impl Maker {
    /// The maker's own policies; the program itself counts as root.
    fn policies(&self) -> Vec<String> {
        match &self.token {
            Some(token) => token.policies.clone(),
            None if self.root => vec!["root".to_owned()],
            None => Vec::new(),
        }
    }
}

fn maker(ctx: &mut Context<'_, '_>) -> Result<Maker, Refusal> {
    let acl = pipeline::acl(ctx)?;
    let sudo = ApiPath::parse(ctx.path).is_ok_and(|path| {
        acl.capabilities(&path, None)
            .iter()
            .any(|it| ["root", "sudo"].contains(it))
    });
    let token = ctx.caller.token().map(|token| Token::clone(token));
    Ok(Maker {
        // Root by its own policies: who somebody is makes nobody root.
        root: match ctx.caller {
            Caller::Token(token) => token.is_root(),
            Caller::Program => true,
            Caller::Nobody | Caller::Machine(_) => false,
        },
        token,
        sudo,
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
        Some(name) => {
            let folded: String = name.chars().take(DISPLAY_BYTES_MAX).map(fold).collect();
            format!("token-{folded}")
        }
        None => "token".to_owned(),
    }
}

/// Makes a token by the fields of the call alone, or by a role as well, which says what the maker
/// may choose.
pub(super) fn create(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    kin: Kin,
    role: Option<&str>,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let role = match role {
        None => None,
        Some(name) => {
            let found = roles::find(ctx, name)?;
            let found = found.ok_or_else(|| Refusal::invalid(format!("unknown role {name}")))?;
            Some((name, found))
        }
    };
    let maker = maker(ctx)?;
    refuse_maker(&maker)?;
    let wanted = Wanted::read(fields)?;
    let kind = kind(wanted.token_type, role.as_ref().map(|(_, role)| role));
    let mut new = NewToken {
        path: ctx.path.to_owned(),
        meta: meta(fields)?,
        display_name: display_name(fields.text("display_name")?),
        num_uses: wanted.num_uses,
        ttl: wanted.ttl,
        fixed: !fields.flag("renewable")?.unwrap_or(true),
        period: wanted.period,
        explicit_max_ttl: wanted.explicit_max_ttl,
        text: chosen_text(fields, &maker)?,
        no_default_policy: true,
        kind,
        ..NewToken::default()
    };
    if new.period.is_some() && !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to create periodic token",
        ));
    }
    if kind == TokenKind::Batch {
        refuse_batch(&wanted, &new)?;
    }
    let no_default = fields.flag("no_default_policy")?.unwrap_or(false);
    let given = fields.list("policies")?.unwrap_or_default();
    let limits = role.as_ref().filter(|(_, role)| role.limits_policies());
    new.policies = match limits {
        Some((_, role)) => role.policies(&given, &maker.policies(), no_default)?,
        None => wanted_policies(&given, &maker, no_default)?,
    };
    let no_parent = fields.flag("no_parent")?.unwrap_or(false);
    let mut orphan = kin == Kin::Orphan;
    match &role {
        Some((name, role)) => {
            orphan = role.orphan;
            if kind == TokenKind::Batch && role.num_uses != 0 {
                return Err(Refusal::invalid(
                    "the role limits how often its tokens are used, which batch tokens cannot be",
                ));
            }
            apply(&mut new, name, role);
            alias(ctx, fields, role, &mut new)?;
        }
        // Vault's Go client sends the field in any case.
        None if fields
            .text("entity_alias")?
            .is_some_and(|it| !it.is_empty()) =>
        {
            return Err(Refusal::invalid(
                "'entity_alias' is only allowed in combination with token role",
            ));
        }
        None if no_parent && !maker.sudo => {
            return Err(Refusal::invalid(
                "root or sudo privileges required to create orphan token",
            ));
        }
        None => orphan |= no_parent,
    }
    if let Some(parent) = maker.token.as_ref().filter(|_| !orphan) {
        if new.entity_id.is_empty() {
            new.entity_id.clone_from(&parent.entity_id);
        }
        if role.is_none() {
            new.bound_cidrs.clone_from(&parent.bound_cidrs);
        }
    }
    finish(ctx, maker, new, orphan)
}

/// What a call asks for, before it is known who asks.
struct Wanted {
    token_type: TokenType,
    num_uses: u64,
    ttl: Option<Duration>,
    period: Option<Duration>,
    explicit_max_ttl: Option<Duration>,
}

impl Wanted {
    fn read(fields: Fields<'_>) -> Result<Self, Refusal> {
        let token_type = match fields.text("type")?.as_deref() {
            None | Some("") => TokenType::Default,
            Some("service") => TokenType::Service,
            Some("batch") => TokenType::Batch,
            Some(_) => return Err(Refusal::invalid("invalid 'type' value")),
        };
        let ttl = match lasting(fields, "ttl")? {
            None => lasting(fields, "lease")?,
            given => given,
        };
        Ok(Self {
            token_type,
            num_uses: fields.count("num_uses")?.unwrap_or(0),
            ttl,
            period: lasting(fields, "period")?,
            explicit_max_ttl: lasting(fields, "explicit_max_ttl")?,
        })
    }
}

fn lasting(fields: Fields<'_>, name: &str) -> Result<Option<Duration>, Refusal> {
    Ok(fields.duration(name)?.filter(|given| !given.is_zero()))
}

/// Refuses makers that can have no children.
fn refuse_maker(maker: &Maker) -> Result<(), Refusal> {
    let Some(token) = &maker.token else {
        return Ok(());
    };
    if token.kind == TokenKind::Batch {
        return Err(Refusal::invalid("batch tokens cannot create more tokens"));
    }
    if token.num_uses != 0 {
        return Err(Refusal::invalid(
            "restricted use token cannot generate child tokens",
        ));
    }
    Ok(())
}

fn refuse_batch(wanted: &Wanted, new: &NewToken) -> Result<(), Refusal> {
    for (name, is_set) in [
        ("id", new.text.is_some()),
        ("num_uses", wanted.num_uses != 0),
        ("period", wanted.period.is_some()),
        ("explicit_max_ttl", wanted.explicit_max_ttl.is_some()),
    ] {
        if is_set {
            return Err(Refusal::invalid(format!(
                "batch tokens cannot have \"{name}\" set"
            )));
        }
    }
    Ok(())
}

/// Returns the kind of a new token: the role's, unless it leaves it to whoever asks.
fn kind(wanted: TokenType, role: Option<&Role>) -> TokenKind {
    let by_role = role.map_or(TokenType::Default, |role| role.token_type);
    match by_role {
        TokenType::Service => TokenKind::Service,
        TokenType::Batch => TokenKind::Batch,
        TokenType::Default | TokenType::DefaultService | TokenType::DefaultBatch => {
            wanted.at_login(by_role)
        }
    }
}

fn meta(fields: Fields<'_>) -> Result<Option<BTreeMap<String, String>>, Refusal> {
    let meta = fields.pairs("meta")?;
    if let Some(meta) = &meta {
        let bytes: usize = meta
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if META_MAX < meta.len() || META_BYTES_MAX < bytes {
            return Err(Refusal::invalid(format!(
                "meta has at most {META_MAX} entries and {META_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(meta)
}

/// Returns the text that the maker chose for the token.
fn chosen_text(fields: Fields<'_>, maker: &Maker) -> Result<Option<Secret<String>>, Refusal> {
    let Some(id) = fields.text("id")?.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let id = Secret::new(id);
    let text = id.expose();
    if !maker.sudo {
        return Err(Refusal::invalid(
            "root or sudo privileges required to specify token id",
        ));
    }
    if ["hvs.", "hvb.", "hvr.", "s.", "b.", "r."]
        .iter()
        .any(|prefix| text.starts_with(prefix))
    {
        return Err(Refusal::invalid(
            "custom token ID cannot have the 'hvs.' or 's.' prefix",
        ));
    }
    if text.contains('.') {
        return Err(Refusal::invalid(
            "custom token ID cannot have a '.' in the value",
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if tokens::TOKEN_BYTES_MAX < text.len() || !text.chars().all(plain) {
        return Err(Refusal::invalid("custom token ID is not valid"));
    }
    Ok(Some(id))
}

/// Lets a role have its say.
fn apply(new: &mut NewToken, name: &str, role: &Role) {
    let lesser = |asked: Option<Duration>, secs: u64| {
        let own = (secs != 0).then(|| Duration::from_secs(secs));
        [asked, own].into_iter().flatten().min()
    };
    new.role = Some(name.to_owned());
    new.fixed |= !role.renewable;
    // A batch token cannot be renewed: its one life is cut, whoever chose that kind.
    new.explicit_max_ttl = lesser(new.explicit_max_ttl, role.explicit_max_ttl);
    if new.kind == TokenKind::Service {
        new.period = lesser(new.period, role.period);
        if role.num_uses != 0 {
            new.num_uses = match new.num_uses {
                0 => role.num_uses,
                uses => uses.min(role.num_uses),
            };
        }
    }
    if !role.path_suffix.is_empty() {
        new.path = format!("{}/{}", new.path, role.path_suffix);
    }
    new.bound_cidrs.clone_from(&role.bound_cidrs);
}

/// Finds the entity of an alias that the maker names, where the role allows it.
fn alias(
    ctx: &mut Context<'_, '_>,
    fields: Fields<'_>,
    role: &Role,
    new: &mut NewToken,
) -> Result<(), Refusal> {
    let Some(name) = fields.text("entity_alias")?.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let name = alias_name(&ctx.mount.kind, &name)?;
    if !role.allows_alias(&name) {
        return Err(Refusal::invalid("invalid 'entity_alias' value"));
    }
    let alias = Alias {
        name,
        ..Alias::default()
    };
    let entity = pipeline::entity_of_alias(ctx, &alias)?;
    new.entity_id = entity.map(|entity| entity.id.clone()).unwrap_or_default();
    Ok(())
}

/// Judges what no role may allow, and makes the token.
fn finish(
    ctx: &mut Context<'_, '_>,
    maker: Maker,
    mut new: NewToken,
    orphan: bool,
) -> Result<Answer, Refusal> {
    let reserved = |name: &&String| *name != "root" && RESERVED.contains(&name.as_str());
    if let Some(name) = new.policies.iter().find(reserved) {
        return Err(Refusal::invalid(format!("cannot assign policy \"{name}\"")));
    }
    let root = new.policies == ["root"];
    if root && !maker.root {
        return Err(Refusal::invalid(
            "root tokens may not be created without parent token being root",
        ));
    }
    if root && new.kind == TokenKind::Batch {
        return Err(Refusal::invalid("batch tokens cannot be root tokens"));
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
    if new.eternal {
        new.bound_cidrs = Vec::<IpNet>::new();
    }
    let mut warnings = missing(ctx, &new.policies)?;
    new.parent = maker.token.filter(|_| !orphan);
    let asked = new.ttl.filter(|_| new.period.is_none());
    let mount = Arc::clone(&ctx.mount);
    let (text, token) = tokens::create(ctx.draft, &mount, new)?;
    let ttl = Duration::from_secs(token.creation_ttl);
    if let Some(asked) = asked.filter(|asked| ttl < *asked) {
        warnings.push(format!(
            "TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped \
             accordingly",
            go_duration(asked),
            go_duration(ttl),
        ));
    }
    let entity = pipeline::entity_of_token(ctx, &token)?;
    let auth = pipeline::auth(text.expose(), &token, entity.as_deref(), ttl);
    let mut answer = Answer::from(Reply::Auth(auth));
    answer.warnings = warnings;
    Ok(answer)
}

/// Returns the policies of a new token: those asked for, which must be its maker's unless that one
/// may do everything, or the maker's own.
fn wanted_policies(
    given: &[String],
    maker: &Maker,
    no_default_policy: bool,
) -> Result<Vec<String>, Refusal> {
    let own = maker.policies();
    if given.is_empty() {
        // `default` is inherited like any other, and never added here.
        return Ok(tokens::policies(&own, true));
    }
    let wanted = tokens::policies(given, true);
    if maker.sudo || maker.root {
        return Ok(tokens::policies(given, no_default_policy));
    }
    if !wanted.iter().all(|policy| own.contains(policy)) {
        return Err(Refusal::invalid("child policies must be subset of parent"));
    }
    let has_default = own.iter().any(|policy| policy == "default");
    Ok(tokens::policies(&wanted, no_default_policy || !has_default))
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
