//! Which names a role allows. Every name of a certificate passes here, wherever it came from: field,
//! request, or subject.

use std::net::IpAddr;

use bastide_pki::x509::{Oid, San};

use super::role::Compiled;
use crate::core::identity::EntityFacts;
use crate::core::refusal::Refusal;

/// Longest DNS name, in bytes (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
/// Longest label.
const LABEL_BYTES_MAX: usize = 63;

/// Who asks: what a role's templates stand for.
pub struct Asker<'a> {
    /// The token's display name.
    pub display_name: &'a str,
    /// The entity that the token belongs to.
    pub entity: Option<&'a EntityFacts>,
}

/// Returns whether `name` is a host's name, as DNS knows them, with or without a dot at its end.
pub fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = label.as_bytes();
    (1..=LABEL_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| is_letter(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| is_letter(*byte))
        && bytes.last().is_some_and(|byte| is_letter(*byte))
}

/// Returns the part after the first label of a name with a wildcard: one star, in the first label
/// (RFC 6125, section 6.4.3). `None` if there is no star; an error if it stands elsewhere.
fn wildcard(name: &str) -> Result<Option<&str>, ()> {
    if !name.contains('*') {
        return Ok(None);
    }
    let (label, rest) = name.split_once('.').ok_or(())?;
    let filled = label.replacen('*', "a", 1);
    if rest.contains('*') || !is_label(&filled) || !is_hostname(rest) {
        return Err(());
    }
    Ok(Some(rest))
}

/// Whether `text` fits `pattern`, in which each star stands for any letters, none too.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Fills templates; `None` if one stands for nothing, or for something that would widen what is allowed.
fn fill(text: &str, is_template: bool, asker: &Asker<'_>) -> Option<String> {
    if !is_template || !text.contains("{{") {
        return Some(text.to_owned());
    }
    let entity = asker.entity?;
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (template, after) = after.split_once("}}")?;
        let value = entity.value(template.trim())?;
        // A name that holds a star, a comma or a slash would be read as more than a name.
        let is_plain = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
        if !is_plain {
            return None;
        }
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Whether `name` is below `domain`.
fn is_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    name.strip_suffix(&domain)
        .is_some_and(|rest| 1 < rest.len() && rest.ends_with('.'))
}

/// Returns whether the role allows a DNS name, or an address of mail.
pub fn allows(compiled: &Compiled, name: &str, asker: &Asker<'_>) -> bool {
    let role = &compiled.role;
    let mail_domain = name.rsplit_once('@').map(|(_, domain)| domain);
    if let Some((user, domain)) = name.split_once('@')
        && (user.is_empty() || domain.contains('@') || !is_hostname(domain))
    {
        return false;
    }
    if mail_domain.is_some() && !role.email_protection_flag {
        return false;
    }
    // What is judged below domains: the host of a mailbox, the rest of a wildcard.
    let host = mail_domain.unwrap_or(name);
    let Ok(below_star) = wildcard(host) else {
        return false;
    };
    if below_star.is_some() && (!role.allow_wildcard_certificates || mail_domain.is_some()) {
        return false;
    }
    let is_host = below_star.is_some() || mail_domain.is_some() || is_hostname(name);
    if role.enforce_hostnames && !is_host {
        return false;
    }
    if role.allow_any_name {
        return true;
    }
    let is_mail = mail_domain.is_some();
    // The name itself: only if it has no star.
    let is_bare = |domain: &str| {
        name.eq_ignore_ascii_case(domain) || (is_mail && host.eq_ignore_ascii_case(domain))
    };
    // Below the domain; a star directly below it as well. Both only where subdomains are allowed:
    // a wildcard is one (CVE-2022-25243).
    let is_sub = |domain: &str| match below_star {
        Some(rest) => rest.eq_ignore_ascii_case(domain) || is_below(rest, domain),
        None => is_below(host, domain),
    };
    if role.allow_localhost {
        for local in ["localhost", "localdomain"] {
            if is_bare(local) || (role.allow_subdomains && is_sub(local)) {
                return true;
            }
        }
    }
    if role.allow_token_displayname
        && !asker.display_name.is_empty()
        && !asker.display_name.contains('*')
        && (is_bare(asker.display_name) || (role.allow_subdomains && is_sub(asker.display_name)))
    {
        return true;
    }
    role.allowed_domains.iter().any(|domain| {
        let Some(domain) = fill(domain, role.allowed_domains_template, asker) else {
            return false;
        };
        if domain.is_empty() {
            return false;
        }
        (role.allow_bare_domains && is_bare(&domain))
            || (role.allow_subdomains && is_sub(&domain))
            || (role.allow_glob_domains
                && domain.contains('*')
                && glob(&domain.to_ascii_lowercase(), &name.to_ascii_lowercase()))
    })
}

