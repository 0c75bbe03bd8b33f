//! How tokens end: with the one write that deletes an entry its whole tree is void; what hung on it is
//! swept in small pieces.

use bastide_store::{Key, KeyRange};

use crate::core::draft::Draft;
use crate::core::engine::World;
use crate::core::leases;
use crate::core::refusal::Refusal;
use crate::core::tables;
use crate::core::tokens::{Token, TokenId, at, child, save};
use crate::core::wrapping;

/// Children and leases that one decision ends with a token; the rest is swept later.
pub(super) const SWEEP_MAX: usize = 256;

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
        if wrapping::is_wrapping(&token) {
            draft.delete(wrapping::at(id));
        }
        draft.put(Key::new(tables::SWEEP, id.as_bytes()), Vec::new())?;
    }
    Ok(())
}

/// Ends what hangs on revoked tokens, in small pieces. Returns whether there is more to do, and what is
/// wrong with one of them that cannot be ended: the others are all the same.
pub fn sweep(draft: &mut Draft<'_>, world: World<'_>) -> Result<(bool, Option<Refusal>), Refusal> {
    let mut budget = SWEEP_MAX;
    let range = KeyRange::prefix(tables::SWEEP, "");
    let (mut stuck, mut damaged) = (0, None);
    for key in draft.keys(&range, SWEEP_MAX)? {
        let mark = draft.mark();
        let id = key.rest().try_into().map(TokenId);
        let id = id.map_err(|_| Refusal::corrupt("sweep", "its length"));
        let swept = id.and_then(|id| sweep_one(draft, world, &id, &mut budget));
        if let Err(refusal) = swept {
            draft.return_to(mark);
            stuck += 1;
            damaged = Some(refusal);
        }
        if budget == 0 {
            return Ok((true, damaged));
        }
    }
    Ok((stuck < draft.keys(&range, stuck + 1)?.len(), damaged))
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
