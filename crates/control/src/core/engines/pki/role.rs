//! Roles: what may be issued.

use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::{KeyKind, Oid, extended_usage, key_usage_bit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lifetime::parse_time;
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;

/// Most entries of one list of a role.
const LIST_MAX: usize = 512;

/// A role, as it is stored and shown: field for field Vault's. Durations in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "they are Vault's fields")]
pub struct Role {
    pub issuer_ref: String,
    pub ttl: u64,
    pub max_ttl: u64,
    pub not_after: String,
    pub not_before_duration: u64,
    pub allow_localhost: bool,
    pub allowed_domains: Vec<String>,
    pub allowed_domains_template: bool,
    pub allow_bare_domains: bool,
    pub allow_subdomains: bool,
    pub allow_glob_domains: bool,
    pub allow_wildcard_certificates: bool,
    pub allow_any_name: bool,
    pub enforce_hostnames: bool,
    pub allow_ip_sans: bool,
    pub allowed_ip_sans_cidr: Vec<String>,
    pub allowed_uri_sans: Vec<String>,
    pub allowed_uri_sans_template: bool,
    pub allowed_other_sans: Vec<String>,
    pub allowed_serial_numbers: Vec<String>,
    pub allowed_user_ids: Vec<String>,
    pub allow_token_displayname: bool,
    pub server_flag: bool,
    pub client_flag: bool,
    pub code_signing_flag: bool,
    pub email_protection_flag: bool,
    pub key_type: String,
    pub key_bits: u32,
    pub signature_bits: u32,
    pub use_pss: bool,
    pub key_usage: Vec<String>,
    pub ext_key_usage: Vec<String>,
    pub ext_key_usage_oids: Vec<String>,
    pub use_csr_common_name: bool,
    pub use_csr_sans: bool,
    pub serial_number_source: String,
    pub ou: Vec<String>,
    pub organization: Vec<String>,
    pub country: Vec<String>,
    pub locality: Vec<String>,
    pub province: Vec<String>,
    pub street_address: Vec<String>,
    pub postal_code: Vec<String>,
    pub generate_lease: bool,
    pub no_store: bool,
    pub no_store_metadata: bool,
    pub require_cn: bool,
    pub cn_validations: Vec<String>,
    pub policy_identifiers: Vec<String>,
    pub basic_constraints_valid_for_non_ca: bool,
}

impl Default for Role {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            issuer_ref: "default".to_owned(),
            ttl: 0,
            max_ttl: 0,
            not_after: String::new(),
            not_before_duration: 30,
            allow_localhost: true,
            allowed_domains: Vec::new(),
            allowed_domains_template: false,
            allow_bare_domains: false,
            allow_subdomains: false,
            allow_glob_domains: false,
            allow_wildcard_certificates: true,
            allow_any_name: false,
            enforce_hostnames: true,
            allow_ip_sans: true,
            allowed_ip_sans_cidr: Vec::new(),
            allowed_uri_sans: Vec::new(),
            allowed_uri_sans_template: false,
            allowed_other_sans: Vec::new(),
            allowed_serial_numbers: Vec::new(),
            allowed_user_ids: Vec::new(),
            allow_token_displayname: false,
            server_flag: true,
            client_flag: true,
            code_signing_flag: false,
            email_protection_flag: false,
            key_type: "rsa".to_owned(),
            key_bits: 0,
            signature_bits: 0,
            use_pss: false,
            key_usage: words(&["DigitalSignature", "KeyAgreement", "KeyEncipherment"]),
            ext_key_usage: Vec::new(),
            ext_key_usage_oids: Vec::new(),
            use_csr_common_name: true,
            use_csr_sans: true,
            serial_number_source: "json-csr".to_owned(),
            ou: Vec::new(),
            organization: Vec::new(),
            country: Vec::new(),
            locality: Vec::new(),
            province: Vec::new(),
            street_address: Vec::new(),
            postal_code: Vec::new(),
            generate_lease: false,
            no_store: false,
            no_store_metadata: false,
            require_cn: true,
            cn_validations: words(&["email", "hostname"]),
            policy_identifiers: Vec::new(),
            basic_constraints_valid_for_non_ca: false,
        }
    }
}

