//! Whether issuers may certify a name, by the constraints in their own certificates (RFC 5280, section
//! 4.2.1.10).
//!
//! What is permitted is read narrowly and what is excluded widely, where those who check certificates
//! read differently: nothing is issued that some of them refuse, or that a constraint meant to prevent.

use std::fmt;
use std::net::IpAddr;

use bastide_pki::x509::oid::known;
use bastide_pki::x509::{
    AttributeValue, Constraints, Oid, San, Subtree, canonical_name, name_values,
};
use ipnet::IpNet;

use super::names::{glob, is_hostname};
use crate::core::refusal::Refusal;

/// Most constraints that a refusal names.
const TOLD_MAX: usize = 8;

/// What one issuer of a chain may certify.
pub struct Bound {
    /// What the issuer is called.
    pub issuer: String,
    /// Its constraints; `None` if they are of a form that is not read here.
    pub constraints: Option<Constraints>,
}

/// Refuses a certificate for this subject (a name in DER) and these alternative names, unless all of
/// `bounds` allow each of them.
pub fn judge(bounds: &[Bound], subject: &[u8], names: &[San]) -> Result<(), Refusal> {
    if bounds.is_empty() {
        return Ok(());
    }
    let presented = presented(subject, names)
        .map_err(|why| Refusal::invalid(format!("{why}, but an issuer has name constraints")))?;
    for bound in bounds {
        let issuer = &bound.issuer;
        let constraints = bound.constraints.as_ref().ok_or_else(|| {
            Refusal::invalid(format!(
                "issuer \"{issuer}\" has name constraints that cannot be read here: nothing is issued \
                 under them"
            ))
        })?;
        for name in &presented {
            name.held(constraints).map_err(|broken| {
                Refusal::invalid(match broken {
                    Broken::Excluded(by) => format!(
                        "{name} is excluded by the name constraint {by} of issuer \"{issuer}\""
                    ),
                    Broken::NotPermitted(by) => format!(
                        "{name} is not permitted by any name constraint of issuer \"{issuer}\": {by}"
                    ),
                    Broken::Unclear(why) => format!(
                        "{name} cannot be judged by the name constraints of issuer \"{issuer}\": {why}"
                    ),
                })
            })?;
        }
    }
    Ok(())
}

/// A name that a certificate is to hold.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    Dns(&'a str),
    /// A common name that programs take for a DNS name.
    CommonName(String),
    Email(&'a str),
    /// `emailAddress` of the subject.
    SubjectEmail(String),
    Uri(&'a str),
    Ip(IpAddr),
    /// The subject, in the form in which names can be compared.
    Subject(Vec<Vec<u8>>),
    Other(&'a Oid, &'a str),
}

impl fmt::Display for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS name \"{name}\""),
            Self::CommonName(name) => write!(f, "common name \"{name}\""),
            Self::Email(mailbox) => write!(f, "email address \"{mailbox}\""),
            Self::SubjectEmail(mailbox) => write!(f, "emailAddress \"{mailbox}\" of the subject"),
            Self::Uri(uri) => write!(f, "URI \"{uri}\""),
            Self::Ip(address) => write!(f, "IP address \"{address}\""),
            Self::Subject(_) => f.write_str("the subject's name"),
            Self::Other(oid, text) => write!(f, "other name \"{oid};UTF8:{text}\""),
        }
    }
}

/// How a name violates constraints.
enum Broken {
    Excluded(String),
    NotPermitted(String),
    Unclear(&'static str),
}

/// Collects every name that constraints are about; an error says why that cannot be done.
fn presented<'a>(subject: &[u8], names: &'a [San]) -> Result<Vec<Presented<'a>>, &'static str> {
    let unreadable = "the subject's name cannot be read";
    let mut found: Vec<Presented<'_>> = names
        .iter()
        .map(|name| match name {
            San::Dns(text) => Presented::Dns(text),
            San::Email(text) => Presented::Email(text),
            San::Uri(text) => Presented::Uri(text),
            San::Ip(address) => Presented::Ip(*address),
            San::Other(oid, text) => Presented::Other(oid, text),
        })
        .collect();
    let parts = name_values(subject).map_err(|_| unreadable)?;
    // A subject that says nothing is no name.
    if parts.is_empty() {
        return Ok(found);
    }
    let has_dns_name = names.iter().any(|name| matches!(name, San::Dns(_)));
    for value in parts.iter().flatten() {
        if value.oid == known::EMAIL_ADDRESS {
            let text = value.text().filter(|_| value.is_ia5());
            let text = text.ok_or("emailAddress of the subject is no IA5String")?;
            found.push(Presented::SubjectEmail(text));
        } else if value.oid == known::COMMON_NAME && !has_dns_name {
            // Only where there is no DNS name a common name may stand for one (RFC 6125, section 6.4.4).
            found.extend(common_name(value)?.map(Presented::CommonName));
        }
    }
    found.push(Presented::Subject(
        canonical_name(subject).map_err(|_| unreadable)?,
    ));
    Ok(found)
}

