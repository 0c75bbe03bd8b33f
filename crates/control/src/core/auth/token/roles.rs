//! `auth/token/roles`: what a token made by a role is like, and which policies it may have.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::path::ApiPath;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::tokens;

/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A role, as it is stored. Durations are in seconds; 0 is *not set*.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Role {
    pub allowed_policies: Vec<String>,
    pub disallowed_policies: Vec<String>,
    pub allowed_policies_glob: Vec<String>,
    pub disallowed_policies_glob: Vec<String>,
    pub orphan: bool,
    pub renewable: bool,
    pub path_suffix: String,
    pub explicit_max_ttl: u64,
    pub period: u64,
    pub num_uses: u64,
    pub no_default_policy: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            allowed_policies: Vec::new(),
            disallowed_policies: Vec::new(),
            allowed_policies_glob: Vec::new(),
            disallowed_policies_glob: Vec::new(),
            orphan: false,
            renewable: true,
            path_suffix: String::new(),
            explicit_max_ttl: 0,
            period: 0,
            num_uses: 0,
            no_default_policy: false,
        }
    }
}

/// Returns whether a policy's name fits a pattern, whose star may stand at its end alone.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

impl Role {
    /// Returns whether the role itself says which policies its tokens may have.
    pub fn limits_policies(&self) -> bool {
        !self.allowed_policies.is_empty() || !self.allowed_policies_glob.is_empty()
    }

    /// Returns the policies of a token by a role that limits them: those asked for, or all.
    pub fn policies(&self, given: &[String], no_default: bool) -> Result<Vec<String>, Refusal> {
        let wanted = if given.is_empty() {
            &self.allowed_policies
        } else {
            given
        };
        let wanted = tokens::policies(wanted, no_default || self.no_default_policy);
        let allowed = |name: &String| {
            name == "default"
                || self.allowed_policies.contains(name)
                || self
                    .allowed_policies_glob
                    .iter()
                    .any(|pattern| fits(pattern, name))
        };
        if let Some(name) = wanted.iter().find(|name| !allowed(name)) {
            return Err(Refusal::invalid(format!(
                "token policies (\"{name}\") must be subset of the role's allowed policies"
            )));
        }
        self.allows(&wanted)
    }

    /// Refuses policies that the role excludes.
    pub fn allows(&self, wanted: &[String]) -> Result<Vec<String>, Refusal> {
        let excluded = |name: &String| {
            self.disallowed_policies.contains(name)
                || self
                    .disallowed_policies_glob
                    .iter()
                    .any(|pattern| fits(pattern, name))
        };
        match wanted.iter().find(|name| excluded(name)) {
            Some(name) => Err(Refusal::invalid(format!(
                "token policy \"{name}\" is disallowed by this role"
            ))),
            None => Ok(wanted.to_vec()),
        }
    }

    fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        let first = |new: &'static str, old: &'static str| {
            if fields.get(new).is_some() { new } else { old }
        };
        for (list, name) in [
            (&mut self.allowed_policies, "allowed_policies"),
            (&mut self.disallowed_policies, "disallowed_policies"),
            (&mut self.allowed_policies_glob, "allowed_policies_glob"),
            (
                &mut self.disallowed_policies_glob,
                "disallowed_policies_glob",
            ),
        ] {
            if let Some(given) = fields.list(name)? {
                *list = given
                    .iter()
                    .map(|policy| policy.trim().to_lowercase())
                    .collect();
            }
        }
        for (secs, new, old) in [
            (
                &mut self.explicit_max_ttl,
                "token_explicit_max_ttl",
                "explicit_max_ttl",
            ),
            (&mut self.period, "token_period", "period"),
        ] {
            if let Some(given) = fields.duration(first(new, old))? {
                *secs = given.as_secs();
            }
        }
        for (flag, name) in [
            (&mut self.orphan, "orphan"),
            (&mut self.renewable, "renewable"),
            (&mut self.no_default_policy, "token_no_default_policy"),
        ] {
            if let Some(given) = fields.flag(name)? {
                *flag = given;
            }
        }
        if let Some(uses) = fields.count("token_num_uses")? {
            self.num_uses = uses;
        }
        if let Some(suffix) = fields.text("path_suffix")? {
            if !suffix.is_empty() && ApiPath::parse(&suffix).map_or(true, |path| path.is_folder()) {
                return Err(Refusal::invalid("path_suffix is not a path"));
            }
            self.path_suffix = suffix;
        }
        if !matches!(
            fields.text("token_type")?.as_deref(),
            None | Some("" | "default" | "service" | "default-service")
        ) {
            return Err(Refusal::invalid("this token_type is not served"));
        }
        if fields
            .list("token_bound_cidrs")?
            .is_some_and(|cidrs| !cidrs.is_empty())
        {
            return Err(Refusal::invalid("token_bound_cidrs is not served"));
        }
        Ok(())
    }

    fn shown(&self, name: &str) -> Value {
        json!({
            "name": name,
            "allowed_policies": self.allowed_policies,
            "disallowed_policies": self.disallowed_policies,
            "allowed_policies_glob": self.allowed_policies_glob,
            "disallowed_policies_glob": self.disallowed_policies_glob,
            "orphan": self.orphan,
            "renewable": self.renewable,
            "path_suffix": self.path_suffix,
            "explicit_max_ttl": self.explicit_max_ttl,
            "token_explicit_max_ttl": self.explicit_max_ttl,
            "period": self.period,
            "token_period": self.period,
            "token_num_uses": self.num_uses,
            "token_no_default_policy": self.no_default_policy,
            "token_type": "default-service",
            "token_bound_cidrs": [],
            "allowed_entity_aliases": null,
        })
    }
}

fn at(name: &str) -> Result<String, Refusal> {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::invalid("role name is not valid"));
    }
    Ok(format!("role/{name}"))
}

/// Returns a role.
pub(super) fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Role>, Refusal> {
    ctx.load(&at(name)?)
}

pub(super) fn decide(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    use Operation::{Create, Delete, List, Read, Update};
    match (call.operation, &call.segments()[..]) {
        (List, ["roles"]) => Answer::keys(ctx.list("role/")?),
        (Read, ["roles", name]) => {
            let role = find(ctx, name)?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(role.shown(name)))
        }
        (Create | Update, ["roles", name]) => {
            let mut role = find(ctx, name)?.unwrap_or_default();
            role.update(call.fields())?;
            ctx.save(&at(name)?, &role)?;
            Ok(Answer::done())
        }
        (Delete, ["roles", name]) => {
            let at = at(name)?;
            ctx.delete(&at);
            Ok(Answer::done())
        }
        (_, ["roles"] | ["roles", _]) => Err(Refusal::UnsupportedOperation),
        _ => Err(Refusal::UnsupportedPath),
    }
}
