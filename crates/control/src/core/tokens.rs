//! Tokens: random texts of which only an HMAC is kept, in trees that die at one write.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, KeyRange, Unsealed};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::draft::{Draft, key};
use crate::core::leases::{self, LeaseId};
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;
use crate::core::role::whole_secs;
use crate::core::tables;
use crate::core::token_type::TokenKind;

pub mod batch;
mod ends;

pub use ends::{revoke, revoke_orphan, sweep};

/// Letters of a token after its prefix: 202 bits.
const TOKEN_LETTERS: usize = 34;
/// Letters of an accessor: 143 bits.
const ACCESSOR_LETTERS: usize = 24;
/// Deepest tree of tokens.
const DEPTH_MAX: usize = 16;
/// Longest text that is looked up as a service token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;

/// The HMAC-SHA256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Returns the id of a token.
    pub fn of(barrier: &Unsealed, token: &Secret<String>) -> Self {
        Self(barrier.digest("token", token.expose().as_bytes()))
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..8]))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a token id has 64 hexadecimal digits"))
    }
}

/// A token, as it is stored: not the token itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Names it to whoever may not hold it.
    pub accessor: String,
    /// Its policies, sorted.
    pub policies: Vec<String>,
    /// The path that made it.
    pub path: String,
    /// What is known of its holder.
    #[serde(default)]
    pub meta: Option<BTreeMap<String, String>>,
    /// A name for people.
    pub display_name: String,
    /// How often it can still be used; 0: as often as wanted.
    #[serde(default)]
    pub num_uses: u64,
    /// When it was made.
    pub created: UnixTime,
    /// For how long it was made, in seconds; 0 for a root token.
    pub creation_ttl: u64,
    /// When it ends; `None`: never, for root tokens alone.
    pub expires: Option<UnixTime>,
    /// Longest life in seconds that no setting prolongs; 0: none.
    #[serde(default)]
    pub explicit_max_ttl: u64,
    /// Longest life in seconds by its mount; does not bind periodic tokens.
    pub ttl_max: u64,
    /// Seconds that each renewal gives, without a longest life; 0: not periodic.
    #[serde(default)]
    pub period: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// When it was last renewed.
    #[serde(default)]
    pub renewed: Option<UnixTime>,
    /// Its parents, eldest first; empty for an orphan.
    #[serde(default)]
    pub ancestors: Vec<TokenId>,
    /// The role it was made by.
    #[serde(default)]
    pub role: Option<String>,
    /// Its lease, unless it lives for ever.
    #[serde(default)]
    pub lease: Option<LeaseId>,
    /// Whether it is stored.
    #[serde(default)]
    pub kind: TokenKind,
    /// The entity that it belongs to; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity_id: String,
    /// Networks from which alone it is good; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_cidrs: Vec<IpNet>,
    /// What the auth method that made it keeps of the login. Shown nowhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, String>,
}

impl Token {
    /// Returns whether its policies are those of root.
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Returns for how long its last renewal made it good, or its making if it was never renewed;
    /// `None`: for ever.
    pub fn granted(&self) -> Option<Duration> {
        let since = self.renewed.unwrap_or(self.created);
        self.expires.map(|end| end.since(since))
    }

    /// Returns how long it is good from `now` on, in seconds; 0 if for ever.
    pub fn ttl(&self, now: UnixTime) -> u64 {
        self.expires.map_or(0, |end| {
            end.since(now)
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX)
        })
    }
}

/// What a new token should be.
#[derive(Default)]
pub struct NewToken {
    /// Its policies; normalised by [`policies`].
    pub policies: Vec<String>,
    /// The path that makes it.
    pub path: String,
    /// What is known of its holder.
    pub meta: Option<BTreeMap<String, String>>,
    /// A name for people.
    pub display_name: String,
    /// How often it can be used; 0: as often as wanted.
    pub num_uses: u64,
    /// How long it lives; `None`: the mount's default.
    pub ttl: Option<Duration>,
    /// Its longest life; `None`: the mount's.
    pub ttl_max: Option<Duration>,
    /// Longest life that no setting prolongs.
    pub explicit_max_ttl: Option<Duration>,
    /// What each renewal gives, for a periodic token.
    pub period: Option<Duration>,
    /// Whether it cannot be renewed.
    pub fixed: bool,
    /// Whether it lives for ever. For root tokens made by a root token without an end.
    pub eternal: bool,
    /// Its parent; `None`: an orphan.
    pub parent: Option<Token>,
    /// The role it is made by.
    pub role: Option<String>,
    /// The token's text, where whoever asks is allowed to choose it.
    pub text: Option<Secret<String>>,
    /// Whether the policy `default` is left out.
    pub no_default_policy: bool,
    /// Whether it is stored.
    pub kind: TokenKind,
    /// The entity that it belongs to; empty: none.
    pub entity_id: String,
    /// Networks from which alone it is good; none: all.
    pub bound_cidrs: Vec<IpNet>,
    /// What the auth method that makes it keeps of the login.
    pub kept: BTreeMap<String, String>,
}

