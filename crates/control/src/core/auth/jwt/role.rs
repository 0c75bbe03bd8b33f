//! Roles: what tokens of others must say, and what tokens of ours are made of it.

use std::collections::BTreeMap;

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::token::Proven;
use crate::core::auth::glob;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::role::{self, TokenSettings};

/// Where roles are kept.
pub(super) const FOLDER: &str = "role/";
/// Most entries of a list or map of a role.
const ENTRIES_MAX: usize = 256;
/// Most groups that a token may name.
const GROUPS_MAX: usize = 1024;
/// Longest text of a claim that becomes a name or metadata, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// What the leeways are where 0 is said, in seconds.
const LEEWAY_DEFAULT: i64 = 150;
const SKEW_DEFAULT: i64 = 60;

/// A role, as it is stored. Leeways are in seconds: 0 is the default, less than 0 none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named as clients name them"
)]
pub(super) struct Role {
    /// Its name, in lower case.
    pub name: String,
    /// `jwt` or `oidc`.
    pub role_type: String,
    bound_audiences: Vec<String>,
    bound_subject: String,
    bound_claims: Map<String, Value>,
    bound_claims_type: String,
    claim_mappings: BTreeMap<String, String>,
    user_claim: String,
    user_claim_json_pointer: bool,
    groups_claim: String,
    pub oidc_scopes: Vec<String>,
    pub allowed_redirect_uris: Vec<String>,
    verbose_oidc_logging: bool,
    pub max_age: u64,
    expiration_leeway: i64,
    not_before_leeway: i64,
    clock_skew_leeway: i64,
    /// What tokens are like.
    pub token: TokenSettings,
}

fn bounded(name: &str, entries: usize) -> Result<(), Refusal> {
    if ENTRIES_MAX < entries {
        return Err(Refusal::invalid(format!("{name} has too many entries")));
    }
    Ok(())
}

