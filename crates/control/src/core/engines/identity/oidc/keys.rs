//! `identity/oidc/key`: named keys, and the keys behind the names, which change.
//!
//! A key signs for its rotation period; its successor is made and published a period before it signs.
//! A rotation that is due happens when the key is next asked to sign, so that no token is ever signed
//! by an older one. Retired keys stay published for as long as what they signed may be verified.

use std::time::Duration;

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::jwk::{Algorithm, PublicKey, SigningKey};
use crate::core::engines::identity::oidc::{provider, room, tokens};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The key that each cluster has.
pub const DEFAULT: &str = "default";
/// How long a key signs, and how long what it signed can be verified, where nothing is said.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Shortest rotation period.
const ROTATION_MIN: Duration = Duration::from_secs(60);
/// Longest rotation period and longest time of verification: ten years.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Most retired keys that are still published; the eldest goes first.
const RETIRED_MAX: usize = 32;
/// Most clients that a key names.
const CLIENTS_MAX: usize = 1_000;

/// A named key, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct NamedKey {
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Clients whose tokens it signs; `*`: all.
    pub clients: Vec<String>,
    /// For how long a key signs, in seconds.
    pub rotation_period: u64,
    /// For how long what it signed can be verified, in seconds.
    pub verification_ttl: u64,
    /// When it is rotated next.
    pub rotates: UnixTime,
    /// What signs; `None` in the default key until it is needed.
    signing: Option<SigningKey>,
    /// What signs next.
    next: Option<SigningKey>,
    /// What signed, and until when what it signed can be verified.
    retired: Vec<(PublicKey, UnixTime)>,
}

impl NamedKey {
    fn fresh(now: UnixTime) -> Self {
        Self {
            algorithm: Algorithm::Rs256,
            clients: Vec::new(),
            rotation_period: DAY.as_secs(),
            verification_ttl: DAY.as_secs(),
            rotates: now.plus(DAY),
            signing: None,
            next: None,
            retired: Vec::new(),
        }
    }

    /// Returns whether it signs for a client.
    pub fn signs_for(&self, client: &str) -> bool {
        self.clients.iter().any(|it| it == "*" || it == client)
    }

    /// Returns the public keys to be published at a time.
    pub fn public(&self, now: UnixTime) -> Vec<PublicKey> {
        let own = [&self.signing, &self.next];
        let own = own.into_iter().flatten().map(|key| key.public.clone());
        let retired = self.retired.iter().filter(|(_, until)| now < *until);
        own.chain(retired.map(|(key, _)| key.clone())).collect()
    }

    /// Returns them as JSON.
    pub fn published(&self, now: UnixTime) -> Vec<Value> {
        self.public(now).iter().map(PublicKey::jwk).collect()
    }

    /// Puts the next key in the place of the one that signs, and makes a new next one.
    fn rotate(
        &mut self,
        ctx: &mut Context<'_, '_>,
        verification: Option<Duration>,
    ) -> Result<(), Refusal> {
        let now = ctx.now();
        let next = match self.next.take() {
            Some(next) => next,
            None => SigningKey::make(ctx, self.algorithm)?,
        };
        let verification = verification.unwrap_or(Duration::from_secs(self.verification_ttl));
        if let Some(old) = self.signing.replace(next) {
            self.retired
                .push((old.public.clone(), now.plus(verification)));
        }
        self.retired.retain(|(_, until)| now < *until);
        while RETIRED_MAX < self.retired.len() {
            self.retired.remove(0);
        }
        self.next = Some(SigningKey::make(ctx, self.algorithm)?);
        self.rotates = now.plus(Duration::from_secs(self.rotation_period));
        Ok(())
    }

    /// Makes what is missing: both keys of a new name, or of one whose algorithm was changed.
    fn complete(&mut self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        let algorithm = self.algorithm;
        let fits = |key: &SigningKey| key.public.algorithm == algorithm;
        if !self.next.as_ref().is_some_and(fits) {
            self.next = None;
        }
        if !self.signing.as_ref().is_some_and(fits) {
            self.rotate(ctx, None)?;
        } else if self.next.is_none() {
            self.next = Some(SigningKey::make(ctx, algorithm)?);
        }
        Ok(())
    }
}

/// Returns where a named key stands.
pub fn at(name: &str) -> String {
    format!("oidc/key/{name}")
}

/// Returns a named key.
pub fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<NamedKey>, Refusal> {
    let found = ctx.load(&at(name))?;
    if found.is_none() && name == DEFAULT {
        let mut key = NamedKey::fresh(ctx.now());
        key.clients = vec!["*".to_owned()];
        return Ok(Some(key));
    }
    Ok(found)
}