/// Returns a common name that programs take for a DNS name: labels with dots between them, and nothing
/// that cannot stand in them.
fn common_name(value: &AttributeValue<'_>) -> Result<Option<String>, &'static str> {
    let text = value.text().ok_or("the common name cannot be read")?;
    let text = text.trim_end_matches('\0');
    if text.contains('\0') {
        return Err("the common name holds a zero byte");
    }
    let below_star = text.strip_prefix("*.");
    let host = below_star.unwrap_or(text);
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_host = host.bytes().all(is_letter)
        && host
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    // A single label is a word.
    let is_name = is_host && (below_star.is_some() || host.contains('.'));
    Ok(is_name.then(|| text.to_owned()))
}

impl Presented<'_> {
    /// Judges the name by one issuer's constraints. Those of other kinds of names say nothing about it.
    fn held(&self, constraints: &Constraints) -> Result<(), Broken> {
        let permitted = self.those_of_its_kind(&constraints.permitted);
        let excluded = self.those_of_its_kind(&constraints.excluded);
        if permitted.is_empty() && excluded.is_empty() {
            return Ok(());
        }
        if let Some(why) = self.unclear() {
            return Err(Broken::Unclear(why));
        }
        if !permitted.is_empty() && !permitted.iter().any(|tree| self.is_within(tree)) {
            let mut words: Vec<String> =
                permitted.iter().take(TOLD_MAX).map(|it| told(it)).collect();
            if TOLD_MAX < permitted.len() {
                words.push(format!("and {} more", permitted.len() - TOLD_MAX));
            }
            return Err(Broken::NotPermitted(words.join(", ")));
        }
        match excluded.iter().find(|tree| self.touches(tree)) {
            Some(tree) => Err(Broken::Excluded(told(tree))),
            None => Ok(()),
        }
    }

    fn those_of_its_kind<'c>(&self, trees: &'c [Subtree]) -> Vec<&'c Subtree> {
        let is_of_kind = |tree: &&Subtree| match (self, tree) {
            (Self::Dns(_) | Self::CommonName(_), Subtree::Dns(_))
            | (Self::Email(_) | Self::SubjectEmail(_), Subtree::Email(_))
            | (Self::Uri(_), Subtree::Uri(_))
            | (Self::Ip(_), Subtree::Ip(..))
            | (Self::Subject(_), Subtree::Directory(_)) => true,
            (Self::Other(oid, _), Subtree::Other(kind, _)) => *oid == kind,
            // A mailbox, in a form of its own.
            (Self::Other(oid, _), Subtree::Email(_)) => oid.content() == known::SMTP_UTF8_MAILBOX,
            _ => false,
        };
        trees.iter().filter(is_of_kind).collect()
    }

    /// Says why constraints of its kind cannot be held against it, if that is so.
    fn unclear(&self) -> Option<&'static str> {
        match self {
            Self::Email(text) if !text.contains('@') => Some("it is no address of mail"),
            Self::SubjectEmail(text) if !text.contains('@') => Some("it is no address of mail"),
            // "When a constraint of this form is imposed on a URI that has no authority component in
            // which the host name is specified as a fully qualified domain name, the application MUST
            // reject the certificate."
            Self::Uri(uri) if host(uri).is_none() => {
                Some("it names no host by a domain name alone")
            }
            Self::Other(..) => Some("names of this kind are not compared here"),
            _ => None,
        }
    }

    /// Returns whether the name is in a permitted tree, for everybody who looks.
    fn is_within(&self, tree: &Subtree) -> bool {
        match (self, tree) {
            (Self::Dns(name), Subtree::Dns(base)) => is_dns_below(name, base),
            (Self::CommonName(name), Subtree::Dns(base)) => is_dns_below(name, base),
            (Self::Email(mailbox), Subtree::Email(base)) => is_mailbox_of(mailbox, base),
            (Self::SubjectEmail(mailbox), Subtree::Email(base)) => is_mailbox_of(mailbox, base),
            (Self::Uri(uri), Subtree::Uri(base)) => {
                host(uri).is_some_and(|host| is_host_of(host, base))
            }
            (Self::Ip(address), Subtree::Ip(network, length)) => {
                IpNet::new(*network, *length).is_ok_and(|network| network.contains(address))
            }
            (Self::Subject(parts), Subtree::Directory(base)) => {
                canonical_name(base).is_ok_and(|base| parts.starts_with(&base))
            }
            _ => false,
        }
    }

    /// Returns whether the name is in an excluded tree, for anybody who looks.
    fn touches(&self, tree: &Subtree) -> bool {
        // A dot at the end of a host's name says nothing.
        let bare = |text: &str| text.strip_suffix('.').unwrap_or(text).to_owned();
        match (self, tree) {
            (Self::Dns(name), Subtree::Dns(base)) => touches_dns(&bare(name), &bare(base)),
            (Self::CommonName(name), Subtree::Dns(base)) => touches_dns(&bare(name), &bare(base)),
            (Self::Email(mailbox), Subtree::Email(base)) => {
                base.is_empty() || is_mailbox_of(&bare(mailbox), &bare(base))
            }
            (Self::SubjectEmail(mailbox), Subtree::Email(base)) => {
                base.is_empty() || is_mailbox_of(&bare(mailbox), &bare(base))
            }
            (Self::Uri(uri), Subtree::Uri(base)) => {
                let is_of = |host: &str| is_host_of(&bare(host), &bare(base));
                base.is_empty() || host(uri).is_none_or(is_of)
            }
            // Some take an IPv4 address for the same in the form of IPv6.
            (Self::Ip(address), Subtree::Ip(network, length)) => {
                let mapped = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().into(),
                    IpAddr::V6(_) => address.to_canonical(),
                };
                let network = IpNet::new(*network, *length);
                network.is_ok_and(|it| it.contains(address) || it.contains(&mapped))
            }
            (Self::Subject(parts), Subtree::Directory(base)) => {
                canonical_name(base).map_or(true, |base| parts.starts_with(&base))
            }
            _ => true,
        }
    }
}

