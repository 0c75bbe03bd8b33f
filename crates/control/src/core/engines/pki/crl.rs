//! Revocation lists: made beside requests, when something is due.
//!
//! A revocation only leaves a new random mark with its group. A list remembers the mark that stood when
//! it was made: if another stands now, it is old. Making one reads the revocations without comparing
//! them at the commit, because they are those of one moment and any later one leaves another mark; so a
//! storm of revocations cannot keep a list from being made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::{CrlTemplate, RevokedEntry, sign_crl};
use bastide_store::KeyRange;
use data_encoding::HEXLOWER;
use serde_json::json;

use super::Pki;
use super::memo::Issuer;
use super::stored::{self, Config, CrlState, Revocation, Usage};
use crate::core::engine::Context;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::tables;

/// Most certificates that a list names.
pub const ENTRIES_MAX: usize = 100_000;
/// Bytes of one stored part of a list.
const PART_BYTES: usize = 512 * 1024;
/// A list of more than this many is made at most every [`LARGE_EVERY`].
const LARGE: usize = 1000;
/// How often a large list is made, whatever is revoked meanwhile.
const LARGE_EVERY: Duration = Duration::from_secs(10);
/// How far before a whole list's making a delta reaches back: longer than a decision waits for its
/// commit. Naming a certificate twice does no harm.
const DELTA_REACH: Duration = Duration::from_secs(600);

/// Which list of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All that are revoked.
    Whole,
    /// Those since the last whole one.
    Delta,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Delta => "delta",
        }
    }
}

impl Pki {
    /// Writes that a certificate is revoked, and marks its group.
    pub(super) fn note_revoked(
        ctx: &mut Context<'_, '_>,
        group: &str,
        serial: &[u8],
        at: UnixTime,
        expires: UnixTime,
    ) -> Result<(), Refusal> {
        let place = format!("rev/{group}/{}", super::shown::digits(serial));
        ctx.save(&place, &Revocation { at, expires })?;
        Self::mark(ctx, group)
    }

    /// Marks a group: its lists are old.
    pub(super) fn mark(ctx: &mut Context<'_, '_>, group: &str) -> Result<(), Refusal> {
        let mark: [u8; 16] = ctx.entropy().bytes();
        ctx.put(&format!("dirty/{group}"), mark.to_vec())
    }

    /// Marks all groups.
    pub(super) fn mark_all(ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        groups(ctx)?
            .iter()
            .try_for_each(|group| Self::mark(ctx, group))
    }

    /// Makes the first list of a group, if it has none and can have one.
    pub(super) fn first_list(&self, ctx: &mut Context<'_, '_>, group: &str) -> Result<(), Refusal> {
        if ctx.get(&format!("crl/{group}"))?.is_none()
            && let Some(issuer) = self.list_signer(ctx, group)?
        {
            self.build(ctx, &issuer, Kind::Whole)?;
        }
        Ok(())
    }

    /// Returns the issuer that signs a group's lists.
    fn list_signer(
        &self,
        ctx: &mut Context<'_, '_>,
        group: &str,
    ) -> Result<Option<Arc<Issuer>>, Refusal> {
        let index = stored::index(ctx)?;
        for entry in &index.issuers {
            if entry.group != group || entry.key.is_empty() {
                continue;
            }
            if let Some(issuer) = self.memory.issuer_of(ctx, &entry.id)?
                && issuer.key.is_some()
                && issuer.stored.usage.has(Usage::CRL)
            {
                return Ok(Some(issuer));
            }
        }
        Ok(None)
    }

    /// Makes a list.
    fn build(&self, ctx: &mut Context<'_, '_>, issuer: &Issuer, kind: Kind) -> Result<(), Refusal> {
        let config = self.memory.config(ctx)?;
        let group = issuer.stored.group.as_str();
        let mut state: CrlState = ctx.load(&format!("crl/{group}"))?.unwrap_or_default();
        let mark = peek_mark(ctx, group)?;
        let built = UnixTime::from_millis(state.built);
        let since = match kind {
            Kind::Whole => UnixTime::EPOCH,
            Kind::Delta => {
                UnixTime::EPOCH.plus(built.since(UnixTime::EPOCH).saturating_sub(DELTA_REACH))
            }
        };
        let revoked = if config.crl.disable {
            Vec::new()
        } else {
            revoked(ctx, group, since)?
        };
        let (Some(key), Some(scheme)) = (&issuer.key, issuer.revocation_scheme) else {
            return Ok(());
        };
        let now = ctx.now();
        let ends = now.plus(Duration::from_secs(config.crl.expiry));
        let urls = issuer.urls(&config);
        state.number += 1;
        let template = CrlTemplate {
            issuer: &issuer.certificate.subject,
            key_id: &issuer.certificate.key_id,
            number: state.number,
            base: (kind == Kind::Delta).then_some(state.base),
            delta_points: if config.crl.enable_delta {
                &urls.delta_crl_distribution_points
            } else {
                &[]
            },
            this_update: now,
            next_update: ends,
            revoked: &revoked,
        };
        let der = sign_crl(&template, key, scheme)
            .map_err(|_| Refusal::Internal("revocation list could not be signed".to_owned()))?;
        let parts = der.chunks(PART_BYTES).count();
        let before = match kind {
            Kind::Whole => state.parts,
            Kind::Delta => state.delta_parts,
        };
        for (number, part) in der.chunks(PART_BYTES).enumerate() {
            let place = format!("list/{group}/{}/{number}", kind.word());
            ctx.put(&place, part.to_vec())?;
        }
        for number in parts..before {
            ctx.delete(&format!("list/{group}/{}/{number}", kind.word()));
        }
        match kind {
            Kind::Whole => {
                state.base = state.number;
                state.covers.clone_from(&mark);
                state.delta_covers = mark;
                state.built = now.as_millis();
                state.delta_built = now.as_millis();
                state.ends = ends.as_millis();
                state.entries = revoked.len();
                state.parts = parts;
            }
            Kind::Delta => {
                state.delta_covers = mark;
                state.delta_built = now.as_millis();
                state.delta_parts = parts;
            }
        }
        ctx.save(&format!("crl/{group}"), &state)
    }

