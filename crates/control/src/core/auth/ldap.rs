//! The auth method `ldap`: a name and a password that a directory knows.
//!
//! The directory is asked as slow work, beside decisions. What is to be asked is decided here, and so
//! is what an answer means; [`wire`] has the messages.
//!
//! Keys below the mount: `config`, `user/<name>`, `group/<name>`.

use std::collections::{BTreeMap, BTreeSet};

use bastide_api::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::auth::display_name;
use crate::core::engine::{Call, Context, Engine};
use crate::core::identity::Alias;
use crate::core::lockout;
use crate::core::outside::unwrapped;
use crate::core::refusal::{Refusal, Work};
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::Terms;
use crate::core::tokens::{self, Token};

mod ber;
mod config;
pub mod filter;
pub mod names;
pub mod wire;

pub use ber::message_length;
pub use config::{Config, Proof, Server, Tls, Versions};

/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Most policies or groups of a person or group.
const ENTRIES_MAX: usize = 256;
/// What whoever brings a wrong name or password is told, and not which of the two it was.
pub const WRONG: &str = "failed to bind as user";

/// The auth method.
pub struct Ldap;

/// What a directory is asked: who somebody is, and in which groups.
pub struct Directory {
    /// How the directory is reached, and how people stand in it.
    pub config: Config,
    /// The name.
    pub username: String,
    /// The password, never empty; `None`: it is asked about a name only.
    pub password: Option<Secret<String>>,
}

/// What a directory tells of somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The name of his entry.
    pub dn: String,
    /// What the entry's name attribute says.
    pub alias: String,
    /// The names of his groups.
    pub groups: Vec<String>,
}

/// What is known here of a person or a group, as it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    policies: Vec<String>,
    groups: Vec<String>,
}

impl Engine for Ldap {
    fn kind(&self) -> &'static str {
        "ldap"
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path.starts_with("login/")
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            [kind @ ("users" | "groups"), name] => {
                let at = at(ctx, kind, name)?;
                Ok(Some(ctx.get(&at)?.is_some()))
            }
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login", name]) => login(ctx, call, name),
            (Update, ["login"]) => {
                let name = call.fields().required("username")?;
                login(ctx, call, &name)
            }
            (Read, ["config"]) => {
                let config: Config = ctx.load("config")?.ok_or(Refusal::Absent)?;
                Ok(Answer::data(config.shown()))
            }
            (Update, ["config"]) => configure(ctx, call),
            (Delete, ["config"]) => {
                ctx.delete("config");
                Ok(Answer::done())
            }
            (List, ["users"]) => Answer::keys(ctx.list("user/")?),
            (List, ["groups"]) => Answer::keys(ctx.list("group/")?),
            (Read, [kind @ ("users" | "groups"), name]) => {
                let at = at(ctx, kind, name)?;
                let known: Known = ctx.load(&at)?.ok_or(Refusal::Absent)?;
                let mut shown = json!({ "policies": known.policies });
                if *kind == "users" {
                    shown["groups"] = known.groups.join(",").into();
                }
                Ok(Answer::json(shown))
            }
            (Create | Update, [kind @ ("users" | "groups"), name]) => {
                let at = at(ctx, kind, name)?;
                let known = Known {
                    policies: tokens::policies(&listed(call, "policies")?, true),
                    groups: listed(call, "groups")?,
                };
                ctx.save(&at, &known)?;
                Ok(Answer::done())
            }
            (Delete, [kind @ ("users" | "groups"), name]) => {
                let at = at(ctx, kind, name)?;
                ctx.delete(&at);
                Ok(Answer::done())
            }
            (_, ["login" | "config" | "users" | "groups"] | ["login" | "users" | "groups", _]) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    /// The directory is asked again about the name, if it may be asked without his password; what he
    /// may do must be as it was.
    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        let config: Config = ctx
            .load("config")?
            .ok_or_else(|| Refusal::invalid("ldap backend not configured"))?;
        let name = token.kept.get("username").cloned().unwrap_or_default();
        if config.finds_people() {
            let found = ask(ctx, &config, &name, None)?;
            let found = found.map_err(failed)?;
            let policies = policies(ctx, &config, &name, &found)?;
            let login = config.token.login();
            let now = [login.policies, policies].concat();
            if tokens::policies(&now, login.no_default_policy) != token.policies {
                return Err(Refusal::invalid("policies have changed, not renewing"));
            }
        }
        Ok(Some(config.token.terms()))
    }
}

fn failed(why: String) -> Refusal {
    Refusal::invalid(format!("ldap operation failed: {why}"))
}

fn listed(call: &Call<'_>, name: &str) -> Result<Vec<String>, Refusal> {
    let list = call.fields().list(name)?.unwrap_or_default();
    if ENTRIES_MAX < list.len() {
        return Err(Refusal::invalid(format!("{name} has too many entries")));
    }
    Ok(list)
}

