//! How a directory is reached, and how people and groups stand in it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::filter::{FILTER_BYTES_MAX, Filter};
use super::names::{dn_value, filled, filter_value};
use super::object;
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::role::{TokenSettings, whole_secs};

/// Longest text of a field, in bytes; certificates may be longer.
const TEXT_BYTES_MAX: usize = 4096;
const PEM_BYTES_MAX: usize = 256 << 10;
/// Most servers that are tried.
const SERVERS_MAX: usize = 8;
/// Longest time that a directory is waited for, in seconds.
const SECS_MAX: u64 = 90;

/// The configuration, as it is stored. Times are in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "clients name each of them")]
pub struct Config {
    url: String,
    userdn: String,
    userattr: String,
    userfilter: String,
    upndomain: String,
    groupdn: String,
    groupattr: String,
    groupfilter: String,
    /// The name that people are looked for under, and its password.
    pub binddn: String,
    /// Never shown.
    pub bindpass: String,
    discoverdn: bool,
    starttls: bool,
    /// What the server's certificate must chain to, or be; empty: what this host trusts.
    pub certificate: String,
    tls_min_version: String,
    tls_max_version: String,
    /// Whether names differ by case.
    pub case_sensitive_names: bool,
    /// Whether groups are looked for without a name.
    pub anonymous_group_search: bool,
    /// Whether people are known by the name that they type.
    pub username_as_alias: bool,
    /// How long an answer may take.
    pub request_timeout: u64,
    /// How long a connection may take.
    pub connection_timeout: u64,
    /// What tokens are like.
    pub token: TokenSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "ldap://127.0.0.1".to_owned(),
            userdn: String::new(),
            userattr: "cn".to_owned(),
            userfilter: "({{.UserAttr}}={{.Username}})".to_owned(),
            upndomain: String::new(),
            groupdn: String::new(),
            groupattr: "cn".to_owned(),
            groupfilter:
                "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))"
                    .to_owned(),
            binddn: String::new(),
            bindpass: String::new(),
            discoverdn: false,
            starttls: false,
            certificate: String::new(),
            tls_min_version: "tls12".to_owned(),
            tls_max_version: "tls13".to_owned(),
            case_sensitive_names: false,
            anonymous_group_search: false,
            username_as_alias: false,
            request_timeout: 90,
            connection_timeout: 30,
            token: TokenSettings::default(),
        }
    }
}

/// A server of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: Tls,
}

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    No,
    /// From its first byte.
    First,
    /// After asking for it.
    Start,
}

/// Which versions of TLS are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 alone.
    Tls12,
    /// 1.3 alone.
    Tls13,
    /// Both.
    Both,
}

/// Whose name a person's password is tried under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// That of the one entry which this search finds below `userdn`.
    Search(Filter),
    /// This one.
    Name(String),
}

/// Fields that would make things less secure, or that are not served, and what to do instead.
const UNSERVED: &[(&str, &str)] = &[
    (
        "insecure_tls",
        "a server that proves nothing could be anybody: give its certificate as `certificate`",
    ),
    ("use_token_groups", "groups are found by `groupfilter`"),
    (
        "enable_samaccountname_login",
        "people are found by `userattr` and `userfilter`",
    ),
];

