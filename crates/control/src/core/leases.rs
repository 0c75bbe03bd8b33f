//! Leases: everything granted that expires, ordered by when it does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_store::{Key, KeyRange};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::draft::{Draft, key};
use crate::core::engine::{Caller, Context, World};
use crate::core::mounts::{Mount, MountId};
use crate::core::path::ApiPath;
use crate::core::refusal::Refusal;
use crate::core::reply::Grant;
use crate::core::request::Peer;
use crate::core::tables;
use crate::core::tokens::{self, TokenId};

/// Random letters at the end of a lease's id: 143 bits.
const TAIL: usize = 24;
/// How long until an undo that failed once is tried again; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// How long at most.
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);
/// After so many failures, some ten minutes, a lease counts as irrevocable: it is tried on, but
/// somebody should look.
pub const IRREVOCABLE_AFTER: u32 = 6;
/// Most bytes that are kept of why an undo failed.
const ERROR_BYTES_MAX: usize = 240;

/// A lease's id: the path that granted it, a slash and random letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(String);

impl LeaseId {
    /// Parses an id; `None` if it is no path.
    pub fn parse(text: &str) -> Option<Self> {
        let path = ApiPath::parse(text).ok()?;
        Some(Self(path.as_str().to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With what a lease dies besides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// With nothing.
    Nobody,
    /// With a token.
    Token(TokenId),
}

/// What a lease stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A token.
    Token(TokenId),
    /// Something that the mount's engine granted, and what it needs to undo it.
    Granted(Value),
}

/// A lease, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The mount that granted it.
    pub mount: MountId,
    /// What it stands for.
    pub subject: Subject,
    /// When it was granted.
    pub issued: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
    /// When it ends at the latest; `None`: renewals have no end.
    pub expires_max: Option<UnixTime>,
    /// When it was last renewed.
    #[serde(default)]
    pub renewed: Option<UnixTime>,
    /// Whether whoever holds it may renew it.
    pub renewable: bool,
    /// The token with which it dies.
    #[serde(default)]
    pub owner: Option<TokenId>,
    /// How undoing what it stood for has failed so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

/// A lease is over, but what it stood for could not be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub since: UnixTime,
    /// When it is tried next.
    pub next: UnixTime,
    /// Why it failed last.
    pub error: String,
}

/// What became of a lease that was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What it stood for is undone, or there was no such lease.
    Undone,
    /// It is good for nothing any more, but what it stood for is still there: the undo failed, and
    /// is tried again.
    Later,
}

impl Lease {
    /// Returns how long it is good from `now` on, in whole seconds, rounded up.
    pub fn ttl(&self, now: UnixTime) -> u64 {
        self.expires
            .since(now)
            .as_millis()
            .div_ceil(1000)
            .try_into()
            .unwrap_or(u64::MAX)
    }
}

fn at(id: &LeaseId) -> Key {
    Key::new(tables::LEASES, id.as_str())
}

fn expiry(lease: &Lease) -> Key {
    let due = lease.failing.as_ref().map_or(lease.expires, |it| it.next);
    due_at(due, &lease.id)
}

fn due_at(due: UnixTime, id: &LeaseId) -> Key {
    let due = due.as_millis().to_be_bytes();
    key(tables::LEASE_EXPIRY, &[&due, id.as_str().as_bytes()])
}

fn trouble(id: &LeaseId) -> Key {
    Key::new(tables::LEASE_TROUBLE, id.as_str())
}

fn owned(owner: &TokenId, id: &LeaseId) -> Key {
    key(
        tables::LEASE_TOKENS,
        &[owner.as_bytes(), id.as_str().as_bytes()],
    )
}

fn write(draft: &mut Draft<'_>, lease: &Lease) -> Result<(), Refusal> {
    draft.put(expiry(lease), Vec::new())?;
    if let Some(owner) = &lease.owner {
        draft.put(owned(owner, &lease.id), Vec::new())?;
    }
    if lease.failing.is_some() {
        draft.put(trouble(&lease.id), Vec::new())?;
    }
    draft.save(at(&lease.id), lease)
}

/// Grants a lease of `mount` to what `path` asked for.
pub fn grant(
    draft: &mut Draft<'_>,
    mount: &Mount,
    path: &str,
    grant: Grant,
    owner: Owner,
) -> Result<LeaseId, Refusal> {
    let ttl_max = grant.ttl_max.max(Duration::from_secs(1));
    let lease = Lease {
        id: LeaseId(format!("{path}/{}", draft.entropy().base62(TAIL))),
        mount: mount.id,
        subject: Subject::Granted(grant.data),
        issued: draft.now(),
        expires: draft
            .now()
            .plus(grant.ttl.clamp(Duration::from_secs(1), ttl_max)),
        expires_max: Some(draft.now().plus(ttl_max)),
        renewed: None,
        renewable: grant.renewable,
        owner: match owner {
            Owner::Nobody => None,
            Owner::Token(token) => Some(token),
        },
        failing: None,
    };
    write(draft, &lease)?;
    Ok(lease.id)
}

