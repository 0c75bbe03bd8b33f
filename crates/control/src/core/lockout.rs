//! When a name is locked, and for how long: asked before any password is hashed.
//!
//! An auth method calls [`admit`] with the folded name before it looks at what came with it, and
//! [`failed`] or [`succeeded`] after. A decision that waited for a hash is made anew and asks again, so
//! that what was in flight when a lock came is refused by it, right or wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::engine::Context;
use crate::core::facts::Observation;
use crate::core::facts::lockouts::Who;
use crate::core::fields::Fields;
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;

/// Kinds of auth methods whose names are locked where nothing is said, as in Vault. What people choose
/// can be guessed, and so can a secret id that somebody chose for a role; the name of a role is its id,
/// which strangers do not know.
const KINDS: &[&str] = &["approle", "ldap", "userpass"];
/// What holds where nothing is said, as in Vault.
const DEFAULT: Rule = Rule {
    threshold: 5,
    duration: Duration::from_secs(15 * 60),
    reset: Duration::from_secs(15 * 60),
};
/// Highest threshold, and longest time in seconds.
const THRESHOLD_MAX: u64 = 1_000_000;
const SECS_MAX: u64 = 365 * 24 * 3600;

/// How many wrong passwords lock a name, for how long, and after how long without one they are
/// forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How many; not zero.
    pub threshold: u32,
    /// For how long a lock lasts; not zero.
    pub duration: Duration,
    /// After how long the count begins anew; not zero.
    pub reset: Duration,
}

/// What is said of a rule; what is not said is what stands above it: of a mount, of a kind of auth
/// methods, of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many wrong passwords.
    #[serde(default)]
    pub threshold: Option<u32>,
    /// For how long, in seconds.
    #[serde(default)]
    pub duration: Option<u64>,
    /// After how long the count begins anew, in seconds.
    #[serde(default)]
    pub reset: Option<u64>,
    /// Whether names are never locked.
    #[serde(default)]
    pub disabled: Option<bool>,
}

/// What the configuration says, by kind of auth methods or `all`.
pub type Configured = BTreeMap<String, Settings>;

impl Settings {
    /// Takes over what is given, under the names that requests and configuration files use.
    pub fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        let secs = |name: &'static str| -> Result<Option<u64>, Refusal> {
            match fields.duration(name)?.map(|it| it.as_secs()) {
                Some(secs) if secs == 0 || SECS_MAX < secs => Err(Refusal::invalid(format!(
                    "{name} is not between one second and {SECS_MAX} seconds"
                ))),
                secs => Ok(secs),
            }
        };
        if let Some(threshold) = fields.count("lockout_threshold")? {
            let fits = (1..=THRESHOLD_MAX).contains(&threshold);
            let threshold = u32::try_from(threshold).ok().filter(|_| fits);
            self.threshold = Some(threshold.ok_or_else(|| {
                Refusal::invalid(format!(
                    "lockout_threshold is not between 1 and {THRESHOLD_MAX}"
                ))
            })?);
        }
        if let Some(secs) = secs("lockout_duration")? {
            self.duration = Some(secs);
        }
        for name in ["lockout_counter_reset_duration", "lockout_counter_reset"] {
            if let Some(secs) = secs(name)? {
                self.reset = Some(secs);
            }
        }
        for name in ["lockout_disable", "disable_lockout"] {
            if let Some(flag) = fields.flag(name)? {
                self.disabled = Some(flag);
            }
        }
        Ok(())
    }

    /// Returns the settings as a mount's tuning shows them.
    pub fn shown(self) -> Value {
        json!({
            "lockout_threshold": self.threshold.unwrap_or(0),
            "lockout_duration": self.duration.unwrap_or(0),
            "lockout_counter_reset_duration": self.reset.unwrap_or(0),
            "lockout_disable": self.disabled.unwrap_or(false),
        })
    }
}

/// Returns the rule of a mount; `None` if its names are never locked.
pub fn rule(mount: &Mount, configured: &Configured) -> Option<Rule> {
    let of_kind = configured.get(mount.kind.as_str());
    // A kind that is not locked by itself is locked where its own settings say anything.
    if !KINDS.contains(&mount.kind.as_str())
        && mount.config.user_lockout.is_none()
        && of_kind.is_none()
    {
        return None;
    }
    let said = [
        mount.config.user_lockout.as_ref(),
        of_kind,
        configured.get("all"),
    ];
    let said = || said.into_iter().flatten();
    if said().find_map(|it| it.disabled) == Some(true) {
        return None;
    }
    let secs = |of: fn(&Settings) -> Option<u64>, default: Duration| {
        said().find_map(of).map_or(default, Duration::from_secs)
    };
    Some(Rule {
        threshold: said()
            .find_map(|it| it.threshold)
            .unwrap_or(DEFAULT.threshold),
        duration: secs(|it| it.duration, DEFAULT.duration),
        reset: secs(|it| it.reset, DEFAULT.reset),
    })
}

fn who(ctx: &Context<'_, '_>, name: &str) -> Who {
    Who {
        accessor: ctx.mount.accessor.clone(),
        name: name.to_owned(),
    }
}

/// Refuses a name that is locked. `name` is folded, as it is stored.
pub fn admit(ctx: &Context<'_, '_>, name: &str) -> Result<(), Refusal> {
    let locked = || ctx.facts().lockouts.is_locked(ctx.now(), &who(ctx, name));
    if rule(&ctx.mount, &ctx.world.server.lockouts).is_some() && locked() {
        return Err(Refusal::Locked);
    }
    Ok(())
}

/// Notes that what came with a name was wrong, whether there is such a name or not.
pub fn failed(ctx: &mut Context<'_, '_>, name: &str) {
    if let Some(rule) = rule(&ctx.mount, &ctx.world.server.lockouts) {
        let who = who(ctx, name);
        ctx.observe(Observation::WrongPassword(who, rule));
    }
}

/// Notes that what came with a name was right.
pub fn succeeded(ctx: &mut Context<'_, '_>, name: &str) {
    let who = who(ctx, name);
    if ctx.facts().lockouts.knows(&who) {
        ctx.observe(Observation::Unlocked(who));
    }
}

#[cfg(test)]
mod tests;