impl Config {
    /// Takes in the fields that are given.
    pub fn update(&mut self, fields: Fields<'_>) -> Result<(), Refusal> {
        for (field, name) in [
            (&mut self.url, "url"),
            (&mut self.userdn, "userdn"),
            (&mut self.userattr, "userattr"),
            (&mut self.userfilter, "userfilter"),
            (&mut self.upndomain, "upndomain"),
            (&mut self.groupdn, "groupdn"),
            (&mut self.groupattr, "groupattr"),
            (&mut self.groupfilter, "groupfilter"),
            (&mut self.binddn, "binddn"),
            (&mut self.bindpass, "bindpass"),
            (&mut self.tls_min_version, "tls_min_version"),
            (&mut self.tls_max_version, "tls_max_version"),
            (&mut self.certificate, "certificate"),
        ] {
            if let Some(text) = fields.text(name)? {
                let bytes_max = match name {
                    "certificate" => PEM_BYTES_MAX,
                    _ => TEXT_BYTES_MAX,
                };
                if bytes_max < text.len() || text.contains('\0') {
                    return Err(Refusal::invalid(format!("{name} is not valid")));
                }
                *field = text;
            }
        }
        for (field, name) in [
            (&mut self.discoverdn, "discoverdn"),
            (&mut self.starttls, "starttls"),
            (&mut self.case_sensitive_names, "case_sensitive_names"),
            (&mut self.anonymous_group_search, "anonymous_group_search"),
            (&mut self.username_as_alias, "username_as_alias"),
        ] {
            if let Some(flag) = fields.flag(name)? {
                *field = flag;
            }
        }
        for (field, name) in [
            (&mut self.request_timeout, "request_timeout"),
            (&mut self.connection_timeout, "connection_timeout"),
        ] {
            if let Some(time) = fields.duration(name)? {
                *field = whole_secs(time).clamp(1, SECS_MAX);
            }
        }
        for (name, instead) in UNSERVED {
            if fields.flag(name)? == Some(true) {
                return Err(Refusal::invalid(format!("{name} is not served: {instead}")));
            }
        }
        if fields.flag("deny_null_bind")? == Some(false) {
            return Err(Refusal::invalid(
                "deny_null_bind cannot be false: a bind without password proves nothing",
            ));
        }
        for name in ["client_tls_cert", "client_tls_key"] {
            if fields.text(name)?.is_some_and(|text| !text.is_empty()) {
                return Err(Refusal::invalid(format!("{name} is not served")));
            }
        }
        self.token.update(fields)?;
        self.userattr.make_ascii_lowercase();
        self.check()
    }

    fn check(&self) -> Result<(), Refusal> {
        let refused = |why: &str| Err(Refusal::invalid(why));
        if self.servers().is_none() {
            return refused("url is not one or several of `ldap://host` or `ldaps://host`");
        }
        let known = ["tls12", "tls13"];
        for version in [&self.tls_min_version, &self.tls_max_version] {
            if !known.contains(&version.as_str()) {
                return refused("tls_min_version and tls_max_version are tls12 or tls13");
            }
        }
        if self.tls_max_version < self.tls_min_version {
            return refused("'tls_max_version' must be greater than or equal to 'tls_min_version'");
        }
        if Filter::parse(&format!("({}=x)", self.userattr)).is_err() {
            return refused("userattr is no attribute");
        }
        if self.user_filter("x").is_none() {
            return refused("userfilter is no filter with {{.UserAttr}} and {{.Username}}");
        }
        if self.group_filter("x", "cn=x").is_none() {
            return refused("groupfilter is no filter with {{.Username}} and {{.UserDN}}");
        }
        if !self.binddn.is_empty() && self.bindpass.is_empty() {
            return refused("binddn needs a bindpass");
        }
        Ok(())
    }

    /// Returns the servers, in the order in which they are tried.
    pub fn servers(&self) -> Option<Vec<Server>> {
        let urls: Vec<&str> = self.url.split(',').map(str::trim).collect();
        if SERVERS_MAX < urls.len() {
            return None;
        }
        urls.into_iter().map(|url| self.server(url)).collect()
    }