/// Grants the lease of a token, which ends with the token.
pub fn grant_token(
    draft: &mut Draft<'_>,
    mount: &Mount,
    path: &str,
    token: TokenId,
    expires: UnixTime,
    renewable: bool,
) -> Result<LeaseId, Refusal> {
    let lease = Lease {
        id: LeaseId(format!("{path}/h{}", draft.entropy().base62(TAIL))),
        mount: mount.id,
        subject: Subject::Token(token),
        issued: draft.now(),
        expires,
        expires_max: None,
        renewed: None,
        renewable,
        owner: None,
        failing: None,
    };
    write(draft, &lease)?;
    Ok(lease.id)
}

/// Returns a lease, unless it is past its end.
pub fn find(draft: &mut Draft<'_>, id: &LeaseId) -> Result<Option<Lease>, Refusal> {
    let now = draft.now();
    let found: Option<Lease> = draft.load(&at(id))?;
    Ok(found.filter(|lease| now < lease.expires))
}

/// Returns a lease as it is stored, though it may be past its end.
pub fn stored(draft: &mut Draft<'_>, id: &LeaseId) -> Result<Option<Lease>, Refusal> {
    draft.load(&at(id))
}

/// Sets a lease to end `ttl` from now, though not after its longest life.
pub fn extend(draft: &mut Draft<'_>, id: &LeaseId, ttl: Duration) -> Result<Lease, Refusal> {
    let now = draft.now();
    let mut lease = find(draft, id)?.ok_or(Refusal::Absent)?;
    draft.delete(expiry(&lease));
    let wanted = now.plus(ttl.max(Duration::from_secs(1)));
    lease.expires = lease.expires_max.map_or(wanted, |max| wanted.min(max));
    lease.renewed = Some(now);
    write(draft, &lease)?;
    Ok(lease)
}

/// Sets the end of a token's lease.
pub fn move_end(draft: &mut Draft<'_>, id: &LeaseId, expires: UnixTime) -> Result<(), Refusal> {
    let now = draft.now();
    if let Some(mut lease) = find(draft, id)? {
        draft.delete(expiry(&lease));
        lease.expires = expires;
        lease.renewed = Some(now);
        write(draft, &lease)?;
    }
    Ok(())
}

/// Deletes a lease's rows; what it stood for stays.
pub fn forget(draft: &mut Draft<'_>, id: &LeaseId) -> Result<Option<Lease>, Refusal> {
    let Some(lease) = draft.load::<Lease>(&at(id))? else {
        return Ok(None);
    };
    erase(draft, &lease);
    Ok(Some(lease))
}

fn erase(draft: &mut Draft<'_>, lease: &Lease) {
    draft.delete(expiry(lease));
    if let Some(owner) = &lease.owner {
        draft.delete(owned(owner, &lease.id));
    }
    if lease.failing.is_some() {
        draft.delete(trouble(&lease.id));
    }
    draft.delete(at(&lease.id));
}

/// Ends a lease: what it stood for is undone, and its rows go. If the undo fails, the lease is good
/// for nothing from now on, and the undo is tried again, ever more rarely. Nothing happens if it is
/// gone.
pub fn revoke(draft: &mut Draft<'_>, world: World<'_>, id: &LeaseId) -> Result<Ended, Refusal> {
    let Some(lease) = draft.load::<Lease>(&at(id))? else {
        return Ok(Ended::Undone);
    };
    erase(draft, &lease);
    let granted = match &lease.subject {
        Subject::Token(token) => {
            tokens::revoke(draft, world, token)?;
            return Ok(Ended::Undone);
        }
        Subject::Granted(_) => draft.mark(),
    };
    match undo(draft, world, &lease) {
        Ok(()) => Ok(Ended::Undone),
        // It is not the undo that failed: the decision is made anew with what it asks for.
        Err(refusal @ Refusal::Needs(_)) => Err(refusal),
        Err(refusal) => {
            draft.return_to(granted);
            postpone(draft, lease, &refusal)?;
            Ok(Ended::Later)
        }
    }
}

/// Ends a lease whatever becomes of the undo: it is tried once more, and its rows go.
pub fn revoke_by_force(
    draft: &mut Draft<'_>,
    world: World<'_>,
    id: &LeaseId,
) -> Result<(), Refusal> {
    if revoke(draft, world, id)? == Ended::Later {
        forget(draft, id)?;
    }
    Ok(())
}

fn undo(draft: &mut Draft<'_>, world: World<'_>, lease: &Lease) -> Result<(), Refusal> {
    let mounts = draft.mounts()?;
    let Some(mount) = mounts.mounts.values().find(|mount| mount.id == lease.mount) else {
        // All that it stored went with it.
        return Ok(());
    };
    let engine = Arc::clone(world.registry.of(mount)?);
    let mut ctx = Context {
        draft,
        world,
        mount: Arc::clone(mount),
        caller: &Caller::Program,
        entity: None,
        bearer: None,
        peer: Peer::default(),
        path: lease.id.as_str(),
    };
    engine.revoke(&mut ctx, lease)
}

