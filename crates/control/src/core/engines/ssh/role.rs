//! Roles: what may be asked for, by whoever the policies let ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::reach;
use super::template::split;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::role::whole_secs;

/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest list in a role, in bytes.
const LIST_BYTES_MAX: usize = 64 << 10;

/// A role, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "key_type", rename_all = "lowercase")]
pub enum Role {
    /// Gives one-time passwords.
    Otp(OtpRole),
    /// Gives certificates.
    Ca(Box<CaRole>),
}

/// A role for one-time passwords.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OtpRole {
    /// Whose password it is if the request names nobody.
    pub default_user: String,
    /// Who else, with commas; `*`: everybody.
    pub allowed_users: String,
    /// At which addresses.
    pub cidr_list: String,
    /// At which of them not.
    pub exclude_cidr_list: String,
    /// Where hosts listen.
    pub port: u16,
}

/// A role for certificates. Durations are in seconds; 0 is *not set*.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are Vault's fields")]
pub struct CaRole {
    /// The principals if the request names none.
    pub default_user: String,
    /// Whether that is a template.
    pub default_user_template: bool,
    /// Which users, with commas; `*`: all.
    pub allowed_users: String,
    /// Whether these are templates.
    pub allowed_users_template: bool,
    /// Which domains of hosts, with commas; `*`: all.
    pub allowed_domains: String,
    /// Whether these are templates.
    pub allowed_domains_template: bool,
    /// How long a certificate is good.
    pub ttl: u64,
    /// At most.
    pub max_ttl: u64,
    /// Which critical options may be asked for; empty: all.
    pub allowed_critical_options: String,
    /// Which extensions may be asked for; `*`: all.
    pub allowed_extensions: String,
    /// Given if the request names none.
    pub default_critical_options: BTreeMap<String, String>,
    /// Given if the request names none.
    pub default_extensions: BTreeMap<String, String>,
    /// Whether their values are templates.
    pub default_extensions_template: bool,
    /// Whether it certifies users.
    pub allow_user_certificates: bool,
    /// Whether it certifies hosts.
    pub allow_host_certificates: bool,
    /// Whether a host may be named as its domain.
    pub allow_bare_domains: bool,
    /// Whether a host may be named below its domain.
    pub allow_subdomains: bool,
    /// Whether requests choose the key id.
    pub allow_user_key_ids: bool,
    /// What the key id is else; empty: Vault's.
    pub key_id_format: String,
    /// Which lengths of keys, by kind; empty: all.
    pub allowed_user_key_lengths: BTreeMap<String, Vec<u64>>,
    /// How an RSA authority signs.
    pub algorithm_signer: String,
    /// How far back a certificate begins.
    pub not_before_duration: u64,
}

/// Checks a role's name.
pub fn name(text: &str) -> Result<&str, Refusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte);
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !first || NAME_BYTES_MAX < text.len() || !text.bytes().all(good) {
        return Err(Refusal::invalid("the role's name is not valid"));
    }
    Ok(text)
}

fn at(name: &str) -> String {
    format!("role/{name}")
}

/// Returns a role.
pub fn find(ctx: &mut Context<'_, '_>, text: &str) -> Result<Option<Role>, Refusal> {
    ctx.load(&at(name(text)?))
}

/// Returns all roles for one-time passwords, by name.
pub fn all_otp(ctx: &mut Context<'_, '_>) -> Result<Vec<(String, OtpRole)>, Refusal> {
    let mut found = Vec::new();
    for name in ctx.list("role/")? {
        if let Some(Role::Otp(role)) = find(ctx, &name)? {
            found.push((name, role));
        }
    }
    Ok(found)
}

pub fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let keys = ctx.list("role/")?;
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    let mut info = Map::new();
    for key in &keys {
        let kind = match find(ctx, key)? {
            Some(Role::Otp(_)) => "otp",
            Some(Role::Ca(_)) => "ca",
            None => continue,
        };
        info.insert(key.clone(), json!({ "key_type": kind }));
    }
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

