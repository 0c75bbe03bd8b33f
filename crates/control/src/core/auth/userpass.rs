//! The auth method `userpass`: a name and a password, hashed with Argon2id.

use std::collections::BTreeMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_api::Secret;
use serde::{Deserialize, Serialize};

use crate::core::engine::{Call, Context, Engine};
use crate::core::engines::identity::names::folded;
use crate::core::identity::Alias;
use crate::core::lockout;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::{Terms, TokenSettings};
use crate::core::tokens::Token;

/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Longest user name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The auth method.
pub struct Userpass;

/// A user, as it is stored.
#[derive(Serialize, Deserialize)]
struct User {
    salt: [u8; 16],
    hash: [u8; 32],
    token: TokenSettings,
}

/// Folds a user name into its one form, in which alone it is stored, compared and counted: neither
/// case nor a Unicode form nor white space makes a second name of it (CVE-2025-6004).
fn user_name(text: &str) -> Result<String, Refusal> {
    let name = folded(text);
    let plain = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    if name.is_empty() || NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::invalid("username is not valid"));
    }
    Ok(name)
}

fn at(name: &str) -> String {
    format!("user/{name}")
}

impl Engine for Userpass {
    fn kind(&self) -> &'static str {
        "userpass"
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path.starts_with("login/")
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["users", name] => Ok(Some(ctx.get(&at(&user_name(name)?))?.is_some())),
            _ => Ok(None),
        }
    }

    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        renewed(ctx, token)
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login", name]) => login(ctx, call, name),
            (List, ["users"]) => Answer::keys(ctx.list("user/")?),
            (Create | Update, ["users", name]) => write(ctx, call, &user_name(name)?),
            (Update, ["users", name, "password"]) => {
                let name = user_name(name)?;
                let mut user = existing(ctx, &name)?;
                (user.salt, user.hash) = hashed(ctx, call)?;
                ctx.save(&at(&name), &user)?;
                Ok(Answer::done())
            }
            (Update, ["users", name, "policies"]) => {
                let name = user_name(name)?;
                let mut user = existing(ctx, &name)?;
                user.token.update(call.fields())?;
                ctx.save(&at(&name), &user)?;
                Ok(Answer::done())
            }
            (Read, ["users", name]) => {
                let user: User = ctx.load(&at(&user_name(name)?))?.ok_or(Refusal::Absent)?;
                Ok(Answer::data(user.token.shown()))
            }
            (Delete, ["users", name]) => {
                ctx.delete(&at(&user_name(name)?));
                Ok(Answer::done())
            }
            (_, ["login" | "users", _] | ["users"]) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

/// Judges the renewal of a token: the user must be there, and grant what he granted then.
fn renewed(ctx: &mut Context<'_, '_>, token: &Token) -> Result<Option<Terms>, Refusal> {
    let meta = token.meta.as_ref();
    let name = meta.and_then(|meta| meta.get("username"));
    let name = name.map(String::as_str).unwrap_or_default();
    let user: Option<User> = ctx.load(&at(name))?;
    match user {
        Some(user) => user.token.terms_for(token).map(Some),
        None => Err(Refusal::invalid("user is gone, not renewing")),
    }
}

fn existing(ctx: &mut Context<'_, '_>, name: &str) -> Result<User, Refusal> {
    let user = ctx.load(&at(name))?;
    user.ok_or_else(|| Refusal::invalid("username does not exist"))
}

fn password(call: &Call<'_>) -> Result<Secret<Vec<u8>>, Refusal> {
    let text = call.fields().required("password")?;
    if PASSWORD_BYTES_MAX < text.len() {
        return Err(Refusal::invalid("password is too long"));
    }
    Ok(Secret::new(text.into_bytes()))
}

/// Hashes the password of a call. A decision made anew has the same randomness, so the salt is the
/// one that the work was done with.
fn hashed(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<([u8; 16], [u8; 32]), Refusal> {
    let password = password(call)?;
    let salt = ctx.entropy().bytes();
    let hash = ctx.password_key(password, salt)?.expose().as_slice();
    let hash = hash.try_into().expect("password keys have 32 bytes");
    Ok((salt, hash))
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let old: Option<User> = ctx.load(&at(name))?;
    let given = call.fields().get("password").is_some();
    let mut user = match (old, given) {
        (None, false) => return Err(Refusal::invalid("missing password")),
        (Some(user), false) => user,
        (old, true) => {
            let (salt, hash) = hashed(ctx, call)?;
            let token = old.map(|user| user.token).unwrap_or_default();
            User { salt, hash, token }
        }
    };
    user.token.update(call.fields())?;
    ctx.save(&at(name), &user)?;
    Ok(Answer::done())
}

/// Judges a name and a password: unknown names cost the same work as known ones.
fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let refused = || Refusal::invalid("invalid username or password");
    let password = password(call)?;
    let name = user_name(name).map_err(|_| refused())?;
    lockout::admit(ctx, &name)?;
    let user: Option<User> = ctx.load(&at(&name))?;
    let salt = user.as_ref().map_or([0; 16], |user| user.salt);
    let hash = ctx.password_key(password, salt)?;
    let expected = user.as_ref().map_or([0; 32], |user| user.hash);
    let equal = verify_slices_are_equal(hash.expose(), &expected).is_ok();
    let Some(user) = user.filter(|_| equal) else {
        lockout::failed(ctx, &name);
        return Err(refused());
    };
    lockout::succeeded(ctx, &name);
    let below = ctx
        .mount
        .path
        .as_str()
        .trim_start_matches("auth/")
        .trim_end_matches('/');
    let login = Login {
        alias: Some(Alias {
            name: name.clone(),
            ..Alias::default()
        }),
        metadata: BTreeMap::from([("username".to_owned(), name.clone())]),
        display_name: format!("{}-{name}", below.replace('/', "-")),
        ..user.token.login()
    };
    Ok(Reply::Login(Box::new(login)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_has_one_form() {
        assert_eq!(user_name("Ada").ok().as_deref(), Some("ada"));
        // Composed and decomposed, wide letters, a ligature, the Kelvin sign.
        for (one, other) in [
            ("zoe\u{308}", "ZO\u{cb}"),
            ("\u{ff41}da", "ada"),
            ("\u{fb01}nn", "finn"),
            ("\u{212a}urt", "kurt"),
        ] {
            assert_eq!(user_name(one).ok(), user_name(other).ok(), "{one:?}");
            assert!(user_name(one).is_ok());
        }
        for wrong in ["", "a b", "a/b", " ada", "a\n"] {
            assert!(user_name(wrong).is_err(), "{wrong:?} must be refused");
        }
    }
}
