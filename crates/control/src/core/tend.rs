//! What time does to the control plane: leases end, and what hung on revoked things is swept.

use std::sync::Arc;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Batch, KeyRange, OpenSnapshot};

use crate::core::draft::Draft;
use crate::core::engine::{Caller, Context, World};
use crate::core::entropy::Entropy;
use crate::core::facts::Observation;
use crate::core::idempotency;
use crate::core::leases::{self, LeaseId};
use crate::core::refusal::Refusal;
use crate::core::request::Peer;
use crate::core::tables;
use crate::core::tokens;

/// What a pass has done.
pub struct Tended {
    /// What is to be committed.
    pub batch: Batch,
    /// What was observed.
    pub observations: Vec<Observation>,
    /// Whether there is more to do at once.
    pub more: bool,
    /// The mounts whose own upkeep failed, and why: nothing of it is in the batch.
    pub failed: Vec<(String, Refusal)>,
}

/// Ends what is due and sweeps what hangs on revoked tokens, in small pieces.
pub fn tend(
    world: World<'_>,
    snapshot: &OpenSnapshot,
    now: UnixTime,
    seed: &Secret<[u8; 32]>,
    limit: usize,
) -> Result<Tended, Refusal> {
    let mut draft = Draft::new(snapshot, now, Entropy::new(seed), &[]);
    draft.know_ttls(world.server.ttls);
    let due = leases::due(&mut draft, limit)?;
    for lease in &due {
        let mark = draft.mark();
        if leases::end_due(&mut draft, world, lease).is_err() {
            // One that is damaged must not keep all others alive.
            draft.return_to(mark);
            leases::put_off(&mut draft, lease)?;
        }
    }
    let (more, damaged) = tokens::sweep(&mut draft, world)?;
    let more = more || due.len() == limit;
    let more = clear_graves(&mut draft, world, limit)? || more;
    let more = idempotency::forget(&mut draft, limit)? || more;
    let (has_more, mut failed) = tend_mounts(&mut draft, world)?;
    failed.extend(damaged.map(|refusal| ("auth/token/".to_owned(), refusal)));
    let (batch, observations) = draft.finish();
    Ok(Tended {
        batch,
        observations,
        more: more || has_more,
        failed,
    })
}

/// Lets the engines do what is due at their mounts. One that fails keeps no other from its turn.
fn tend_mounts(
    draft: &mut Draft<'_>,
    world: World<'_>,
) -> Result<(bool, Vec<(String, Refusal)>), Refusal> {
    let mounts = draft.mounts()?;
    let (mut more, mut failed) = (false, Vec::new());
    for mount in mounts.mounts.values() {
        let Ok(engine) = world.registry.of(mount) else {
            continue;
        };
        if !engine.tends() {
            continue;
        }
        let mark = draft.mark();
        let mut ctx = Context {
            draft,
            world,
            mount: Arc::clone(mount),
            caller: &Caller::Program,
            bearer: None,
            entity: None,
            peer: Peer::default(),
            path: "",
        };
        match engine.tend(&mut ctx) {
            Ok(is_more) => more |= is_more,
            Err(refusal) => {
                draft.return_to(mark);
                failed.push((mount.path.to_string(), refusal));
            }
        }
    }
    Ok((more, failed))
}

/// Leases of a prefix that are revoked and not yet all swept.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct LeaseGrave {
    /// Leases granted later live.
    pub until: UnixTime,
    /// Whether they go even if what they stood for cannot be undone.
    #[serde(default)]
    pub force: bool,
    /// Those up to this one are swept.
    pub after: Option<LeaseId>,
}

/// Ends a lease below a prefix that was revoked, unless it was granted later.
fn end_below(
    draft: &mut Draft<'_>,
    world: World<'_>,
    id: &LeaseId,
    grave: &LeaseGrave,
) -> Result<(), Refusal> {
    let lease = leases::stored(draft, id)?;
    if lease.is_none_or(|lease| grave.until < lease.issued) {
        return Ok(());
    }
    if grave.force {
        leases::revoke_by_force(draft, world, id)
    } else {
        leases::revoke(draft, world, id).map(drop)
    }
}

/// Clears the storage of removed mounts and the leases of revoked prefixes. Returns whether there is
/// more to do.
fn clear_graves(draft: &mut Draft<'_>, world: World<'_>, limit: usize) -> Result<bool, Refusal> {
    let mut budget = limit;
    for at in draft.keys(&KeyRange::prefix(tables::LEASE_GRAVES, ""), limit)? {
        let prefix = String::from_utf8_lossy(at.rest()).into_owned();
        let Some(mut grave) = draft.load::<LeaseGrave>(&at)? else {
            continue;
        };
        let found = leases::with_prefix(draft, &prefix, grave.after.as_ref(), budget)?;
        for id in &found {
            let mark = draft.mark();
            if end_below(draft, world, id, &grave).is_err() {
                // As above: its own end comes, and is tried again.
                draft.return_to(mark);
            }
        }
        budget -= found.len();
        if budget == 0 {
            grave.after = found.into_iter().next_back();
            draft.save(at, &grave)?;
            return Ok(true);
        }
        draft.delete(at);
    }
    for grave in draft.keys(&KeyRange::prefix(tables::GRAVES, ""), limit)? {
        let found = draft.keys(&KeyRange::prefix(tables::ENGINE, grave.rest()), budget)?;
        budget -= found.len();
        for key in found {
            draft.delete(key);
        }
        if budget == 0 {
            return Ok(true);
        }
        draft.delete(grave);
    }
    Ok(false)
}