    /// Makes the lists that are due.
    pub(super) fn tend_lists(&self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        let config = self.memory.config(ctx)?;
        for group in groups(ctx)? {
            let state: Option<CrlState> = ctx.load(&format!("crl/{group}"))?;
            let mark = peek_mark(ctx, &group)?;
            let Some(kind) = due(&config, state.as_ref(), &mark, ctx.now()) else {
                continue;
            };
            if let Some(issuer) = self.list_signer(ctx, &group)? {
                self.build(ctx, &issuer, kind)?;
            }
        }
        Ok(())
    }

    /// `crl/rotate`, `crl/rotate-delta`: all lists, now.
    pub(super) fn rotate(&self, ctx: &mut Context<'_, '_>, kind: Kind) -> Result<Answer, Refusal> {
        let config = self.memory.config(ctx)?;
        if kind == Kind::Delta && !config.crl.enable_delta {
            return Err(Refusal::invalid(
                "delta CRLs are not enabled: set `enable_delta` and `auto_rebuild` in `config/crl`",
            ));
        }
        for group in groups(ctx)? {
            if let Some(issuer) = self.list_signer(ctx, &group)? {
                self.build(ctx, &issuer, kind)?;
            }
        }
        Ok(Answer::json(json!({ "success": true })))
    }

    /// Returns a list in DER; empty if there is none.
    pub(super) fn list(
        ctx: &mut Context<'_, '_>,
        group: &str,
        kind: Kind,
    ) -> Result<Vec<u8>, Refusal> {
        let Some(state) = ctx.load::<CrlState>(&format!("crl/{group}"))? else {
            return Ok(Vec::new());
        };
        let parts = match kind {
            Kind::Whole => state.parts,
            Kind::Delta => state.delta_parts,
        };
        let mut der = Vec::new();
        for number in 0..parts {
            let part = ctx.get(&format!("list/{group}/{}/{number}", kind.word()))?;
            let part = part.ok_or_else(|| Refusal::corrupt("list", "a part is missing"))?;
            der.extend_from_slice(part.expose());
        }
        Ok(der)
    }
}

/// Returns which list of a group is to be made now.
fn due(config: &Config, state: Option<&CrlState>, mark: &str, now: UnixTime) -> Option<Kind> {
    let Some(state) = state else {
        return Some(Kind::Whole);
    };
    let crl = &config.crl;
    let age = now.since(UnixTime::from_millis(state.built));
    let left = UnixTime::from_millis(state.ends).since(now);
    if !crl.auto_rebuild {
        let is_old = state.covers != mark;
        let may = state.entries < LARGE || LARGE_EVERY <= age;
        // A list must not end because nobody was revoked: at half of its life it is made anew.
        let is_half = Duration::from_secs(crl.expiry) / 2 <= age || left < age;
        return ((is_old && may) || is_half).then_some(Kind::Whole);
    }
    if left <= Duration::from_secs(crl.auto_rebuild_grace_period) {
        return Some(Kind::Whole);
    }
    let delta_age = now.since(UnixTime::from_millis(state.delta_built));
    let is_time = Duration::from_secs(crl.delta_rebuild_interval) <= delta_age;
    (crl.enable_delta && state.delta_covers != mark && is_time).then_some(Kind::Delta)
}

/// Returns the groups that have a key here.
fn groups(ctx: &mut Context<'_, '_>) -> Result<BTreeSet<String>, Refusal> {
    let index = stored::index(ctx)?;
    let with_key = index.issuers.into_iter().filter(|it| !it.key.is_empty());
    Ok(with_key.map(|issuer| issuer.group).collect())
}

/// Returns a group's mark, without comparing it at the commit.
fn peek_mark(ctx: &Context<'_, '_>, group: &str) -> Result<String, Refusal> {
    let key = ctx.key(&format!("dirty/{group}"));
    let mark = ctx.draft.source().get(&key)?;
    Ok(mark.map_or_else(String::new, |mark| HEXLOWER.encode(mark.expose())))
}

/// Returns what is revoked in a group since a time, without comparing it at the commit.
fn revoked(
    ctx: &Context<'_, '_>,
    group: &str,
    since: UnixTime,
) -> Result<Vec<RevokedEntry>, Refusal> {
    let prefix = [&ctx.mount.id.0, format!("rev/{group}/").as_bytes()].concat();
    let range = KeyRange::prefix(tables::ENGINE, &prefix);
    let found = ctx.draft.source().range(&range, ENTRIES_MAX + 1)?;
    if ENTRIES_MAX < found.len() {
        return Err(Refusal::invalid(format!(
            "more than {ENTRIES_MAX} certificates are revoked: clean up with `tidy` \
             (tidy_revoked_certs), and prefer short lives and OCSP"
        )));
    }
    let mut revoked = Vec::with_capacity(found.len());
    for (key, text) in found {
        let revocation: Revocation = serde_json::from_slice(text.expose())
            .map_err(|error| Refusal::corrupt("revocation", error))?;
        if revocation.at < since {
            continue;
        }
        let serial = HEXLOWER
            .decode(&key.rest()[prefix.len()..])
            .map_err(|error| Refusal::corrupt("revocation", error))?;
        revoked.push(RevokedEntry {
            serial,
            at: revocation.at,
        });
    }
    Ok(revoked)
}