impl Role {
    /// Takes in the fields that are given, then looks whether the whole makes sense. `null` returns a
    /// field to what it is without.
    pub fn update(&mut self, fields: Fields<'_>, ttl_max: Duration) -> Result<(), Refusal> {
        let usual = Self::default();
        macro_rules! take {
            ($read:ident: $($field:ident),* $(,)?) => {$(
                if let Some(value) = fields.$read(stringify!($field))? {
                    self.$field = value;
                } else if fields.0.contains_key(stringify!($field)) {
                    self.$field = usual.$field.clone();
                }
            )*};
        }
        take!(flag: allow_localhost, allowed_domains_template, allow_bare_domains, allow_subdomains,
            allow_glob_domains, allow_wildcard_certificates, allow_any_name, enforce_hostnames,
            allow_ip_sans, allowed_uri_sans_template, allow_token_displayname, server_flag,
            client_flag, code_signing_flag, email_protection_flag, use_pss, use_csr_common_name,
            use_csr_sans, generate_lease, no_store, no_store_metadata, require_cn,
            basic_constraints_valid_for_non_ca);
        take!(list: allowed_domains, allowed_ip_sans_cidr, allowed_uri_sans, allowed_other_sans,
            allowed_serial_numbers, allowed_user_ids, key_usage, ext_key_usage, ext_key_usage_oids,
            ou, organization, country, locality, province, street_address, postal_code,
            cn_validations, policy_identifiers);
        take!(text: issuer_ref, not_after, key_type, serial_number_source);
        for (field, name, usual) in [
            (&mut self.ttl, "ttl", 0),
            (&mut self.max_ttl, "max_ttl", 0),
            (
                &mut self.not_before_duration,
                "not_before_duration",
                usual.not_before_duration,
            ),
        ] {
            if let Some(duration) = fields.duration(name)? {
                *field = whole_seconds(name, duration)?;
            } else if fields.0.contains_key(name) {
                *field = usual;
            }
        }
        for (field, name) in [
            (&mut self.key_bits, "key_bits"),
            (&mut self.signature_bits, "signature_bits"),
        ] {
            if let Some(bits) = fields.count(name)? {
                *field = u32::try_from(bits)
                    .map_err(|_| Refusal::invalid(format!("{name} is out of range")))?;
            }
        }
        self.check(ttl_max)
    }

    fn check(&mut self, ttl_max: Duration) -> Result<(), Refusal> {
        if self.max_ttl != 0 && self.max_ttl < self.ttl {
            return Err(Refusal::invalid(
                "\"ttl\" value must be less than \"max_ttl\" value",
            ));
        }
        if ttl_max.as_secs() < self.max_ttl && self.ttl == 0 {
            self.max_ttl = ttl_max.as_secs();
        }
        if !self.not_after.is_empty() {
            parse_time(&self.not_after)?;
        }
        if self.key_type != "any" {
            KeyKind::of(&self.key_type, self.key_bits).ok_or_else(|| {
                Refusal::invalid(format!(
                    "unsupported key type or size: {} {}",
                    self.key_type, self.key_bits
                ))
            })?;
        }
        if !matches!(self.signature_bits, 0 | 256 | 384 | 512) {
            return Err(Refusal::invalid("unsupported signature_bits"));
        }
        if self.no_store {
            self.generate_lease = false;
        }
        if self.issuer_ref.is_empty() {
            "default".clone_into(&mut self.issuer_ref);
        }
        for usage in &self.key_usage {
            if key_usage_bit(usage) == 0 {
                return Err(Refusal::invalid(format!("unknown key usage {usage}")));
            }
        }
        for usage in &self.ext_key_usage {
            if extended_usage(usage).is_none() {
                return Err(Refusal::invalid(format!(
                    "unknown extended key usage {usage}"
                )));
            }
        }
        for net in &self.allowed_ip_sans_cidr {
            if net.parse::<ipnet::IpNet>().is_err() {
                return Err(Refusal::invalid(format!("\"{net}\" is not a network")));
            }
        }
        self.cn_validations = cn_validations(&self.cn_validations)?;
        oids(&self.ext_key_usage_oids)?;
        policies(&self.policy_identifiers)?;
        let lists = [
            &self.allowed_domains,
            &self.allowed_ip_sans_cidr,
            &self.allowed_uri_sans,
            &self.allowed_other_sans,
            &self.allowed_serial_numbers,
            &self.allowed_user_ids,
        ];
        if lists.iter().any(|list| LIST_MAX < list.len()) {
            return Err(Refusal::invalid(format!(
                "a list of a role has at most {LIST_MAX} entries"
            )));
        }
        Ok(())
    }

    /// Returns it as Vault shows it.
    pub fn shown(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(shown) => shown,
            _ => unreachable!("a structure becomes an object"),
        }
    }
}

/// A duration whose fraction of a second is not lost: 0 would mean something else.
fn whole_seconds(name: &str, duration: Duration) -> Result<u64, Refusal> {
    if duration.as_secs() == 0 && !duration.is_zero() {
        return Err(Refusal::invalid(format!("{name} is shorter than a second")));
    }
    Ok(duration.as_secs())
}

