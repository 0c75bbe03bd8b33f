//! Roles of auth methods: their names, where they are found, and the `token_*` fields that each has.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::cidrs;
use crate::core::engine::Context;
use crate::core::fields::Fields;
use crate::core::mounts::Mount;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login};
use crate::core::token_type::TokenType;
use crate::core::tokens::{self, Token};

/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most policies of a role.
const POLICIES_MAX: usize = 256;

/// Returns the one form of a role's name: lower case, letters, digits and `-_.@+`; `None` if it is not
/// one.
pub fn name(text: &str) -> Option<String> {
    let name = text.to_lowercase();
    let plain = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain);
    is_name.then_some(name)
}

/// Returns the one form of the name of a role that is to be written.
pub fn name_to_write(text: &str) -> Result<String, Refusal> {
    name(text).ok_or_else(|| Refusal::invalid("role name is not valid"))
}

/// Returns a role of those that a mount keeps below `folder`, such as `role/`. Names are not told
/// apart by case.
pub fn find<R: DeserializeOwned>(
    ctx: &mut Context<'_, '_>,
    folder: &str,
    text: &str,
) -> Result<Option<R>, Refusal> {
    match name(text) {
        Some(name) => ctx.load(&format!("{folder}{name}")),
        None => Ok(None),
    }
}

/// Deletes a role, if there is one of this name.
pub fn delete(ctx: &mut Context<'_, '_>, folder: &str, text: &str) {
    if let Some(name) = name(text) {
        ctx.delete(&format!("{folder}{name}"));
    }
}

/// Returns a duration in seconds, rounded up: what was given is never 0, which means *not set*.
pub fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() != 0)
}

/// What tokens of a role are like. Durations are in seconds; 0 is *not set*.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSettings {
    policies: Vec<String>,
    ttl: u64,
    max_ttl: u64,
    period: u64,
    explicit_max_ttl: u64,
    num_uses: u64,
    no_default_policy: bool,
    #[serde(default)]
    kind: TokenType,
    #[serde(default)]
    bound_cidrs: Vec<IpNet>,
    /// The fields that were set under their old names, and are shown under them as well.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    old: BTreeSet<String>,
}

/// Fields that had another name once.
const OLD_NAMES: &[(&str, &str)] = &[
    ("token_bound_cidrs", "bound_cidrs"),
    ("token_max_ttl", "max_ttl"),
    ("token_num_uses", "num_uses"),
    ("token_period", "period"),
    ("token_policies", "policies"),
    ("token_ttl", "ttl"),
    ("token_ttl", "lease"),
];

/// How long a renewed token may live, as the role that it was made by says now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// For how long a renewal is; `None`: the mount's default.
    pub ttl: Option<Duration>,
    /// The longest life; `None`: the mount's.
    pub ttl_max: Option<Duration>,
    /// What each renewal gives, for a periodic token.
    pub period: Option<Duration>,
}

