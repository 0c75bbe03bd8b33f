//! Tokens: random texts of which only an HMAC is kept, in trees that die at one write.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, KeyRange, Unsealed};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::draft::{Draft, key};
use crate::core::engine::World;
use crate::core::leases::{self, LeaseId};
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;
use crate::core::tables;
use crate::core::token_type::TokenKind;

/// Letters of a token after its prefix: 202 bits.
const TOKEN_LETTERS: usize = 34;
/// Letters of an accessor: 143 bits.
const ACCESSOR_LETTERS: usize = 24;
/// Deepest tree of tokens.
const DEPTH_MAX: usize = 16;
/// Longest text that is looked up as a token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Children and leases that one decision ends with a token; the rest is swept later.
const SWEEP_MAX: usize = 256;

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
    let text = match new.text {
        Some(text) => text,
        None => Secret::new(format!("hvs.{}", draft.entropy().base62(TOKEN_LETTERS))),
    };
    let id = TokenId::of(draft.source().barrier(), &text);
    if draft.has(&at(&id))? {
        return Err(Refusal::invalid(
            "cannot create a token with a duplicate ID",
        ));
    }
    let now = draft.now();
    let ttl_max = new.ttl_max.unwrap_or(mount.ttl_max()).min(mount.ttl_max());
    let ttl = match new.period {
        Some(period) => period,
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
    if let Some(parent) = ancestors.last() {
        draft.put(child(parent, &id), Vec::new())?;
    }
    let lease = match expires {
        Some(end) => Some(leases::grant_token(
            draft, mount, &new.path, id, end, !new.fixed,
        )?),
        None => None,
    };
    let token = Token {
        id,
        accessor: draft.entropy().base62(ACCESSOR_LETTERS),
        policies: policies(&new.policies, new.no_default_policy),
        path: new.path,
        meta: new.meta,
        display_name: new.display_name,
        num_uses: new.num_uses,
        created: now,
        creation_ttl: if new.eternal { 0 } else { ttl.as_secs() },
        expires,
        explicit_max_ttl: new.explicit_max_ttl.map_or(0, |max| max.as_secs()),
        ttl_max: ttl_max.as_secs(),
        period: new.period.map_or(0, |period| period.as_secs()),
        renewable: !new.fixed && !new.eternal,
        renewed: None,
        ancestors,
        role: new.role,
        lease,
        kind: new.kind,
        entity_id: new.entity_id,
        bound_cidrs: new.bound_cidrs,
        kept: new.kept,
    };
    draft.save(Key::new(tables::ACCESSORS, &token.accessor), &id)?;
    save(draft, &token)?;
    Ok((text, token))
}

/// Writes a token's entry.
pub fn save(draft: &mut Draft<'_>, token: &Token) -> Result<(), Refusal> {
    draft.save(at(&token.id), token)
}

/// Returns a token that is good now: there, not past its end, and so are all its ancestors.
pub fn find(draft: &mut Draft<'_>, id: &TokenId) -> Result<Option<Token>, Refusal> {
    let now = draft.now();
    let good = |token: &Token| token.expires.is_none_or(|end| now < end);
    let Some(token) = draft.load::<Token>(&at(id))?.filter(good) else {
        return Ok(None);
    };
    for ancestor in &token.ancestors {
        if !draft
            .load::<Token>(&at(ancestor))?
            .is_some_and(|token| good(&token))
        {
            return Ok(None);
        }
    }
    Ok(Some(token))
}

/// Returns the good token whose text this is.
pub fn by_text(draft: &mut Draft<'_>, text: &Secret<String>) -> Result<Option<Token>, Refusal> {
    if TOKEN_BYTES_MAX < text.expose().len() {
        return Ok(None);
    }
    let id = TokenId::of(draft.source().barrier(), text);
    find(draft, &id)
}