fn cn_validations(words: &[String]) -> Result<Vec<String>, Refusal> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    if words.is_empty() {
        return Ok(vec!["email".to_owned(), "hostname".to_owned()]);
    }
    for word in &words {
        if !matches!(word.as_str(), "email" | "hostname" | "disabled") {
            return Err(Refusal::invalid(
                "invalid value for cn_validations: expected disabled, email or hostname",
            ));
        }
    }
    if words.iter().any(|word| word == "disabled") && 1 < words.len() {
        return Err(Refusal::invalid(
            "cn_validations cannot hold disabled beside other values",
        ));
    }
    Ok(words)
}

/// Reads identifiers.
pub fn oids(list: &[String]) -> Result<Vec<Oid>, Refusal> {
    list.iter()
        .map(|text| {
            text.parse().map_err(|_| {
                Refusal::invalid(format!("\"{text}\" could not be parsed as a valid oid"))
            })
        })
        .collect()
}

/// Reads policies: identifiers, alone or as the field `oid` of a JSON object.
fn policies(list: &[String]) -> Result<Vec<Oid>, Refusal> {
    let bare: Vec<String> = list
        .iter()
        .map(|text| {
            let parsed: Option<Value> = serde_json::from_str(text).ok();
            let oid = parsed.and_then(|it| Some(it.get("oid")?.as_str()?.to_owned()));
            oid.unwrap_or_else(|| text.clone())
        })
        .collect();
    oids(&bare)
}

/// A role, with what is parsed of it.
pub struct Compiled {
    /// The role.
    pub role: Role,
    /// Bits of the key usages.
    pub key_usage: u16,
    /// The extended key usages.
    pub extended_usages: Vec<Oid>,
    /// The policies.
    pub policies: Vec<Oid>,
    /// The other names: identifier, and a glob for the value.
    pub other_names: Vec<(Option<Oid>, String)>,
    /// Networks of addresses; none: all.
    pub networks: Vec<ipnet::IpNet>,
    /// When certificates end, if the role says so.
    pub not_after: Option<UnixTime>,
}

impl Compiled {
    /// Reads what is stored.
    pub fn load(text: &[u8]) -> Result<Self, Refusal> {
        let role: Role =
            serde_json::from_slice(text).map_err(|error| Refusal::corrupt("role", error))?;
        Self::new(role)
    }

    /// Parses what a role holds.
    pub fn new(role: Role) -> Result<Self, Refusal> {
        let flags = [
            (role.server_flag, "ServerAuth"),
            (role.client_flag, "ClientAuth"),
            (role.code_signing_flag, "CodeSigning"),
            (role.email_protection_flag, "EmailProtection"),
        ];
        let flagged = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
        let named = role.ext_key_usage.iter().map(String::as_str);
        let mut extended_usages: Vec<Oid> = Vec::new();
        let all = flagged.chain(named).filter_map(extended_usage);
        for oid in all.chain(oids(&role.ext_key_usage_oids)?) {
            if !extended_usages.contains(&oid) {
                extended_usages.push(oid);
            }
        }
        let other_names = role.allowed_other_sans.iter().map(|text| {
            let (oid, value) = match text.split_once(';') {
                Some((oid, value)) => {
                    let value = value.split_once(':').map_or(value, |(_, value)| value);
                    (oid, value)
                }
                None => (text.as_str(), "*"),
            };
            (oid.parse().ok(), value.to_owned())
        });
        Ok(Self {
            key_usage: role
                .key_usage
                .iter()
                .fold(0, |bits, usage| bits | key_usage_bit(usage)),
            extended_usages,
            policies: policies(&role.policy_identifiers)?,
            other_names: other_names.collect(),
            networks: role
                .allowed_ip_sans_cidr
                .iter()
                .filter_map(|net| net.parse().ok())
                .collect(),
            not_after: match role.not_after.as_str() {
                "" => None,
                text => Some(parse_time(text)?),
            },
            role,
        })
    }

    /// Returns the kind of the key that is drawn, if the role names one.
    pub fn key_kind(&self) -> Option<KeyKind> {
        KeyKind::of(&self.role.key_type, self.role.key_bits)
    }

    /// Refuses a key that the role does not allow.
    pub fn check_key(&self, kind: KeyKind) -> Result<(), Refusal> {
        let role = &self.role;
        if role.key_type == "any" {
            return Ok(());
        }
        if role.key_type != kind.family() {
            return Err(Refusal::invalid(format!(
                "role requires keys of type {}",
                role.key_type
            )));
        }
        let fewest = self.key_kind().map_or(0, KeyKind::bits);
        if kind.bits() < fewest || (kind.family() == "ec" && kind.bits() != fewest) {
            return Err(Refusal::invalid(format!(
                "role requires a key size of {fewest} bits, but the CSR's key has {} bits",
                kind.bits()
            )));
        }
        Ok(())
    }
}
