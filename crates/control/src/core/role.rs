//! The `token_*` fields that every role of an auth method has.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::cidrs;
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Login;
use crate::core::token_type::TokenType;

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
}

impl TokenSettings {
    /// Takes in the fields that are given, under their names of today or of old.
    pub fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        let first = |new: &'static str, old: &'static str| {
            if fields.get(new).is_some() { new } else { old }
        };
        if let Some(policies) = fields.list(first("token_policies", "policies"))? {
            self.policies = crate::core::tokens::policies(&policies, true);
        }
        for (field, new, old) in [
            (&mut self.ttl, "token_ttl", "ttl"),
            (&mut self.max_ttl, "token_max_ttl", "max_ttl"),
            (&mut self.period, "token_period", "period"),
            (
                &mut self.explicit_max_ttl,
                "token_explicit_max_ttl",
                "token_explicit_max_ttl",
            ),
        ] {
            if let Some(duration) = fields.duration(first(new, old))? {
                *field = duration.as_secs();
            }
        }
        if let Some(uses) = fields.count(first("token_num_uses", "num_uses"))? {
            self.num_uses = uses;
        }
        if let Some(flag) = fields.flag("token_no_default_policy")? {
            self.no_default_policy = flag;
        }
        if let Some(nets) = cidrs::field(fields, first("token_bound_cidrs", "bound_cidrs"))? {
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
    pub fn shown(&self) -> Value {
        json!({
            "token_policies": self.policies,
            "token_ttl": self.ttl,
            "token_max_ttl": self.max_ttl,
            "token_period": self.period,
            "token_explicit_max_ttl": self.explicit_max_ttl,
            "token_num_uses": self.num_uses,
            "token_no_default_policy": self.no_default_policy,
            "token_bound_cidrs": cidrs::shown(&self.bound_cidrs),
            "token_type": self.kind.as_str(),
            "policies": self.policies,
            "ttl": self.ttl,
            "max_ttl": self.max_ttl,
        })
    }

    /// Returns the login that these settings describe.
    pub fn login(&self) -> Login {
        let set = |secs: u64| (secs != 0).then(|| Duration::from_secs(secs));
        Login {
            policies: self.policies.clone(),
            ttl: set(self.ttl),
            ttl_max: set(self.max_ttl),
            period: set(self.period),
            explicit_max_ttl: set(self.explicit_max_ttl),
            num_uses: self.num_uses,
            no_default_policy: self.no_default_policy,
            token_type: self.kind,
            bound_cidrs: self.bound_cidrs.clone(),
            ..Login::default()
        }
    }
}
