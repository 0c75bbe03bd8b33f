//! `auth/token/roles`: what a token made by a role is like, and which policies it may have.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::cidrs;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::path::ApiPath;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::role::whole_secs;
use crate::core::token_type::TokenType;
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
    #[serde(default)]
    pub token_type: TokenType,
    #[serde(default)]
    pub bound_cidrs: Vec<IpNet>,
    #[serde(default)]
    pub allowed_entity_aliases: Vec<String>,
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
            token_type: TokenType::Default,
            bound_cidrs: Vec::new(),
            allowed_entity_aliases: Vec::new(),
        }
    }
}

/// Returns whether a name fits a pattern, in which each star stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.split_once(before) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    match last {
        // No star: all of it was compared.
        None => rest.is_empty(),
        Some(end) => rest.ends_with(end),
    }
}

/// A list of names, and a list of patterns.
struct Listed<'r>(&'r [String], &'r [String]);

impl Listed<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name) || self.1.iter().any(|known| fits(known, name))
    }
}

impl Role {
    fn allowed(&self) -> Listed<'_> {
        Listed(&self.allowed_policies, &self.allowed_policies_glob)
    }

    fn disallowed(&self) -> Listed<'_> {
        Listed(&self.disallowed_policies, &self.disallowed_policies_glob)
    }

    /// Returns whether the role itself says which policies its tokens may have.
    pub fn limits_policies(&self) -> bool {
        !self.allowed().is_empty() || !self.disallowed().is_empty()
    }

    /// Returns the policies of a token by a role that limits them: those asked for, or all that the
    /// role allows, or, where it only excludes some, its maker's.
    pub fn policies(
        &self,
        given: &[String],
        makers: &[String],
        no_default: bool,
    ) -> Result<Vec<String>, Refusal> {
        let no_default = no_default || self.no_default_policy || self.disallowed().has("default");
        let policies = |names: &[String]| tokens::policies(names, no_default);
        let wanted = match (given.is_empty(), self.allowed().is_empty()) {
            (false, _) => policies(given),
            (true, false) => policies(&self.allowed_policies),
            (true, true) => policies(makers),
        };
        let is_allowed = |name: &String| {
            self.allowed().is_empty()
                || self.allowed().has(name)
                || !no_default && name == "default"
        };
        if !wanted.iter().all(is_allowed) {
            return Err(Refusal::invalid(format!(
                "token policies ({wanted:?}) must be subset of the role's allowed policies ({:?}) \
                 or glob policies ({:?})",
                self.allowed_policies, self.allowed_policies_glob
            )));
        }
        match wanted.iter().find(|name| self.disallowed().has(name)) {
            Some(name) => Err(Refusal::invalid(format!(
                "token policy {name:?} is disallowed by this role"
            ))),
            None => Ok(wanted),
        }
    }

    /// Returns whether a token may be made for the entity of this alias.
    pub fn allows_alias(&self, name: &str) -> bool {
        let aliases = &self.allowed_entity_aliases;
        aliases.iter().any(|known| fits(known, name))
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
            (&mut self.allowed_entity_aliases, "allowed_entity_aliases"),
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
                *secs = whole_secs(given);
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
        if let Some(nets) = cidrs::field(fields, first("token_bound_cidrs", "bound_cidrs"))? {
            self.bound_cidrs = nets;
        }
        if let Some(kind) = fields.text("token_type")? {
            self.token_type = TokenType::parse(&kind)?;
        }
        if self.token_type == TokenType::Batch {
            for (is_wrong, what) in [
                (!self.orphan, "non-orphan tokens"),
                (self.period != 0, "periodic tokens"),
                (self.renewable, "renewable tokens"),
                (
                    self.explicit_max_ttl != 0,
                    "tokens with an explicit max TTL",
                ),
                (self.num_uses != 0, "tokens with limited use count"),
            ] {
                if is_wrong {
                    return Err(Refusal::invalid(format!(
                        "'token_type' cannot be 'batch' when role is set to generate {what}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn shown(&self, name: &str) -> Value {
        let kind = match self.token_type {
            TokenType::Default => TokenType::DefaultService,
            kind => kind,
        };
        let aliases = &self.allowed_entity_aliases;
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
            "token_type": kind.as_str(),
            "token_bound_cidrs": cidrs::shown(&self.bound_cidrs),
            "allowed_entity_aliases": if aliases.is_empty() { Value::Null } else { json!(aliases) },
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