impl Role {
    fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        for (field, name) in [
            (&mut self.role_type, "role_type"),
            (&mut self.bound_subject, "bound_subject"),
            (&mut self.bound_claims_type, "bound_claims_type"),
            (&mut self.user_claim, "user_claim"),
            (&mut self.groups_claim, "groups_claim"),
        ] {
            if let Some(text) = fields.text(name)? {
                *field = text;
            }
        }
        for (field, name) in [
            (&mut self.bound_audiences, "bound_audiences"),
            (&mut self.oidc_scopes, "oidc_scopes"),
            (&mut self.allowed_redirect_uris, "allowed_redirect_uris"),
        ] {
            if let Some(list) = fields.list(name)? {
                bounded(name, list.len())?;
                *field = list;
            }
        }
        for (field, name) in [
            (&mut self.expiration_leeway, "expiration_leeway"),
            (&mut self.not_before_leeway, "not_before_leeway"),
            (&mut self.clock_skew_leeway, "clock_skew_leeway"),
        ] {
            if let Some(secs) = leeway(fields, name)? {
                *field = secs;
            }
        }
        for (field, name) in [
            (&mut self.user_claim_json_pointer, "user_claim_json_pointer"),
            (&mut self.verbose_oidc_logging, "verbose_oidc_logging"),
        ] {
            if let Some(flag) = fields.flag(name)? {
                *field = flag;
            }
        }
        match fields.text("callback_mode")?.as_deref() {
            None | Some("" | "client") => {}
            Some(_) => {
                return Err(Refusal::invalid(
                    "callback_mode: only 'client' is served, where whoever logs in ends the login",
                ));
            }
        }
        if let Some(age) = fields.duration("max_age")? {
            self.max_age = role::whole_secs(age);
        }
        if let Some(claims) = fields.object("bound_claims")? {
            bounded("bound_claims", claims.len())?;
            self.bound_claims.clone_from(claims);
        }
        if let Some(mappings) = fields.pairs("claim_mappings")? {
            bounded("claim_mappings", mappings.len())?;
            self.claim_mappings = mappings;
        }
        self.token.update(fields)?;
        self.check()
    }

    /// Refuses what would let in anybody, or nobody for a reason that is hard to see.
    fn check(&mut self) -> Result<(), Refusal> {
        let refused = |why: &str| Err(Refusal::invalid(why));
        match self.role_type.as_str() {
            "" => "oidc".clone_into(&mut self.role_type),
            "oidc" | "jwt" => {}
            _ => return refused("invalid 'role_type': must be 'jwt' or 'oidc'"),
        }
        match self.bound_claims_type.as_str() {
            "" => "string".clone_into(&mut self.bound_claims_type),
            "string" | "glob" => {}
            _ => return refused("invalid 'bound_claims_type': must be 'string' or 'glob'"),
        }
        if self.user_claim.is_empty() {
            return refused("a user claim must be defined on the role");
        }
        let mut destinations: Vec<&String> = self.claim_mappings.values().collect();
        destinations.sort();
        if destinations.iter().any(|it| *it == "role") {
            return refused(
                "metadata key \"role\" is reserved and may not be a mapping destination",
            );
        }
        if destinations.windows(2).any(|pair| pair[0] == pair[1]) {
            return refused("multiple keys are mapped to one metadata key");
        }
        for (claim, wanted) in &self.bound_claims {
            let is_text = |value: &Value| value.is_string();
            let each = listed(wanted);
            if each.is_empty() || each.iter().any(|it| it.is_object() || it.is_array()) {
                return Err(Refusal::invalid(format!(
                    "bound claim \"{claim}\" is neither a value nor a list of values"
                )));
            }
            if self.bound_claims_type == "glob" && !each.into_iter().all(is_text) {
                return refused("claims must be strings where 'bound_claims_type' is 'glob'");
            }
        }
        let is_bound = !self.bound_audiences.is_empty()
            || !self.bound_subject.is_empty()
            || !self.bound_claims.is_empty()
            || !self.token.bound_cidrs().is_empty();
        if self.role_type == "jwt" && !is_bound {
            return refused(
                "must have at least one bound constraint when creating/updating a role",
            );
        }
        if self.role_type == "oidc" && self.allowed_redirect_uris.is_empty() {
            return refused(
                "'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.",
            );
        }
        Ok(())
    }

    pub fn shown(&self) -> Map<String, Value> {
        let mut data = self.token.shown();
        let bound_claims = if self.bound_claims.is_empty() {
            Value::Null
        } else {
            Value::Object(self.bound_claims.clone())
        };
        let mappings = if self.claim_mappings.is_empty() {
            Value::Null
        } else {
            json!(self.claim_mappings)
        };
        let list = |list: &[String]| match list {
            [] => Value::Null,
            list => json!(list),
        };
        let own = json!({
            "role_type": self.role_type,
            "bound_audiences": list(&self.bound_audiences),
            "bound_subject": self.bound_subject,
            "bound_claims": bound_claims,
            "bound_claims_type": self.bound_claims_type,
            "claim_mappings": mappings,
            "user_claim": self.user_claim,
            "user_claim_json_pointer": self.user_claim_json_pointer,
            "groups_claim": self.groups_claim,
            "oidc_scopes": list(&self.oidc_scopes),
            "allowed_redirect_uris": list(&self.allowed_redirect_uris),
            "verbose_oidc_logging": self.verbose_oidc_logging,
            "max_age": self.max_age,
            "expiration_leeway": self.expiration_leeway,
            "not_before_leeway": self.not_before_leeway,
            "clock_skew_leeway": self.clock_skew_leeway,
        });
        if let Value::Object(own) = own {
            data.extend(own);
        }
        data
    }

    /// Judges what a token says at `now`.
    pub fn judge(&self, token: &Proven, now: UnixTime) -> Result<Found, Refusal> {
        self.judge_audience(token)?;
        self.judge_rest(token, now)
    }

    /// Judges what a provider says at `now` of somebody who logged in there. That it is said to us was
    /// judged before; audiences count where the role names some.
    pub fn judge_person(&self, token: &Proven, now: UnixTime) -> Result<Found, Refusal> {
        if !self.bound_audiences.is_empty() {
            self.judge_audience(token)?;
        }
        self.judge_rest(token, now)
    }

    fn judge_rest(&self, token: &Proven, now: UnixTime) -> Result<Found, Refusal> {
        self.judge_times(token, now)
            .map_err(|why| Refusal::invalid(format!("error validating token: {why}")))?;
        if !self.bound_subject.is_empty() && text(token.claim("sub")) != Some(&self.bound_subject) {
            return Err(Refusal::invalid(
                "error validating token: invalid subject (sub) claim",
            ));
        }
        for (claim, wanted) in &self.bound_claims {
            let Some(said) = token.claim(claim) else {
                return Err(Refusal::invalid(format!(
                    "error validating claims: claim \"{claim}\" is missing"
                )));
            };
            if !self.is_bound_by(wanted, said) {
                return Err(Refusal::invalid(format!(
                    "error validating claims: claim \"{claim}\" does not match any associated \
                     bound claim values"
                )));
            }
        }
        self.found(token)
    }

    /// Returns by how many seconds clocks may differ.
    pub fn skew(&self) -> i64 {
        given(self.clock_skew_leeway, SKEW_DEFAULT)
    }

    /// As Vault's library: one of the three times must be there, and those that are not follow from it.
    fn judge_times(&self, token: &Proven, now: UnixTime) -> Result<(), &'static str> {
        let odd = "a time is not a number";
        let [iat, nbf, exp] = ["iat", "nbf", "exp"].map(|it| token.moment(it).map_err(|_| odd));
        let (iat, nbf, exp) = (iat?, nbf?, exp?);
        let begins = match (nbf, iat, exp) {
            (None, None, None) => {
                return Err(
                    "no issued at (iat), not before (nbf), or expiration time (exp) claims in token",
                );
            }
            (Some(at), _, _) | (None, Some(at), _) => at,
            (None, None, Some(exp)) => {
                exp.saturating_sub(given(self.not_before_leeway, LEEWAY_DEFAULT))
            }
        };
        let ends = exp.unwrap_or_else(|| {
            let latest = begins.max(iat.unwrap_or(begins));
            latest.saturating_add(given(self.expiration_leeway, LEEWAY_DEFAULT))
        });
        let skew = self.skew();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if ends.saturating_add(skew) <= now {
            return Err("invalid expiration time (exp) claim: token is expired");
        }
        if now.saturating_add(skew) < begins {
            return Err("invalid not before (nbf) claim: token not yet valid");
        }
        if iat.is_some_and(|iat| now.saturating_add(skew) < iat) {
            return Err("invalid issued at (iat) claim: token issued in the future");
        }
        Ok(())
    }

    fn judge_audience(&self, token: &Proven) -> Result<(), Refusal> {
        let said = token.claim("aud").map(listed).unwrap_or_default();
        if said.is_empty() && self.bound_audiences.is_empty() {
            return Ok(());
        }
        if self.bound_audiences.is_empty() {
            return Err(Refusal::invalid(
                "error validating token: invalid audience (aud) claim: audience claim found in \
                 JWT but no audiences bound to the role",
            ));
        }
        let is_ours = |said: &&Value| {
            let said = said.as_str();
            said.is_some_and(|said| self.bound_audiences.iter().any(|bound| bound == said))
        };
        if !said.iter().any(is_ours) {
            return Err(Refusal::invalid(
                "error validating token: invalid audience (aud) claim: audience claim does not \
                 match any expected audience",
            ));
        }
        Ok(())
    }

    fn is_bound_by(&self, wanted: &Value, said: &Value) -> bool {
        let said = listed(said);
        listed(wanted).into_iter().any(|wanted| {
            said.iter().any(|said| match (wanted, said) {
                (Value::String(pattern), Value::String(said))
                    if self.bound_claims_type == "glob" =>
                {
                    glob::is_match(pattern, said)
                }
                (wanted, said) => wanted == *said,
            })
        })
    }

    fn found(&self, token: &Proven) -> Result<Found, Refusal> {
        let missing =
            || Refusal::invalid(format!("claim \"{}\" not found in token", self.user_claim));
        // Without the flag a claim whose name begins with a slash is a name.
        let is_pointer = self.user_claim.starts_with('/');
        let user = (!is_pointer || self.user_claim_json_pointer)
            .then(|| token.claim(&self.user_claim))
            .flatten();
        let user = text(Some(user.ok_or_else(missing)?)).ok_or_else(|| {
            Refusal::invalid(format!(
                "claim \"{}\" could not be converted to string",
                self.user_claim
            ))
        })?;
        // A name that reads like another one on a terminal or in a log is nobody's.
        let is_plain = !user.is_empty()
            && user.len() <= TEXT_BYTES_MAX
            && user.trim() == user
            && !user.chars().any(char::is_control);
        if !is_plain {
            return Err(Refusal::invalid(format!(
                "claim \"{}\" is not a name",
                self.user_claim
            )));
        }
        let mut metadata = BTreeMap::from([("role".to_owned(), self.name.clone())]);
        for (claim, destination) in &self.claim_mappings {
            let said = match token.claim(claim) {
                Some(Value::String(said)) if said.len() <= TEXT_BYTES_MAX => said.clone(),
                Some(said @ (Value::Number(_) | Value::Bool(_))) => said.to_string(),
                None => continue,
                Some(_) => {
                    return Err(Refusal::invalid(format!(
                        "error converting claim \"{claim}\" to string"
                    )));
                }
            };
            metadata.insert(destination.clone(), said);
        }
        Ok(Found {
            user: user.to_owned(),
            metadata,
            groups: self.groups(token)?,
        })
    }

    fn groups(&self, token: &Proven) -> Result<Vec<String>, Refusal> {
        if self.groups_claim.is_empty() {
            return Ok(Vec::new());
        }
        let claim = &self.groups_claim;
        let said = token
            .claim(claim)
            .ok_or_else(|| Refusal::invalid(format!("\"{claim}\" claim not found in token")))?;
        let groups: Option<Vec<String>> = listed(said)
            .into_iter()
            .map(|group| text(Some(group)).map(str::to_owned))
            .collect();
        groups
            .filter(|groups| groups.len() <= GROUPS_MAX)
            .ok_or_else(|| {
                Refusal::invalid(format!(
                    "\"{claim}\" claim could not be converted to string list"
                ))
            })
    }
}