/// Returns the good token with this accessor.
pub fn by_accessor(draft: &mut Draft<'_>, accessor: &str) -> Result<Option<Token>, Refusal> {
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
    let (Some(_), true) = (token.expires, token.renewable) else {
        return Err(Refusal::invalid("lease is not renewable"));
    };
    let now = draft.now();
    let wanted = match token.period {
        0 => asked
            .filter(|asked| !asked.is_zero())
            .unwrap_or(ttl_default),
        period => Duration::from_secs(period),
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
    token.expires = Some(end);
    token.renewed = Some(now);
    if let Some(lease) = &token.lease {
        leases::move_end(draft, lease, end)?;
    }
    save(draft, &token)?;
    Ok((token, end < wanted_end))
}

/// Revokes a token. With the one write that deletes its entry all its descendants are void; they and
/// its leases are swept here, and later by [`sweep`] where they are many.
pub fn revoke(draft: &mut Draft<'_>, world: World<'_>, id: &TokenId) -> Result<(), Refusal> {
    kill(draft, id)?;
    let mut budget = SWEEP_MAX;
    sweep_one(draft, world, id, &mut budget)
}

/// Revokes a token, and makes its children orphans.
pub fn revoke_orphan(draft: &mut Draft<'_>, world: World<'_>, id: &TokenId) -> Result<(), Refusal> {
    let mut todo = vec![*id];
    let mut seen = 0;
    while let Some(parent) = todo.pop() {
        for below in children(draft, &parent, SWEEP_MAX)? {
            seen += 1;
            if SWEEP_MAX <= seen {
                return Err(Refusal::invalid(
                    "token has too many descendants to be orphaned",
                ));
            }
            if let Some(mut token) = draft.load::<Token>(&at(&below))? {
                let depth = token.ancestors.iter().position(|ancestor| ancestor == id);
                token.ancestors.drain(..depth.map_or(0, |depth| depth + 1));
                save(draft, &token)?;
            }
            todo.push(below);
        }
    }
    for below in children(draft, id, SWEEP_MAX)? {
        draft.delete(child(id, &below));
    }
    revoke(draft, world, id)
}

fn children(draft: &mut Draft<'_>, id: &TokenId, limit: usize) -> Result<Vec<TokenId>, Refusal> {
    let range = KeyRange::prefix(tables::TOKEN_CHILDREN, id.as_bytes());
    draft
        .keys(&range, limit)?
        .iter()
        .map(|key| {
            let tail = key.rest().get(32..).and_then(|tail| tail.try_into().ok());
            tail.map(TokenId)
                .ok_or_else(|| Refusal::corrupt("token child", "its length"))
        })
        .collect()
}

/// Deletes a token's rows and notes that what hangs on it is to be swept.
fn kill(draft: &mut Draft<'_>, id: &TokenId) -> Result<(), Refusal> {
    if let Some(token) = draft.load::<Token>(&at(id))? {
        draft.delete(at(id));
        draft.delete(Key::new(tables::ACCESSORS, &token.accessor));
        if let Some(parent) = token.ancestors.last() {
            draft.delete(child(parent, id));
        }
        if let Some(lease) = &token.lease {
            leases::forget(draft, lease)?;
        }
        draft.put(Key::new(tables::SWEEP, id.as_bytes()), Vec::new())?;
    }
    Ok(())
}

/// Ends what hangs on revoked tokens, in small pieces. Returns whether there is more to do.
pub fn sweep(draft: &mut Draft<'_>, world: World<'_>) -> Result<bool, Refusal> {
    let mut budget = SWEEP_MAX;
    let range = KeyRange::prefix(tables::SWEEP, "");
    for key in draft.keys(&range, SWEEP_MAX)? {
        let id = key.rest().try_into().map(TokenId);
        let id = id.map_err(|_| Refusal::corrupt("sweep", "its length"))?;
        sweep_one(draft, world, &id, &mut budget)?;
        if budget == 0 {
            return Ok(true);
        }
    }
    Ok(!draft.keys(&range, 1)?.is_empty())
}

fn sweep_one(
    draft: &mut Draft<'_>,
    world: World<'_>,
    id: &TokenId,
    budget: &mut usize,
) -> Result<(), Refusal> {
    let mut todo = vec![*id];
    while let Some(token) = todo.pop() {
        for below in children(draft, &token, *budget)? {
            *budget = budget.saturating_sub(1);
            kill(draft, &below)?;
            todo.push(below);
        }
        for lease in leases::owned_by(draft, &token, *budget)? {
            *budget = budget.saturating_sub(1);
            leases::revoke(draft, world, &lease)?;
        }
        clear_cubbyhole(draft, &token, budget)?;
        if *budget == 0 {
            return Ok(());
        }
        draft.delete(Key::new(tables::SWEEP, token.as_bytes()));
    }
    Ok(())
}

fn clear_cubbyhole(draft: &mut Draft<'_>, id: &TokenId, budget: &mut usize) -> Result<(), Refusal> {
    let mounts = draft.mounts()?;
    let Some(mount) = mounts.at("cubbyhole/") else {
        return Ok(());
    };
    let prefix = [&mount.id.0, format!("{id}/").as_bytes()].concat();
    for key in draft.keys(&KeyRange::prefix(tables::ENGINE, prefix), *budget)? {
        *budget = budget.saturating_sub(1);
        draft.delete(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
