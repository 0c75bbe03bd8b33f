//! Keys and seals: `seal`, `rekey`, `generate-root`, `rotate`, `key-status`. Who may is decided and
//! recorded here; whoever serves the request does it after that.

use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{EpochStatus, Key};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bare;
use crate::core::draft::Draft;
use crate::core::engine::{Call, Caller, Context};
use crate::core::fields::go_duration;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Asker, Reply, Step, StepKind, timestamp};
use crate::core::request::Operation::{self, Delete, Read, Update};
use crate::core::tables;
use crate::core::tokens::{self, NewToken};

/// Values that one epoch seals before the next begins: nine tenths of what AES-GCM bears with random
/// nonces (NIST SP 800-38D, 8.3: 2^32 for one key; here for all tables together, which have keys of
/// their own).
const OPERATIONS_MAX: u64 = 3_865_470_566;
/// Fewer are not to be asked for.
const OPERATIONS_MIN: u64 = 1_000_000;
/// Shortest time between two rotations that is to be asked for.
const INTERVAL_MIN: Duration = Duration::from_secs(24 * 3600);

/// Bytes of a root token that is made for holders of shares: as many as of Vault's, because clients
/// bring passwords of that length. 24 letters are 142 bits.
pub const ROOT_TOKEN_BYTES: usize = 28;

/// When the barrier's key is changed without anybody asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// After so many values.
    max_operations: u64,
    /// After so many seconds; 0: at no time.
    interval_secs: u64,
    /// Whether at all.
    enabled: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            max_operations: OPERATIONS_MAX,
            interval_secs: 0,
            enabled: true,
        }
    }
}

impl Rotation {
    fn at() -> Key {
        Key::new(tables::CORE, "rotation")
    }

    /// Reads what is set.
    pub fn load(draft: &mut Draft<'_>) -> Result<Self, Refusal> {
        Ok(draft.load(&Self::at())?.unwrap_or_default())
    }

    /// Returns whether it is time.
    pub fn is_due(&self, now: UnixTime, status: EpochStatus) -> bool {
        let is_old = self.interval_secs != 0
            && status.installed != UnixTime::EPOCH
            && Duration::from_secs(self.interval_secs) <= now.since(status.installed);
        self.enabled && (self.max_operations <= status.sealed || is_old)
    }
}

/// Returns which step of the gate a call is, if it is one.
fn step_of(operation: Operation, segments: &[&str]) -> Option<StepKind> {
    Some(match (operation, segments) {
        (Update, ["seal"]) => StepKind::Seal,
        (Update, ["rotate"] | ["rotate", "keyring"]) => StepKind::Rotate,
        (Read | Update | Delete, ["rekey", "init" | "verify"])
        | (Update, ["rekey", "update"])
        | (Read | Delete, ["rekey", "backup" | "recovery-key-backup"])
        | (Read | Update | Delete, ["rekey-recovery-key", "init" | "verify"])
        | (Update, ["rekey-recovery-key", "update"])
        | (Read | Update | Delete, ["rotate", "root" | "recovery", "init" | "verify"])
        | (Update, ["rotate", "root" | "recovery", "update"])
        | (Read | Delete, ["rotate", "root" | "recovery", "backup"]) => StepKind::Rekey,
        (Read | Update | Delete, ["generate-root", "attempt"])
        | (Read, ["generate-root"])
        | (Update, ["generate-root", "update"]) => StepKind::GenerateRoot,
        _ => return None,
    })
}

/// Whether Vault asks for no token here.
pub(super) fn is_public(call: &Call<'_>) -> bool {
    let segments = call.segments();
    matches!(
        &segments[..],
        ["rekey" | "rekey-recovery-key", "init" | "update" | "verify"]
            | ["generate-root"]
            | ["generate-root", "attempt" | "update"]
    )
}

/// Decides; `None`: the call is about something else.
pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    segments: &[&str],
) -> Result<Option<Answer>, Refusal> {
    if let Some(kind) = step_of(call.operation, segments) {
        let by = match ctx.caller {
            Caller::Nobody => Asker::Stranger,
            Caller::Token(_) | Caller::Machine(_) | Caller::Program => Asker::Trusted,
        };
        return Ok(Some(Reply::Step(Step { kind, by }).into()));
    }
    let answer = match (call.operation, segments) {
        (Read, ["key-status"]) => {
            let status = ctx.draft.source().barrier().epoch_status();
            let installed = match status.installed {
                UnixTime::EPOCH => ctx.world.server.started,
                at => at,
            };
            Answer::json(json!({
                "term": status.epoch,
                "install_time": timestamp(installed),
                "encryptions": status.sealed,
            }))
        }
        (Read, ["rotate", "config"]) => shown(&Rotation::load(ctx.draft)?),
        (Update, ["rotate", "config"]) => set(ctx, call)?,
        (Update, ["generate-root", "token"]) => root_token(ctx)?,
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

fn shown(rotation: &Rotation) -> Answer {
    let interval = match rotation.interval_secs {
        0 => json!(0),
        secs => json!(go_duration(Duration::from_secs(secs))),
    };
    Answer::json(json!({
        "max_operations": rotation.max_operations,
        "interval": interval,
        "enabled": rotation.enabled,
    }))
}

fn set(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut rotation = Rotation::load(ctx.draft)?;
    if let Some(operations) = fields.count("max_operations")? {
        if !(OPERATIONS_MIN..=OPERATIONS_MAX).contains(&operations) {
            return Err(Refusal::invalid(format!(
                "max_operations must be in range [{OPERATIONS_MIN}, {OPERATIONS_MAX}]"
            )));
        }
        rotation.max_operations = operations;
    }
    if let Some(interval) = fields.duration("interval")? {
        if !interval.is_zero() && interval < INTERVAL_MIN {
            return Err(Refusal::invalid("interval must be 0, or at least 24 hours"));
        }
        rotation.interval_secs = interval.as_secs();
    }
    if let Some(enabled) = fields.flag("enabled")? {
        rotation.enabled = enabled;
    }
    ctx.draft.save(Rotation::at(), &rotation)?;
    Ok(Answer::done())
}

/// Makes a root token for those who have shown enough shares. The gate alone asks for it.
fn root_token(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    if !matches!(ctx.caller, Caller::Program) {
        return Err(Refusal::UnsupportedPath);
    }
    let mounts = ctx.draft.mounts()?;
    let mount = mounts
        .at("auth/token/")
        .ok_or_else(|| Refusal::NoMount("auth/token/".to_owned()))?;
    let letters = ctx.draft.entropy().base62(ROOT_TOKEN_BYTES - "hvs.".len());
    let text = Secret::new(format!("hvs.{letters}"));
    let new = NewToken {
        policies: vec!["root".to_owned()],
        path: "auth/token/root".to_owned(),
        display_name: "root".to_owned(),
        eternal: true,
        text: Some(text),
        no_default_policy: true,
        ..NewToken::default()
    };
    let (text, _) = tokens::create(ctx.draft, mount, new)?;
    Ok(bare(json!({ "token": text.expose() })))
}

#[cfg(test)]
mod tests;