/// Returns the one form of a name, under which it is stored and looked up.
fn folded(config: Option<&Config>, name: &str) -> String {
    if config.is_some_and(|config| config.case_sensitive_names) {
        name.to_owned()
    } else {
        names::folded(name)
    }
}

fn at(ctx: &mut Context<'_, '_>, kind: &str, name: &str) -> Result<String, Refusal> {
    if !names::is_plain(name) {
        return Err(Refusal::invalid("name is not valid"));
    }
    let config: Option<Config> = ctx.load("config")?;
    let kind = kind.trim_end_matches('s');
    Ok(format!("{kind}/{}", folded(config.as_ref(), name)))
}

fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut config: Config = ctx.load("config")?.unwrap_or_default();
    config.update(call.fields())?;
    ctx.save("config", &config)?;
    let answer = Answer::done();
    Ok(if config.sends_in_clear() {
        answer.warn(
            "passwords go over the network unencrypted: use `ldaps://` or `starttls=true`, and \
             `certificate`",
        )
    } else {
        answer
    })
}

fn ask(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    username: &str,
    password: Option<Secret<String>>,
) -> Result<Result<Found, String>, Refusal> {
    let directory = Directory {
        config: config.clone(),
        username: username.to_owned(),
        password,
    };
    let result = ctx.draft.work(Work::Directory(Box::new(directory)))?;
    match unwrapped(result) {
        Ok(found) => serde_json::from_slice(found)
            .map(Ok)
            .map_err(|error| Refusal::Internal(error.to_string())),
        Err(why) => Ok(Err(why.to_owned())),
    }
}

/// Returns what somebody may do by his name and his groups.
fn policies(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    name: &str,
    found: &Found,
) -> Result<Vec<String>, Refusal> {
    let user: Option<Known> = ctx.load(&format!("user/{}", folded(Some(config), name)))?;
    let user = user.unwrap_or_default();
    let mut all = user.policies;
    let groups: BTreeSet<String> = found
        .groups
        .iter()
        .chain(&user.groups)
        .map(|group| folded(Some(config), group))
        .collect();
    for group in groups {
        let known: Option<Known> = ctx.load(&format!("group/{group}"))?;
        all.extend(known.map(|known| known.policies).unwrap_or_default());
    }
    Ok(all)
}

fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let config: Config = ctx
        .load("config")?
        .ok_or_else(|| Refusal::invalid("ldap backend not configured"))?;
    let password = call.fields().text("password")?.unwrap_or_default();
    // RFC 4513, section 5.1.2: a bind with a name and no password is one of nobody, and succeeds.
    // Servers that allow it would let in whoever names somebody.
    if password.is_empty() {
        return Err(Refusal::invalid(
            "password cannot be of zero length when passwordless binds are being denied",
        ));
    }
    if PASSWORD_BYTES_MAX < password.len() || password.contains('\0') || !names::is_plain(name) {
        return Err(failed(WRONG.to_owned()));
    }
    let name = folded(Some(&config), name);
    // One lock for all spellings of a name, even where they are told apart otherwise.
    let counted = names::folded(&name);
    lockout::admit(ctx, &counted)?;
    let found = match ask(ctx, &config, &name, Some(Secret::new(password)))? {
        Ok(found) => found,
        Err(why) => {
            // A directory that does not answer has refused nobody.
            if why == WRONG {
                lockout::failed(ctx, &counted);
            }
            return Err(failed(why));
        }
    };
    lockout::succeeded(ctx, &counted);
    let policies = policies(ctx, &config, &name, &found)?;
    // Folded like the name that is typed, and as people's aliases are: or one that an operator made,
    // disabled perhaps, would be passed by (CVE-2021-41802 and its like).
    let alias = if config.username_as_alias {
        name.clone()
    } else {
        folded(Some(&config), &found.alias)
    };
    if !names::is_plain(&alias) {
        return Err(failed(
            "the directory's name of the user is not one".to_owned(),
        ));
    }
    let of_config = config.token.login();
    let login = Login {
        policies: [of_config.policies, policies].concat(),
        alias: Some(Alias {
            metadata: BTreeMap::from([("name".to_owned(), name.clone())]),
            name: alias,
        }),
        groups: found.groups,
        metadata: BTreeMap::from([("username".to_owned(), name.clone())]),
        kept: BTreeMap::from([("username".to_owned(), name.clone())]),
        display_name: display_name(&ctx.mount, &name),
        ..config.token.login()
    };
    Ok(Reply::Login(Box::new(login)).into())
}

/// Shows a map that was made of named fields.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made as an object"),
    }
}

#[cfg(test)]
mod tests;