impl TokenSettings {
    /// Takes in the fields that are given, under their names of today or of old.
    pub fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        for &(new, old) in OLD_NAMES {
            match (fields.get(new).is_some(), fields.get(old).is_some()) {
                (_, true) => self.old.insert(old.to_owned()),
                (true, false) => self.old.remove(old),
                (false, false) => false,
            };
        }
        let given = |new: &'static str| {
            let mut olds = OLD_NAMES.iter().filter(|(name, _)| *name == new);
            match olds.find(|(_, old)| fields.get(old).is_some()) {
                Some(&(_, old)) if fields.get(new).is_none() => old,
                _ => new,
            }
        };
        if let Some(policies) = fields.list(given("token_policies"))? {
            if POLICIES_MAX < policies.len() {
                return Err(Refusal::invalid("a role has too many policies"));
            }
            self.policies = tokens::policies(&policies, true);
        }
        for (field, name) in [
            (&mut self.ttl, "token_ttl"),
            (&mut self.max_ttl, "token_max_ttl"),
            (&mut self.period, "token_period"),
            (&mut self.explicit_max_ttl, "token_explicit_max_ttl"),
        ] {
            if let Some(duration) = fields.duration(given(name))? {
                *field = whole_secs(duration);
            }
        }
        if let Some(uses) = fields.count(given("token_num_uses"))? {
            self.num_uses = uses;
        }
        if let Some(flag) = fields.flag("token_no_default_policy")? {
            self.no_default_policy = flag;
        }
        if let Some(nets) = cidrs::field(fields, given("token_bound_cidrs"))? {
            self.bound_cidrs = nets;
        }
        if let Some(kind) = fields.text("token_type")? {
            self.kind = TokenType::parse(&kind)?;
        }
        if matches!(self.kind, TokenType::Batch | TokenType::DefaultBatch) {
            let batch = "'token_type' cannot be 'batch' or 'default_batch' when set to generate";
            if self.period != 0 {
                return Err(Refusal::invalid(format!("{batch} periodic tokens")));
            }
            if self.num_uses != 0 {
                return Err(Refusal::invalid(format!(
                    "{batch} tokens with limited use count"
                )));
            }
        }
        if self.max_ttl != 0 && self.max_ttl < self.ttl {
            return Err(Refusal::invalid(
                "'token_ttl' cannot be greater than 'token_max_ttl'",
            ));
        }
        Ok(())
    }

    /// Returns the fields as a role is read back.
    pub fn shown(&self) -> Map<String, Value> {
        let shown = json!({
            "token_policies": self.policies,
            "token_ttl": self.ttl,
            "token_max_ttl": self.max_ttl,
            "token_period": self.period,
            "token_explicit_max_ttl": self.explicit_max_ttl,
            "token_num_uses": self.num_uses,
            "token_no_default_policy": self.no_default_policy,
            "token_bound_cidrs": cidrs::shown(&self.bound_cidrs),
            "token_type": self.kind.as_str(),
        });
        let Value::Object(mut shown) = shown else {
            unreachable!("made as an object")
        };
        for &(new, old) in OLD_NAMES {
            if self.old.contains(old) {
                let value = shown.get(new).cloned().unwrap_or_default();
                shown.insert(old.to_owned(), value);
            }
        }
        shown
    }

    /// Returns the networks that tokens are bound to; none: all.
    pub fn bound_cidrs(&self) -> &[IpNet] {
        &self.bound_cidrs
    }

    /// Returns the policies, `default` not among them unless it was named.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// Returns the answer to whoever wrote a role: done, with a warning if it asks for longer lives than
    /// its mount allows.
    pub fn written(&self, mount: &Mount) -> Answer {
        Answer::done().warned(self.exceeds(mount))
    }

    fn exceeds(&self, mount: &Mount) -> Option<&'static str> {
        let max = mount.ttl_max().as_secs();
        if max < self.max_ttl {
            return Some(
                "token_max_ttl is greater than the backend mount's maximum TTL value; issued \
                 tokens' max TTL value will be truncated",
            );
        }
        (max < self.ttl).then_some(
            "token_ttl is greater than the backend mount's maximum TTL value; issued tokens' TTL \
             value will be truncated",
        )
    }

    /// Returns how long a token may live whose renewal is judged by these settings.
    pub fn terms(&self) -> Terms {
        let set = |secs: u64| (secs != 0).then(|| Duration::from_secs(secs));
        Terms {
            ttl: set(self.ttl),
            ttl_max: set(self.max_ttl),
            period: set(self.period),
        }
    }

    /// Returns [`Self::terms`] for a token whose policies are those of the settings; a renewal must
    /// not keep alive what the role does not grant any more.
    pub fn terms_for(&self, token: &Token) -> Result<Terms, Refusal> {
        let now = tokens::policies(&self.policies, self.no_default_policy);
        if now != token.policies {
            return Err(Refusal::invalid("policies have changed, not renewing"));
        }
        Ok(self.terms())
    }

    /// Returns the login that these settings describe.
    pub fn login(&self) -> Login {
        let Terms {
            ttl,
            ttl_max,
            period,
        } = self.terms();
        Login {
            policies: self.policies.clone(),
            ttl,
            ttl_max,
            period,
            explicit_max_ttl: (self.explicit_max_ttl != 0)
                .then(|| Duration::from_secs(self.explicit_max_ttl)),
            num_uses: self.num_uses,
            no_default_policy: self.no_default_policy,
            token_type: self.kind,
            bound_cidrs: self.bound_cidrs.clone(),
            ..Login::default()
        }
    }
}

#[cfg(test)]
mod tests;