/// Returns whether a common name is of a form that the role accepts.
fn is_valid_common_name(compiled: &Compiled, name: &str) -> bool {
    let validations = &compiled.role.cn_validations;
    validations
        .iter()
        .any(|validation| match validation.as_str() {
            "disabled" => true,
            "email" => name
                .split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && is_hostname(host)),
            "hostname" => {
                !name.contains('@') && (is_hostname(name) || matches!(wildcard(name), Ok(Some(_))))
            }
            _ => false,
        })
}

/// Refuses a common name that the role does not allow.
pub fn check_common_name(
    compiled: &Compiled,
    name: &str,
    asker: &Asker<'_>,
) -> Result<(), Refusal> {
    if name.is_empty() {
        return Ok(());
    }
    // Where names are not looked at because operators say so, the text may be anything.
    let is_free = compiled.role.cn_validations == ["disabled"] && compiled.role.allow_any_name;
    if is_valid_common_name(compiled, name) && (is_free || allows(compiled, name, asker)) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "common name {name} not allowed by this role"
    )))
}

/// Refuses alternative names that the role does not allow.
pub fn check(compiled: &Compiled, names: &[San], asker: &Asker<'_>) -> Result<(), Refusal> {
    names.iter().try_for_each(|name| match name {
        San::Dns(text) => {
            if text.contains('@') || !allows(compiled, text, asker) {
                return Err(Refusal::invalid(format!(
                    "subject alternate name {text} not allowed by this role"
                )));
            }
            Ok(())
        }
        San::Email(text) => {
            if !text.contains('@') || !allows(compiled, text, asker) {
                return Err(Refusal::invalid(format!(
                    "email address {text} not allowed by this role"
                )));
            }
            Ok(())
        }
        San::Ip(address) => check_address(compiled, *address),
        San::Uri(text) => check_uri(compiled, text, asker),
        San::Other(oid, text) => check_other(compiled, oid, text),
    })
}

fn check_address(compiled: &Compiled, address: IpAddr) -> Result<(), Refusal> {
    if !compiled.role.allow_ip_sans {
        return Err(Refusal::invalid(format!(
            "IP Subject Alternative Names are not allowed in this role, but was provided {address}"
        )));
    }
    let networks = &compiled.networks;
    if !networks.is_empty() && !networks.iter().any(|net| net.contains(&address)) {
        return Err(Refusal::invalid(format!(
            "IP Subject Alternative Name {address} not allowed by this role"
        )));
    }
    Ok(())
}

fn check_uri(compiled: &Compiled, uri: &str, asker: &Asker<'_>) -> Result<(), Refusal> {
    let role = &compiled.role;
    if role.allowed_uri_sans.is_empty() {
        return Err(Refusal::invalid(
            "URI Subject Alternative Names are not allowed in this role, but were provided via the \
             API",
        ));
    }
    let has_scheme = uri.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    let is_uri = has_scheme && uri.bytes().all(|byte| byte.is_ascii_graphic());
    let is_allowed = role.allowed_uri_sans.iter().any(|pattern| {
        fill(pattern, role.allowed_uri_sans_template, asker)
            .is_some_and(|pattern| glob(&pattern, uri))
    });
    if is_uri && is_allowed {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "URI Subject Alternative Name {uri} not allowed by this role"
    )))
}

fn check_other(compiled: &Compiled, oid: &Oid, text: &str) -> Result<(), Refusal> {
    if compiled.role.allowed_other_sans == ["*"] {
        return Ok(());
    }
    let is_allowed = compiled
        .other_names
        .iter()
        .any(|(known, pattern)| known.as_ref() == Some(oid) && glob(pattern, text));
    if is_allowed {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "other SAN OID {oid} not allowed by this role"
    )))
}

/// Reads a name given as `oid;type:value`, where the type is `UTF8`.
pub fn other_name(text: &str) -> Result<San, Refusal> {
    let wrong = || {
        Refusal::invalid(format!(
            "expected an other SAN as oid;UTF8:value, but was provided {text}"
        ))
    };
    let (oid, value) = text.split_once(';').ok_or_else(wrong)?;
    let (kind, value) = value.split_once(':').ok_or_else(wrong)?;
    if !kind.eq_ignore_ascii_case("utf8") && !kind.eq_ignore_ascii_case("utf-8") {
        return Err(wrong());
    }
    let oid = oid.parse().map_err(|_| wrong())?;
    Ok(San::Other(oid, value.to_owned()))
}

#[cfg(test)]
mod tests;
