//! Cleaning: what has ended and been ended for long is dropped, in small pieces, beside requests.

use std::collections::BTreeSet;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::Certificate;
use bastide_store::{Key, KeyRange};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Pki;
use super::config::{shown_tidy, take_tidy};
use super::stored::{self, Revocation, StoredCert, TidyWhat};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, timestamp};
use crate::core::tables;

/// Entries that one pass looks at.
const PIECE: usize = 500;

/// What is being cleaned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Certificates,
    Revocations,
    Issuers,
}

/// The state of the cleaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TidyState {
    /// Vault's word: `Inactive`, `Running`, `Finished`, `Cancelled`.
    state: String,
    what: TidyWhat,
    started: u64,
    finished: u64,
    certificates: u64,
    revocations: u64,
    phase: Phase,
    /// The last entry that was looked at.
    cursor: String,
}

const RUNNING: &str = "Running";

/// What a pass of cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaned {
    /// There was nothing to clean.
    Nothing,
    /// A piece, and there is more.
    Piece,
    /// The last piece.
    Last,
}

impl Pki {
    /// `tidy`.
    pub(super) fn tidy(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        let mut what = TidyWhat::default();
        take_tidy(call.fields(), &mut what)?;
        let accepted = || Answer::from(Reply::Accepted);
        let state: TidyState = ctx.load("tidy")?.unwrap_or_default();
        if state.state == RUNNING {
            return Ok(accepted().warn("Tidy operation already in progress."));
        }
        if what
            == (TidyWhat {
                safety_buffer: what.safety_buffer,
                issuer_safety_buffer: what.issuer_safety_buffer,
                ..TidyWhat::default()
            })
        {
            return Ok(accepted().warn(
                "Manual tidy requested but no tidy operations were set. Enable at least one tidy \
                 operation to be run.",
            ));
        }
        Self::start_tidy(ctx, what)?;
        Ok(accepted()
            .warn("Tidy operation successfully started. Its progress is shown by tidy-status."))
    }

    fn start_tidy(ctx: &mut Context<'_, '_>, what: TidyWhat) -> Result<(), Refusal> {
        let state = TidyState {
            state: RUNNING.to_owned(),
            what,
            started: ctx.now().as_millis(),
            ..TidyState::default()
        };
        ctx.save("tidy", &state)
    }

    /// `tidy-status`, `tidy-cancel`.
    pub(super) fn tidy_status(ctx: &mut Context<'_, '_>, cancel: bool) -> Result<Answer, Refusal> {
        let mut state: TidyState = ctx.load("tidy")?.unwrap_or_default();
        let mut warning = None;
        if cancel {
            if state.state == RUNNING {
                "Cancelled".clone_into(&mut state.state);
                state.finished = ctx.now().as_millis();
                ctx.save("tidy", &state)?;
            } else {
                warning = Some("Tidy operation cannot be cancelled as none is currently running.");
            }
        }
        let when = |millis: u64| match millis {
            0 => Value::Null,
            millis => timestamp(UnixTime::from_millis(millis)).into(),
        };
        let mut shown = shown_tidy(&state.what);
        let word = match state.state.as_str() {
            "" => "Inactive",
            word => word,
        };
        for (name, value) in [
            ("state", json!(word)),
            ("error", Value::Null),
            ("time_started", when(state.started)),
            ("time_finished", when(state.finished)),
            ("cert_store_deleted_count", json!(state.certificates)),
            ("revoked_cert_deleted_count", json!(state.revocations)),
            ("missing_issuer_cert_count", json!(0)),
            ("message", json!("")),
            ("pause_duration", json!("0s")),
            ("tidy_acme", json!(false)),
            ("tidy_move_legacy_ca_bundle", json!(false)),
        ] {
            shown.insert(name.to_owned(), value);
        }
        Ok(Answer::data(shown).warned(warning))
    }

    /// Cleans one piece, if there is something to clean.
    pub(super) fn tend_tidy(&self, ctx: &mut Context<'_, '_>) -> Result<Cleaned, Refusal> {
        let state: Option<TidyState> = ctx.load("tidy")?;
        let config = self.memory.config(ctx)?;
        let Some(mut state) = state.filter(|state| state.state == RUNNING) else {
            let auto = &config.auto_tidy;
            if auto.enabled {
                let last: TidyState = ctx.load("tidy")?.unwrap_or_default();
                let since = ctx.now().since(UnixTime::from_millis(last.started));
                if Duration::from_secs(auto.interval_duration) <= since {
                    Self::start_tidy(ctx, auto.what.clone())?;
                    return Ok(Cleaned::Piece);
                }
            }
            return Ok(Cleaned::Nothing);
        };
        let is_done = match state.phase {
            Phase::Certificates => Self::tidy_certificates(ctx, &mut state)?,
            Phase::Revocations => Self::tidy_revocations(ctx, &mut state)?,
            Phase::Issuers => {
                Self::tidy_issuers(ctx, &state)?;
                "Finished".clone_into(&mut state.state);
                state.finished = ctx.now().as_millis();
                ctx.save("tidy", &state)?;
                return Ok(Cleaned::Last);
            }
        };
        if is_done {
            state.cursor.clear();
            state.phase = match state.phase {
                Phase::Certificates => Phase::Revocations,
                Phase::Revocations | Phase::Issuers => Phase::Issuers,
            };
        }
        ctx.save("tidy", &state)?;
        Ok(Cleaned::Piece)
    }