    fn server(&self, url: &str) -> Option<Server> {
        let (rest, tls, port) = match url.split_once("://")? {
            ("ldap", rest) if self.starttls => (rest, Tls::Start, 389),
            ("ldap", rest) => (rest, Tls::No, 389),
            ("ldaps", rest) => (rest, Tls::First, 636),
            _ => return None,
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                match after.strip_prefix(':') {
                    Some(given) => (host, given.parse().ok()?),
                    None if after.is_empty() => (host, port),
                    None => return None,
                }
            }
            None => match rest.split_once(':') {
                Some((host, given)) => (host, given.parse().ok()?),
                None => (rest, port),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        (!host.is_empty() && host.chars().all(plain)).then(|| Server {
            host: host.to_owned(),
            port,
            tls,
        })
    }

    /// Returns whether a password would be read by whoever sees the network.
    pub fn sends_in_clear(&self) -> bool {
        let is_here = |host: &str| {
            host == "localhost"
                || host
                    .parse()
                    .is_ok_and(|it: std::net::IpAddr| it.is_loopback())
        };
        let servers = self.servers().unwrap_or_default();
        servers
            .iter()
            .any(|server| server.tls == Tls::No && !is_here(&server.host))
    }

    /// Returns which versions of TLS are spoken.
    pub fn tls_versions(&self) -> Versions {
        match (self.tls_min_version.as_str(), self.tls_max_version.as_str()) {
            ("tls12", "tls12") => Versions::Tls12,
            ("tls12", _) => Versions::Both,
            _ => Versions::Tls13,
        }
    }

    /// Returns whether people can be looked for without their own password.
    pub fn finds_people(&self) -> bool {
        !self.binddn.is_empty() || self.discoverdn
    }

    fn user_filter(&self, username: &str) -> Option<Filter> {
        let escaped = filter_value(username);
        let values = [("UserAttr", self.userattr.as_str()), ("Username", &escaped)];
        Filter::parse(&filled(&self.userfilter, &values)?).ok()
    }

    /// Returns the filter of the groups that somebody is in.
    pub fn group_filter(&self, username: &str, dn: &str) -> Option<Filter> {
        // A name of an entry that is longer than a filter may be is in no filter.
        if FILTER_BYTES_MAX < dn.len() {
            return None;
        }
        let (username, dn) = (filter_value(username), filter_value(dn));
        let values = [("Username", username.as_str()), ("UserDN", &dn)];
        Filter::parse(&filled(&self.groupfilter, &values)?).ok()
    }

    /// Returns whose name a person's password is tried under.
    pub fn proof(&self, username: &str) -> Option<Proof> {
        if self.finds_people() {
            return self.user_filter(username).map(Proof::Search);
        }
        if !self.upndomain.is_empty() {
            return Some(Proof::Name(format!("{username}@{}", self.upndomain)));
        }
        Some(Proof::Name(format!(
            "{}={},{}",
            self.userattr,
            dn_value(username),
            self.userdn
        )))
    }

    /// Returns the filter that finds the entry of somebody who has proven his name of the form
    /// `name@domain`; `None` if names are not of that form.
    pub fn principal_filter(&self, username: &str) -> Option<Filter> {
        if self.upndomain.is_empty() {
            return None;
        }
        let principal = filter_value(&format!("{username}@{}", self.upndomain));
        Filter::parse(&format!("(userPrincipalName={principal})")).ok()
    }

    /// Returns where people are looked for.
    pub fn user_base(&self) -> &str {
        &self.userdn
    }

    /// Returns the attribute that names people.
    pub fn user_attribute(&self) -> &str {
        &self.userattr
    }

    /// Returns where groups are looked for, unless they are not.
    pub fn group_base(&self) -> Option<&str> {
        Some(self.groupdn.as_str()).filter(|base| !base.is_empty())
    }

    /// Returns the attribute that names groups.
    pub fn group_attribute(&self) -> &str {
        &self.groupattr
    }

    /// Returns the fields as they are read back: without the password.
    pub fn shown(&self) -> Map<String, Value> {
        let mut data = self.token.shown();
        data.extend(object(json!({
            "url": self.url,
            "userdn": self.userdn,
            "userattr": self.userattr,
            "userfilter": self.userfilter,
            "upndomain": self.upndomain,
            "groupdn": self.groupdn,
            "groupattr": self.groupattr,
            "groupfilter": self.groupfilter,
            "binddn": self.binddn,
            "discoverdn": self.discoverdn,
            "deny_null_bind": true,
            "starttls": self.starttls,
            "insecure_tls": false,
            "certificate": self.certificate,
            "tls_min_version": self.tls_min_version,
            "tls_max_version": self.tls_max_version,
            "case_sensitive_names": self.case_sensitive_names,
            "anonymous_group_search": self.anonymous_group_search,
            "use_token_groups": false,
            "username_as_alias": self.username_as_alias,
            "request_timeout": self.request_timeout,
            "connection_timeout": self.connection_timeout,
        })));
        data
    }
}