/// Keeps a lease whose undo failed, for another try.
fn postpone(draft: &mut Draft<'_>, mut lease: Lease, why: &Refusal) -> Result<(), Refusal> {
    let now = draft.now();
    let before = lease.failing.take();
    let attempts = before
        .as_ref()
        .map_or(0, |it| it.attempts)
        .saturating_add(1);
    let [dice] = draft.entropy().bytes();
    let mut error = why.to_string();
    while ERROR_BYTES_MAX < error.len() {
        error.pop();
    }
    lease.failing = Some(Failing {
        attempts,
        since: before.map_or(now, |it| it.since),
        next: now.plus(retry_after(attempts, dice)),
        error,
    });
    lease.expires = lease.expires.min(now);
    // Its owner's end would otherwise try it each time.
    lease.owner = None;
    write(draft, &lease)
}

/// Returns how long to wait after so many failures: doubled each time, half of it by chance, so that
/// what failed together is not tried together.
fn retry_after(attempts: u32, dice: u8) -> Duration {
    let doubled = 2u32.saturating_pow(attempts.saturating_sub(1));
    let whole = RETRY_FIRST.saturating_mul(doubled).min(RETRY_MAX);
    whole / 2 + whole * u32::from(dice) / 512
}

/// Returns up to `limit` leases whose undo has failed.
pub fn in_trouble(draft: &mut Draft<'_>, limit: usize) -> Result<Vec<Lease>, Refusal> {
    let mut found = Vec::new();
    let all = KeyRange::prefix(tables::LEASE_TROUBLE, "");
    for id in tail_ids(draft.keys(&all, limit)?, 0)? {
        if let Some(lease) = draft.load::<Lease>(&at(&id))? {
            found.push(lease);
        }
    }
    Ok(found)
}

/// Returns up to `limit` leases whose id begins with `prefix`, those after `after` if it is given.
pub fn with_prefix(
    draft: &mut Draft<'_>,
    prefix: &str,
    after: Option<&LeaseId>,
    limit: usize,
) -> Result<Vec<LeaseId>, Refusal> {
    let all = KeyRange::prefix(tables::LEASES, prefix);
    let range = after.map_or(all.clone(), |after| all.after(&at(after)));
    draft
        .keys(&range, limit)?
        .iter()
        .map(|key| {
            let text = String::from_utf8(key.rest().to_vec());
            text.map(LeaseId)
                .map_err(|error| Refusal::corrupt("lease id", error))
        })
        .collect()
}

/// Returns up to `limit` leases that are owned by a token.
pub fn owned_by(
    draft: &mut Draft<'_>,
    owner: &TokenId,
    limit: usize,
) -> Result<Vec<LeaseId>, Refusal> {
    let prefix = owner.as_bytes();
    let range = KeyRange::prefix(tables::LEASE_TOKENS, prefix);
    tail_ids(draft.keys(&range, limit)?, prefix.len())
}

/// A lease that is to end now: over, or to be tried again.
pub struct Due {
    /// Which.
    pub id: LeaseId,
    /// Its place in the order of ends.
    row: Key,
}

/// Returns up to `limit` leases that are to end now, earliest first.
pub fn due(draft: &mut Draft<'_>, limit: usize) -> Result<Vec<Due>, Refusal> {
    let end = (draft.now().as_millis() + 1).to_be_bytes();
    let range = KeyRange::between(tables::LEASE_EXPIRY, "", end);
    let rows = draft.keys(&range, limit)?;
    let ids = tail_ids(rows.clone(), 8)?;
    Ok(ids
        .into_iter()
        .zip(rows)
        .map(|(id, row)| Due { id, row })
        .collect())
}

/// Ends a lease that is due. Its place in the order goes in any case: one whose lease is gone would
/// be due for ever.
pub fn end_due(draft: &mut Draft<'_>, world: World<'_>, due: &Due) -> Result<Ended, Refusal> {
    draft.delete(due.row.clone());
    revoke(draft, world, &due.id)
}

/// Puts off a lease that cannot even be read, so that it does not hold up those after it.
pub fn put_off(draft: &mut Draft<'_>, due: &Due) -> Result<(), Refusal> {
    draft.delete(due.row.clone());
    let next = draft.now().plus(RETRY_MAX);
    draft.put(due_at(next, &due.id), Vec::new())
}

/// Returns when the next lease ends, if there is one.
pub fn next_due(draft: &mut Draft<'_>) -> Result<Option<UnixTime>, Refusal> {
    let first = draft.keys(&KeyRange::prefix(tables::LEASE_EXPIRY, ""), 1)?;
    Ok(first
        .first()
        .and_then(|key| key.rest().first_chunk::<8>().copied())
        .map(|due| UnixTime::from_millis(u64::from_be_bytes(due))))
}

fn tail_ids(keys: Vec<Key>, skip: usize) -> Result<Vec<LeaseId>, Refusal> {
    keys.iter()
        .map(|key| {
            let tail = key.rest().get(skip..).unwrap_or_default().to_vec();
            let text = String::from_utf8(tail);
            text.map(LeaseId)
                .map_err(|error| Refusal::corrupt("lease id", error))
        })
        .collect()
}

#[cfg(test)]
mod tests;