    fn tidy_certificates(
        ctx: &mut Context<'_, '_>,
        state: &mut TidyState,
    ) -> Result<bool, Refusal> {
        if !state.what.tidy_cert_store {
            return Ok(true);
        }
        let limit = Self::before(ctx, state.what.safety_buffer);
        let found = piece(ctx, "cert/", &state.cursor)?;
        for (at, text) in &found {
            let cert: StoredCert = serde_json::from_slice(text)
                .map_err(|error| Refusal::corrupt("certificate", error))?;
            if cert.expires < limit {
                ctx.delete(&format!("cert/{at}"));
                state.certificates += 1;
            }
        }
        Ok(next(state, found))
    }

    /// Drops revocations of certificates that have ended: never of one that is still good, however long
    /// ago it was revoked (CVE-2021-27668).
    fn tidy_revocations(ctx: &mut Context<'_, '_>, state: &mut TidyState) -> Result<bool, Refusal> {
        if !state.what.tidy_revoked_certs {
            return Ok(true);
        }
        let limit = Self::before(ctx, state.what.safety_buffer);
        let found = piece(ctx, "rev/", &state.cursor)?;
        let mut groups = BTreeSet::new();
        for (at, text) in &found {
            let revocation: Revocation = serde_json::from_slice(text)
                .map_err(|error| Refusal::corrupt("revocation", error))?;
            if revocation.expires < limit {
                ctx.delete(&format!("rev/{at}"));
                state.revocations += 1;
                if let Some((group, digits)) = at.split_once('/') {
                    groups.insert(group.to_owned());
                    ctx.delete(&format!("cert/{digits}"));
                }
            }
        }
        for group in groups {
            Self::mark(ctx, &group)?;
        }
        Ok(next(state, found))
    }

    fn tidy_issuers(ctx: &mut Context<'_, '_>, state: &TidyState) -> Result<(), Refusal> {
        if !state.what.tidy_expired_issuers {
            return Ok(());
        }
        let limit = Self::before(ctx, state.what.issuer_safety_buffer);
        let default = stored::config(ctx)?.default_issuer;
        for entry in stored::index(ctx)?.issuers {
            let issuer = stored::issuer(ctx, &entry.id)?;
            let certificate = Certificate::parse(&issuer.certificate.0)
                .map_err(|error| Refusal::corrupt("issuer", error))?;
            if certificate.not_after < limit && entry.id != default {
                Self::delete_issuer(ctx, &entry.id)?;
            }
        }
        Ok(())
    }

    fn before(ctx: &Context<'_, '_>, buffer: u64) -> UnixTime {
        let now = ctx.now().since(UnixTime::EPOCH);
        UnixTime::EPOCH.plus(now.saturating_sub(Duration::from_secs(buffer)))
    }
}

/// Returns the next entries below `prefix`, without comparing them at the commit: nothing that has ended
/// begins again.
fn piece(
    ctx: &Context<'_, '_>,
    prefix: &str,
    cursor: &str,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let start = [&ctx.mount.id.0, prefix.as_bytes()].concat();
    let mut range = KeyRange::prefix(tables::ENGINE, &start);
    if !cursor.is_empty() {
        let last = Key::new(tables::ENGINE, [&start, cursor.as_bytes()].concat());
        range = range.after(&last);
    }
    let found = ctx.draft.source().range(&range, PIECE)?;
    found
        .into_iter()
        .map(|(key, text)| {
            let at = String::from_utf8(key.rest()[start.len()..].to_vec())
                .map_err(|error| Refusal::corrupt("key", error))?;
            Ok((at, text.expose().clone()))
        })
        .collect()
}

/// Notes how far the cleaning came; returns whether it came to the end.
fn next(state: &mut TidyState, found: Vec<(String, Vec<u8>)>) -> bool {
    let is_done = found.len() < PIECE;
    if let Some((at, _)) = found.into_iter().next_back() {
        state.cursor = at;
    }
    is_done
}