/// Puts policies into their one form: lower case, sorted, once each, `default` among them unless it
/// is left out, and nothing beside `root`.
pub fn policies(names: &[String], no_default_policy: bool) -> Vec<String> {
    let mut names: Vec<String> = names
        .iter()
        .map(|name| name.trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    if names.iter().any(|name| name == "root") {
        return vec!["root".to_owned()];
    }
    if !no_default_policy {
        names.push("default".to_owned());
    }
    names.sort();
    names.dedup();
    names
}

fn at(id: &TokenId) -> Key {
    Key::new(tables::TOKENS, id.as_bytes())
}

fn child(parent: &TokenId, child: &TokenId) -> Key {
    key(
        tables::TOKEN_CHILDREN,
        &[parent.as_bytes(), child.as_bytes()],
    )
}

/// Makes a token of `mount`. Returns its text, which is kept nowhere, and its entry.
pub fn create(
    draft: &mut Draft<'_>,
    mount: &Mount,
    new: NewToken,
) -> Result<(Secret<String>, Token), Refusal> {
    let now = draft.now();
    let ttl_max = new.ttl_max.unwrap_or(mount.ttl_max()).min(mount.ttl_max());
    let ttl = match new.period {
        Some(period) => period.min(ttl_max),
        None => new
            .ttl
            .unwrap_or(mount.ttl_default().min(ttl_max))
            .min(ttl_max),
    };
    let ttl = new.explicit_max_ttl.map_or(ttl, |max| ttl.min(max));
    // A life that rounds to nothing must not become one without end.
    let ttl = ttl.max(Duration::from_secs(1));
    let expires = (!new.eternal).then(|| now.plus(ttl));
    let ancestors = match &new.parent {
        None => Vec::new(),
        Some(parent) if parent.ancestors.len() + 1 < DEPTH_MAX => {
            [parent.ancestors.as_slice(), &[parent.id]].concat()
        }
        Some(_) => {
            return Err(Refusal::invalid(format!(
                "tokens cannot have more than {DEPTH_MAX} ancestors"
            )));
        }
    };
    let mut token = Token {
        id: TokenId([0; 32]),
        accessor: String::new(),
        policies: policies(&new.policies, new.no_default_policy),
        path: new.path,
        meta: new.meta,
        display_name: new.display_name,
        num_uses: new.num_uses,
        created: now,
        creation_ttl: if new.eternal { 0 } else { ttl.as_secs() },
        expires,
        explicit_max_ttl: new.explicit_max_ttl.map_or(0, whole_secs),
        ttl_max: ttl_max.as_secs(),
        period: new.period.map_or(0, whole_secs),
        renewable: !new.fixed && !new.eternal && new.kind == TokenKind::Service,
        renewed: None,
        ancestors,
        role: new.role,
        lease: None,
        kind: new.kind,
        entity_id: new.entity_id,
        bound_cidrs: new.bound_cidrs,
        kept: new.kept,
    };
    let text = match new.kind {
        TokenKind::Service => store(draft, mount, &mut token, new.text)?,
        TokenKind::Batch => batch::seal(draft.source().barrier(), &mut token)?,
    };
    Ok((text, token))
}

/// Gives a service token its id, its accessor and its lease, and writes it. Returns its text.
fn store(
    draft: &mut Draft<'_>,
    mount: &Mount,
    token: &mut Token,
    text: Option<Secret<String>>,
) -> Result<Secret<String>, Refusal> {
    let text = match text {
        Some(text) => text,
        None => Secret::new(format!("hvs.{}", draft.entropy().base62(TOKEN_LETTERS))),
    };
    token.id = TokenId::of(draft.source().barrier(), &text);
    if draft.has(&at(&token.id))? {
        return Err(Refusal::invalid(
            "cannot create a token with a duplicate ID",
        ));
    }
    if let Some(parent) = token.ancestors.last() {
        draft.put(child(parent, &token.id), Vec::new())?;
    }
    if let Some(end) = token.expires {
        let granted =
            leases::grant_token(draft, mount, &token.path, token.id, end, token.renewable)?;
        token.lease = Some(granted);
    }
    token.accessor = draft.entropy().base62(ACCESSOR_LETTERS);
    draft.save(Key::new(tables::ACCESSORS, &token.accessor), &token.id)?;
    save(draft, token)?;
    Ok(text)
}

/// Writes a token's entry.
pub fn save(draft: &mut Draft<'_>, token: &Token) -> Result<(), Refusal> {
    draft.save(at(&token.id), token)
}

/// Returns a token that is good now: there, not past its end, and so are all its ancestors.
pub fn find(draft: &mut Draft<'_>, id: &TokenId) -> Result<Option<Arc<Token>>, Refusal> {
    match draft.load_shared::<Token>(&at(id))? {
        Some(token) => good(draft, token),
        None => Ok(None),
    }
}

/// Returns the token if it is not past its end, and all its ancestors are good.
fn good(draft: &mut Draft<'_>, token: Arc<Token>) -> Result<Option<Arc<Token>>, Refusal> {
    let now = draft.now();
    let lives = |token: &Token| token.expires.is_none_or(|end| now < end);
    if !lives(&token) {
        return Ok(None);
    }
    for ancestor in &token.ancestors {
        let ancestor = draft.load_shared::<Token>(&at(ancestor))?;
        if !ancestor.is_some_and(|token| lives(&token)) {
            return Ok(None);
        }
    }
    Ok(Some(token))
}

/// Returns the good token whose text this is.
pub fn by_text(
    draft: &mut Draft<'_>,
    text: &Secret<String>,
) -> Result<Option<Arc<Token>>, Refusal> {
    if text.expose().starts_with(batch::PREFIX) {
        return match batch::open(draft.source().barrier(), text) {
            Some(token) => good(draft, Arc::new(token)),
            None => Ok(None),
        };
    }
    if TOKEN_BYTES_MAX < text.expose().len() {
        return Ok(None);
    }
    let id = TokenId::of(draft.source().barrier(), text);
    find(draft, &id)
}

/// Returns the good token with this accessor.
pub fn by_accessor(draft: &mut Draft<'_>, accessor: &str) -> Result<Option<Arc<Token>>, Refusal> {
    if accessor.is_empty() || TOKEN_BYTES_MAX < accessor.len() {
        return Ok(None);
    }
    let Some(id) = draft.load::<TokenId>(&Key::new(tables::ACCESSORS, accessor))? else {
        return Ok(None);
    };
    find(draft, &id)
}

/// Returns the accessors of all stored tokens.
pub fn accessors(draft: &mut Draft<'_>, limit: usize) -> Result<Vec<String>, Refusal> {
    let keys = draft.keys(&KeyRange::prefix(tables::ACCESSORS, ""), limit)?;
    keys.iter()
        .map(|key| {
            let text = String::from_utf8(key.rest().to_vec());
            text.map_err(|error| Refusal::corrupt("accessor", error))
        })
        .collect()
}

/// Renews a token: `asked` from now, within its longest life. Returns its new entry and whether the
/// time was cut.
pub fn renew(
    draft: &mut Draft<'_>,
    mut token: Token,
    asked: Option<Duration>,
    ttl_default: Duration,
) -> Result<(Token, bool), Refusal> {
    if token.kind == TokenKind::Batch {
        return Err(Refusal::invalid("batch tokens cannot be renewed"));
    }
    let (Some(_), true) = (token.expires, token.renewable) else {
        return Err(Refusal::invalid("lease is not renewable"));
    };
    let now = draft.now();
    let wanted = match token.period {
        0 => asked
            .filter(|asked| !asked.is_zero())
            .unwrap_or(ttl_default),
        period => Duration::from_secs(period.min(token.ttl_max)),
    };
    let life_max = match (token.period, token.explicit_max_ttl) {
        (0, 0) => Some(token.ttl_max),
        (0, max) => Some(token.ttl_max.min(max)),
        (_, 0) => None,
        (_, max) => Some(max),
    };
    let wanted_end = now.plus(wanted.max(Duration::from_secs(1)));
    let end = life_max.map_or(wanted_end, |max| {
        wanted_end.min(token.created.plus(Duration::from_secs(max)))
    });
    // Its role may say less now than when it was made. A token that is over by its answer would seem
    // to have no end.
    if end <= now {
        return Err(Refusal::invalid("past the max TTL, cannot renew"));
    }
    token.expires = Some(end);
    token.renewed = Some(now);
    if let Some(lease) = &token.lease {
        leases::move_end(draft, lease, end)?;
    }
    save(draft, &token)?;
    Ok((token, end < wanted_end))
}

#[cfg(test)]
mod tests;