/// How a refusal names a constraint.
fn told(tree: &Subtree) -> String {
    match tree {
        Subtree::Dns(base) | Subtree::Email(base) | Subtree::Uri(base) => format!("\"{base}\""),
        Subtree::Ip(network, length) => format!("\"{network}/{length}\""),
        Subtree::Directory(name) => {
            let parts = name_values(name).unwrap_or_default();
            let words: Vec<String> = parts
                .iter()
                .flatten()
                .filter_map(AttributeValue::text)
                .collect();
            format!("\"{}\"", words.join(", "))
        }
        Subtree::Other(kind, _) => format!("on names of kind {kind}"),
    }
}

fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    text.len()
        .checked_sub(end.len())
        .is_some_and(|at| text[at..].eq_ignore_ascii_case(end))
}

/// "Any DNS name that can be constructed by simply adding zero or more labels to the left-hand side of
/// the name satisfies the name constraint." With a dot before it, one or more.
fn is_dns_below(name: &str, base: &str) -> bool {
    let is_on_border = || {
        let rest = name.len() - base.len();
        rest == 0 || base.starts_with('.') || name.as_bytes()[rest - 1] == b'.'
    };
    base.is_empty() || (ends_with(name, base) && is_on_border())
}

/// The same, and whether a wildcard can stand for the name that is meant or for one above others.
fn touches_dns(name: &str, base: &str) -> bool {
    let stands_for = || {
        let (label, rest) = name.split_once('.')?;
        let (first, above) = base.split_once('.')?;
        let fits = || glob(&label.to_ascii_lowercase(), &first.to_ascii_lowercase());
        Some(label.contains('*') && rest.eq_ignore_ascii_case(above) && fits())
    };
    is_dns_below(name, base) || stands_for() == Some(true)
}

/// Whether a mailbox is the one that `base` names, at the host that it names, or below the domain that
/// it names with a dot.
fn is_mailbox_of(mailbox: &str, base: &str) -> bool {
    let Some((local, host)) = mailbox.rsplit_once('@') else {
        return false;
    };
    match base.rsplit_once('@') {
        Some((wanted, base)) => {
            (wanted.is_empty() || wanted == local) && host.eq_ignore_ascii_case(base)
        }
        None => is_host_of(host, base),
    }
}

/// "When the constraint begins with a period, it MAY be expanded with one or more labels. [...] When the
/// constraint does not begin with a period, it specifies a host."
fn is_host_of(host: &str, base: &str) -> bool {
    if base.starts_with('.') {
        return base.len() < host.len() && ends_with(host, base);
    }
    !base.is_empty() && host.eq_ignore_ascii_case(base)
}

/// Returns the host that a URI names by a domain name (RFC 3986, section 3.2), if everybody finds the same
/// there: some take all before the first colon or slash for it, a user's name too.
fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    let end = rest.find(':').or_else(|| rest.find('/'));
    let is_plain = rest[..end.unwrap_or(rest.len())] == *host;
    (is_plain && is_hostname(host) && host.parse::<IpAddr>().is_err()).then_some(host)
}

#[cfg(test)]
mod tests;