/// Returns a named key that can sign now: rotated, if that is due.
pub fn ready(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<NamedKey>, Refusal> {
    let Some(mut key) = find(ctx, name)? else {
        return Ok(None);
    };
    if key.signing.is_none() {
        key.complete(ctx)?;
        ctx.save(&at(name), &key)?;
    } else if key.rotates <= ctx.now() {
        key.rotate(ctx, None)?;
        ctx.save(&at(name), &key)?;
    }
    Ok(Some(key))
}

impl NamedKey {
    /// Signs claims. The key must be [`ready`].
    pub fn sign(&self, claims: &serde_json::Map<String, Value>) -> Result<String, Refusal> {
        let missing = || Refusal::Internal("a named key has no signing key".to_owned());
        self.signing.as_ref().ok_or_else(missing)?.sign(claims)
    }
}

/// Returns all named keys.
pub fn all(ctx: &mut Context<'_, '_>) -> Result<Vec<NamedKey>, Refusal> {
    let mut found = Vec::new();
    for name in ctx.keys("oidc/key/")? {
        found.extend(ctx.load::<NamedKey>(&at(&name))?);
    }
    Ok(found)
}

/// Lists the names.
pub fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let mut names = ctx.keys("oidc/key/")?;
    names.push(DEFAULT.to_owned());
    names.sort();
    names.dedup();
    Answer::keys(names)
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    match call.operation {
        Operation::Read => {
            let key = find(ctx, name)?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(json!({
                "algorithm": key.algorithm.as_str(),
                "allowed_client_ids": key.clients,
                "rotation_period": key.rotation_period,
                "verification_ttl": key.verification_ttl,
            })))
        }
        Operation::Create | Operation::Update => write(ctx, call, name),
        Operation::Delete => delete(ctx, name),
        Operation::List | Operation::Patch => Err(Refusal::UnsupportedOperation),
    }
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let now = ctx.now();
    let mut key = match find(ctx, name)? {
        Some(key) => key,
        None => {
            room(ctx, "oidc/key/")?;
            NamedKey::fresh(now)
        }
    };
    if let Some(period) = fields.duration("rotation_period")? {
        if period < ROTATION_MIN {
            return Err(Refusal::invalid(
                "rotation_period must be at least one minute",
            ));
        }
        if TTL_MAX < period {
            return Err(Refusal::invalid("rotation_period is longer than ten years"));
        }
        key.rotation_period = period.as_secs();
    }
    if let Some(ttl) = fields.duration("verification_ttl")? {
        key.verification_ttl = ttl.min(TTL_MAX).as_secs();
    }
    if key.rotation_period.saturating_mul(10) < key.verification_ttl {
        return Err(Refusal::invalid(
            "verification_ttl cannot be longer than 10x rotation_period",
        ));
    }
    if let Some((kind, ttl)) = longest(ctx, name)?
        && key.verification_ttl < ttl
    {
        return Err(Refusal::invalid(format!(
            "unable to update key {name:?} because it is currently referenced by one or more {kind} \
             greater than {} seconds",
            key.verification_ttl
        )));
    }
    if let Some(clients) = fields.list("allowed_client_ids")? {
        if CLIENTS_MAX < clients.len() {
            return Err(Refusal::invalid(format!("more than {CLIENTS_MAX} clients")));
        }
        key.clients = clients;
    }
    if let Some(algorithm) = fields.text("algorithm")?.filter(|it| !it.is_empty()) {
        key.algorithm = algorithm
            .parse()
            .map_err(|_| Refusal::invalid(format!("unknown signing algorithm {algorithm:?}")))?;
    }
    let rotates = now.plus(Duration::from_secs(key.rotation_period));
    key.rotates = key.rotates.min(rotates);
    key.complete(ctx)?;
    ctx.save(&at(name), &key)?;
    Ok(Answer::done())
}

/// Returns the longest life that a role or a client gives what this key signs.
fn longest(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<(&'static str, u64)>, Refusal> {
    let roles = tokens::of_key(ctx, name)?;
    let roles = roles
        .iter()
        .map(|(_, ttl)| ("roles with a token ttl", *ttl));
    let clients = provider::clients_of_key(ctx, name)?;
    let clients = clients
        .iter()
        .map(|(_, ttl)| ("clients with an id_token_ttl", *ttl));
    Ok(roles.chain(clients).max_by_key(|(_, ttl)| *ttl))
}

fn delete(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    if name == DEFAULT {
        return Err(Refusal::invalid(format!(
            "deletion of key {name:?} not allowed"
        )));
    }
    let names = |found: Vec<(String, u64)>| -> String {
        let names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.join(", ")
    };
    for (kind, found) in [
        ("roles", tokens::of_key(ctx, name)?),
        ("clients", provider::clients_of_key(ctx, name)?),
    ] {
        if !found.is_empty() {
            return Err(Refusal::invalid(format!(
                "unable to delete key {name:?} because it is currently referenced by these {kind}: {}",
                names(found)
            )));
        }
    }
    ctx.delete(&at(name));
    Ok(Answer::done())
}

pub(super) fn rotate(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let Some(mut key) = find(ctx, name)? else {
        return Err(Refusal::invalid(format!("no named key found at {name:?}")));
    };
    let verification = call.fields().duration("verification_ttl")?;
    let verification = verification.map(|ttl| ttl.min(TTL_MAX));
    if let Some(ttl) = verification {
        key.verification_ttl = ttl.as_secs();
    }
    key.complete(ctx)?;
    key.rotate(ctx, verification)?;
    ctx.save(&at(name), &key)?;
    Ok(Answer::done())
}