/// A leeway: 0 is the default, less than 0 none.
fn given(leeway: i64, default: i64) -> i64 {
    match leeway {
        0 => default,
        secs => secs.max(0),
    }
}

/// What a good token says.
pub(super) struct Found {
    pub user: String,
    pub metadata: BTreeMap<String, String>,
    pub groups: Vec<String>,
}

/// The text of a claim, if it is one.
fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// A list's values, or the one value.
pub(super) fn listed(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

/// Reads a leeway: a duration, or a number below 0 for none.
fn leeway(fields: Fields<'_>, name: &str) -> Result<Option<i64>, Refusal> {
    let is_negative = match fields.get(name) {
        Some(Value::Number(number)) => number.as_f64().is_some_and(|it| it < 0.0),
        Some(Value::String(text)) => text.starts_with('-'),
        _ => false,
    };
    if is_negative {
        return Ok(Some(-1));
    }
    let secs = fields.duration(name)?.map(role::whole_secs);
    Ok(secs.map(|secs| i64::try_from(secs).unwrap_or(i64::MAX)))
}

/// Returns a role.
pub(super) fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Role>, Refusal> {
    role::find(ctx, FOLDER, name)
}

pub(super) fn write(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let folded = role::name_to_write(name)?;
    let mut role = find(ctx, name)?.unwrap_or_else(|| Role {
        name: folded,
        ..Role::default()
    });
    role.update(call.fields())?;
    ctx.save(&format!("{FOLDER}{}", role.name), &role)?;
    Ok(role.token.written(&ctx.mount))
}

pub(super) fn delete(ctx: &mut Context<'_, '_>, name: &str) {
    role::delete(ctx, FOLDER, name);
}
