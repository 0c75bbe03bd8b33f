//! Roles: which certificates are trusted, and what those of clients must say.

use std::collections::BTreeMap;

use bastide_pki::{Stranger, string_content};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::auth::glob;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::role::{self, TokenSettings};

/// Where roles are kept.
pub(super) const FOLDER: &str = "cert/";
/// Most patterns of one kind.
const PATTERNS_MAX: usize = 256;
/// Most roles of a mount that a login without a role's name tries.
const ROLES_MAX: usize = 1024;

/// A role, as it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Role {
    /// Its name, in lower case.
    pub name: String,
    /// What it trusts, in PEM.
    certificate: String,
    /// The name of tokens.
    pub display_name: String,
    /// Patterns, by the field that they came in: of those that are there, one must fit.
    patterns: BTreeMap<String, Vec<String>>,
    /// What tokens are like.
    pub token: TokenSettings,
}

/// Fields that hold patterns of names.
const PATTERNS: &[&str] = &[
    "allowed_names",
    "allowed_common_names",
    "allowed_dns_sans",
    "allowed_email_sans",
    "allowed_uri_sans",
    "allowed_organizational_units",
    "required_extensions",
    "allowed_metadata_extensions",
];

impl Role {
    /// Returns what it trusts.
    pub fn certificates(&self) -> Result<Vec<Stranger>, Refusal> {
        Stranger::from_pem(&self.certificate)
            .map_err(|error| Refusal::corrupt("certificate", error))
    }

    fn patterns(&self, field: &str) -> &[String] {
        self.patterns.get(field).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a certificate says all that the role asks for.
    pub fn fits(&self, leaf: &Stranger) -> bool {
        let cn = || std::iter::once(leaf.common_name.as_str());
        let (dns, emails) = (each(&leaf.dns), each(&leaf.emails));
        let any = cn()
            .chain(dns.iter().copied())
            .chain(emails.iter().copied());
        glob::admits(self.patterns("allowed_names"), any)
            && glob::admits(self.patterns("allowed_common_names"), cn())
            && glob::admits(self.patterns("allowed_dns_sans"), dns)
            && glob::admits(self.patterns("allowed_email_sans"), emails)
            && glob::admits(self.patterns("allowed_uri_sans"), each(&leaf.uris))
            && glob::admits(
                self.patterns("allowed_organizational_units"),
                each(&leaf.organizational_units),
            )
            && self
                .patterns("required_extensions")
                .iter()
                .all(|required| has_extension(leaf, required))
    }

    /// Returns the extensions that tokens are to show, those with dashes for dots.
    pub fn extension_metadata(&self, leaf: &Stranger) -> BTreeMap<String, String> {
        let shown = self.patterns("allowed_metadata_extensions").iter();
        shown
            .filter_map(|wanted| {
                let (_, content) = leaf.extensions.iter().find(|(oid, _)| oid == wanted)?;
                Some((
                    wanted.replace('.', "-"),
                    string_content(content)?.to_owned(),
                ))
            })
            .collect()
    }

    fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        if let Some(pem) = fields.text("certificate")?.filter(|pem| !pem.is_empty()) {
            check(&pem)?;
            pem.trim().clone_into(&mut self.certificate);
        }
        if self.certificate.is_empty() {
            return Err(Refusal::invalid("failed to parse certificate"));
        }
        for &field in PATTERNS {
            let Some(given) = fields.list(field)? else {
                continue;
            };
            let given: Vec<_> = given.into_iter().filter(|it| !it.is_empty()).collect();
            if PATTERNS_MAX < given.len() {
                return Err(Refusal::invalid(format!("{field} has too many entries")));
            }
            if field == "required_extensions" && !given.iter().all(|it| it.contains(':')) {
                return Err(Refusal::invalid(
                    "required_extensions are of the form `oid:value` or `hex:oid:value`",
                ));
            }
            self.patterns.insert(field.to_owned(), given);
        }
        refuse_ocsp(fields)?;
        if let Some(name) = fields.text("display_name")? {
            self.display_name = name;
        }
        if self.display_name.is_empty() {
            self.display_name.clone_from(&self.name);
        }
        self.token.update(fields)
    }

    pub fn shown(&self) -> Map<String, Value> {
        let mut data = self.token.shown();
        data.insert("certificate".into(), self.certificate.as_str().into());
        data.insert("display_name".into(), self.display_name.as_str().into());
        for &field in PATTERNS {
            data.insert(field.to_owned(), json!(self.patterns(field)));
        }
        data
    }
}

/// Refuses what asks for OCSP: who says it, and is not told, takes revoked certificates for refused. What
/// clients send with their defaults asks for nothing.
fn refuse_ocsp(fields: Fields<'_>) -> Result<(), Refusal> {
    let mut asked = Vec::new();
    for name in ["ocsp_enabled", "ocsp_query_all_servers"] {
        if fields.flag(name)? == Some(true) {
            asked.push(name);
        }
    }
    if fields
        .text("ocsp_ca_certificates")?
        .is_some_and(|it| !it.is_empty())
    {
        asked.push("ocsp_ca_certificates");
    }
    let servers = fields.list("ocsp_servers_override")?.unwrap_or_default();
    if servers.iter().any(|it| !it.is_empty()) {
        asked.push("ocsp_servers_override");
    }
    match asked.first() {
        None => Ok(()),
        Some(name) => Err(Refusal::invalid(format!(
            "{name}: OCSP is not asked at logins: give the authority's revocation list to `crls/`"
        ))),
    }
}

fn each(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Checks what an operator wants to trust.
fn check(pem: &str) -> Result<(), Refusal> {
    let found = Stranger::from_pem(pem)
        .map_err(|error| Refusal::invalid(format!("failed to parse certificate: {error}")))?;
    let first = found.first();
    if first.is_some_and(|it| !it.is_authority && !it.is_for_clients) {
        return Err(Refusal::invalid(
            "nonCA certificates should have TLS client authentication set as an extended key usage",
        ));
    }
    Ok(())
}

/// Returns whether a certificate has an extension of the form `oid:pattern`, its content an ASN.1
/// string, or `hex:oid:pattern`, its content in hexadecimal.
fn has_extension(leaf: &Stranger, required: &str) -> bool {
    let (is_hex, required) = match required.strip_prefix("hex:") {
        Some(rest) => (true, rest),
        None => (false, required),
    };
    let Some((oid, pattern)) = required.split_once(':') else {
        return false;
    };
    leaf.extensions.iter().any(|(found, content)| {
        found == oid
            && if is_hex {
                glob::is_match(&pattern.to_lowercase(), &HEXLOWER.encode(content))
            } else {
                string_content(content).is_some_and(|text| glob::is_match(pattern, text))
            }
    })
}

/// Returns a role.
pub(super) fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Role>, Refusal> {
    role::find(ctx, FOLDER, name)
}

/// Returns all roles, in the order of their names.
pub(super) fn all(ctx: &mut Context<'_, '_>) -> Result<Vec<Role>, Refusal> {
    let mut roles = Vec::new();
    for name in ctx.keys(FOLDER)?.iter().take(ROLES_MAX) {
        roles.extend(ctx.load::<Role>(&format!("{FOLDER}{name}"))?);
    }
    Ok(roles)
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