pub fn delete(ctx: &mut Context<'_, '_>, text: &str) -> Result<Answer, Refusal> {
    ctx.delete(&at(name(text)?));
    reach::forget_role(ctx, text)?;
    Ok(Answer::done())
}

pub fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, text: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let role = match fields.text("key_type")?.as_deref() {
        None | Some("") => return Err(Refusal::invalid("missing key type")),
        Some("otp") => Role::Otp(otp(fields)?),
        Some("ca") => Role::Ca(Box::new(ca(fields)?)),
        Some("dynamic") => {
            return Err(Refusal::invalid(
                "dynamic key types are no longer supported",
            ));
        }
        Some(_) => return Err(Refusal::invalid("invalid key type")),
    };
    ctx.save(&at(name(text)?), &role)?;
    Ok(Answer::done())
}

fn list_text(fields: Fields<'_>, name: &str) -> Result<String, Refusal> {
    // A client may send an array where Vault knows a text with commas.
    let text = match fields.get(name) {
        Some(Value::Array(_)) => fields.list(name)?.unwrap_or_default().join(","),
        _ => fields.text(name)?.unwrap_or_default(),
    };
    if LIST_BYTES_MAX < text.len() {
        return Err(Refusal::invalid(format!(
            "{name} is longer than {LIST_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

fn otp(fields: Fields<'_>) -> Result<OtpRole, Refusal> {
    let role = OtpRole {
        default_user: fields.text("default_user")?.unwrap_or_default(),
        allowed_users: list_text(fields, "allowed_users")?,
        cidr_list: list_text(fields, "cidr_list")?,
        exclude_cidr_list: list_text(fields, "exclude_cidr_list")?,
        port: match fields.count("port")? {
            None => 22,
            Some(port) => u16::try_from(port)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Refusal::invalid("port is not 1 to 65535"))?,
        },
    };
    if role.default_user.is_empty() {
        return Err(Refusal::invalid("missing default user"));
    }
    for (what, list) in [
        ("cidr_list", &role.cidr_list),
        ("exclude_cidr_list", &role.exclude_cidr_list),
    ] {
        reach::networks(list).map_err(|wrong| {
            Refusal::invalid(format!(
                "failed to validate {what}: `{wrong:.50}` is no network"
            ))
        })?;
    }
    Ok(role)
}

fn ca(fields: Fields<'_>) -> Result<CaRole, Refusal> {
    let flag = |name| Ok::<_, Refusal>(fields.flag(name)?.unwrap_or(false));
    let secs = |name| Ok::<_, Refusal>(fields.duration(name)?.map_or(0, whole_secs));
    let role = CaRole {
        default_user: fields.text("default_user")?.unwrap_or_default(),
        default_user_template: flag("default_user_template")?,
        allowed_users: list_text(fields, "allowed_users")?,
        allowed_users_template: flag("allowed_users_template")?,
        allowed_domains: list_text(fields, "allowed_domains")?,
        allowed_domains_template: flag("allowed_domains_template")?,
        ttl: secs("ttl")?,
        max_ttl: secs("max_ttl")?,
        allowed_critical_options: list_text(fields, "allowed_critical_options")?,
        allowed_extensions: list_text(fields, "allowed_extensions")?,
        default_critical_options: fields
            .pairs("default_critical_options")?
            .unwrap_or_default(),
        default_extensions: fields.pairs("default_extensions")?.unwrap_or_default(),
        default_extensions_template: flag("default_extensions_template")?,
        allow_user_certificates: flag("allow_user_certificates")?,
        allow_host_certificates: flag("allow_host_certificates")?,
        allow_bare_domains: flag("allow_bare_domains")?,
        allow_subdomains: flag("allow_subdomains")?,
        allow_user_key_ids: flag("allow_user_key_ids")?,
        key_id_format: fields.text("key_id_format")?.unwrap_or_default(),
        allowed_user_key_lengths: lengths(fields)?,
        algorithm_signer: fields.text("algorithm_signer")?.unwrap_or_default(),
        not_before_duration: fields
            .duration("not_before_duration")?
            .map_or(30, |duration| duration.as_secs()),
    };
    if !role.allow_user_certificates && !role.allow_host_certificates {
        return Err(Refusal::invalid(
            "Either 'allow_user_certificates' or 'allow_host_certificates' must be set to 'true'",
        ));
    }
    // CVE-2024-7594: such a certificate is good for every user.
    if flag("allow_empty_principals")? {
        return Err(Refusal::invalid(
            "allow_empty_principals is not served: a certificate without principals is good for \
             every user",
        ));
    }
    match role.algorithm_signer.as_str() {
        "" | "default" | "rsa-sha2-256" | "rsa-sha2-512" => {}
        "ssh-rsa" => {
            return Err(Refusal::invalid(
                "algorithm_signer ssh-rsa is not served: OpenSSH refuses SHA-1 since 8.2; use \
                 rsa-sha2-256 or rsa-sha2-512",
            ));
        }
        _ => return Err(Refusal::invalid("unknown algorithm signer")),
    }
    if role.max_ttl != 0 && role.max_ttl < role.ttl {
        return Err(Refusal::invalid(
            "\"ttl\" value must be less than \"max_ttl\" when both are specified",
        ));
    }
    super::sign::check_options(&role.default_critical_options, &role.default_extensions)?;
    Ok(role)
}

fn lengths(fields: Fields<'_>) -> Result<BTreeMap<String, Vec<u64>>, Refusal> {
    let wrong = || {
        Refusal::invalid("allowed_user_key_lengths is a map of kinds of keys to lengths in bits")
    };
    let parsed;
    let map = match fields.get("allowed_user_key_lengths") {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(Value::String(text)) if text.is_empty() => return Ok(BTreeMap::new()),
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Map<String, Value>>(text).map_err(|_| wrong())?;
            &parsed
        }
        Some(_) => return Err(wrong()),
    };
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    map.iter()
        .map(|(kind, value)| {
            let lengths: Option<Vec<u64>> = match value {
                Value::Array(values) => values.iter().map(number).collect(),
                one => number(one).map(|one| vec![one]),
            };
            Ok((kind.clone(), lengths.ok_or_else(wrong)?))
        })
        .collect()
}

pub fn read(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let shown = match find(ctx, name)?.ok_or(Refusal::Absent)? {
        Role::Otp(role) => json!({
            "key_type": "otp",
            "default_user": role.default_user,
            "allowed_users": role.allowed_users,
            "cidr_list": role.cidr_list,
            "exclude_cidr_list": role.exclude_cidr_list,
            "port": role.port,
        }),
        Role::Ca(role) => {
            let mut shown = json!(role);
            shown["key_type"] = "ca".into();
            shown["allow_empty_principals"] = false.into();
            if role.algorithm_signer.is_empty() {
                shown["algorithm_signer"] = "default".into();
            }
            shown
        }
    };
    Ok(Answer::json(shown))
}

impl OtpRole {
    /// Returns for which user a password is, given who is asked for.
    pub fn user(&self, asked: Option<String>) -> Result<String, Refusal> {
        let Some(user) = asked.filter(|user| !user.is_empty()) else {
            return Ok(self.default_user.clone());
        };
        if user == self.default_user {
            return Ok(user);
        }
        if self.allowed_users.is_empty() {
            return Err(Refusal::invalid(
                "Username has to be either in allowed users list or has to be a default username",
            ));
        }
        if !self.allows(&user) {
            return Err(Refusal::invalid(
                "Username is not present is allowed users list",
            ));
        }
        Ok(user)
    }

    /// Returns whether a password may be for a user.
    pub fn allows(&self, user: &str) -> bool {
        user == self.default_user || split(&self.allowed_users).any(|it| it == "*" || it == user)
    }
}
