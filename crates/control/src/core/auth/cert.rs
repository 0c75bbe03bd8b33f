//! The auth method `cert`: a client certificate that the TLS handshake proved the key of.
//!
//! Keys below the mount:
//!
//! ```text
//!   config                   what holds for all roles
//!   cert/<name>              a role: which certificates it trusts, and what they must say
//!   crls/<name>              a revocation list's name, and how many it lists
//!   revoked/<name>/<serial>  a serial number that the list of this name revokes
//! ```
//!
//! A certificate of this cluster's own nodes never comes here: they are known by their identity.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use bastide_pki::{Stranger, decimal};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::core::auth::display_name;
use crate::core::engine::{Call, Context, Engine};
use crate::core::identity::Alias;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::Terms;
use crate::core::tokens::Token;

mod crl;
mod role;

use role::Role;

/// What whoever shows no certificate that is trusted is told.
const UNTRUSTED: &str = "invalid certificate or no client certificate supplied";
/// What whoever shows a trusted one is told that is revoked, or does not say what the role asks for.
const UNFIT: &str = "failed to match all constraints for this login certificate";

/// The auth method.
pub struct Cert;

/// What holds for all roles of a mount.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    /// Whether a token may be renewed with another certificate than it was made with.
    disable_binding: bool,
    enable_identity_alias_metadata: bool,
    enable_metadata_on_failures: bool,
    ocsp_cache_size: Option<u64>,
    role_cache_size: Option<u64>,
}

impl Engine for Cert {
    fn kind(&self) -> &'static str {
        "cert"
    }

    fn folds(&self, _call: &Call<'_>) -> bool {
        true
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path == "login"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["certs", name] => Ok(Some(role::find(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login"]) => login(ctx, call),
            (Read, ["config"]) => {
                let config: Config = ctx.load("config")?.unwrap_or_default();
                Ok(Answer::json(json!({
                    "disable_binding": config.disable_binding,
                    "enable_identity_alias_metadata": config.enable_identity_alias_metadata,
                    "enable_metadata_on_failures": config.enable_metadata_on_failures,
                    "ocsp_cache_size": config.ocsp_cache_size.unwrap_or(100),
                    "role_cache_size": config.role_cache_size.unwrap_or(200),
                })))
            }
            (Update, ["config"]) => configure(ctx, call),
            (List, ["certs"]) => Answer::keys(ctx.list(role::FOLDER)?),
            (Read, ["certs", name]) => {
                let role = role::find(ctx, name)?.ok_or(Refusal::Absent)?;
                Ok(Answer::data(role.shown()))
            }
            (Create | Update, ["certs", name]) => role::write(ctx, call, name),
            (Delete, ["certs", name]) => {
                role::delete(ctx, name);
                Ok(Answer::done())
            }
            (List, ["crls"]) => Answer::keys(ctx.list("crls/")?),
            (Read, ["crls", name]) => crl::read(ctx, name),
            (Update, ["crls", name]) => crl::write(ctx, call, name),
            (Delete, ["crls", name]) => crl::delete(ctx, name),
            (_, ["login" | "config" | "certs" | "crls"] | ["certs" | "crls", _]) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    /// The same certificate must be shown as at the login, and still be good for the role.
    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        let config: Config = ctx.load("config")?.unwrap_or_default();
        let name = token.kept.get("cert_name").cloned().unwrap_or_default();
        let role = role::find(ctx, &name)?
            .ok_or_else(|| Refusal::invalid(format!("certificate role \"{name}\" is gone")))?;
        if !config.disable_binding {
            let shown = shown(ctx)?;
            // CVE-2024-2048 and CVE-2026-39388: fields that two certificates can share are not enough.
            let same = token.kept.get("certificate") == Some(&fingerprint(&shown.leaf));
            if !same {
                return Err(Refusal::invalid(
                    "client identity during renewal not matching client identity used during login",
                ));
            }
            if judge(ctx, &shown, &role)? != Judged::Good {
                return Err(Refusal::invalid(UNFIT));
            }
        }
        role.token.terms_for(token).map(Some)
    }
}

fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut config: Config = ctx.load("config")?.unwrap_or_default();
    for (field, name) in [
        (&mut config.disable_binding, "disable_binding"),
        (
            &mut config.enable_identity_alias_metadata,
            "enable_identity_alias_metadata",
        ),
        (
            &mut config.enable_metadata_on_failures,
            "enable_metadata_on_failures",
        ),
    ] {
        if let Some(flag) = fields.flag(name)? {
            *field = flag;
        }
    }
    for (field, name) in [
        (&mut config.ocsp_cache_size, "ocsp_cache_size"),
        (&mut config.role_cache_size, "role_cache_size"),
    ] {
        if let Some(size) = fields.count(name)? {
            *field = Some(size);
        }
    }
    ctx.save("config", &config)?;
    Ok(Answer::done())
}

/// What a client shows.
struct Shown {
    leaf: Stranger,
    between: Vec<Vec<u8>>,
}

/// Reads what the client shows, and checks that it is good now.
fn shown(ctx: &Context<'_, '_>) -> Result<Shown, Refusal> {
    let presented = ctx.peer.presented.as_ref();
    let presented =
        presented.ok_or_else(|| Refusal::invalid("client certificate must be supplied"))?;
    let untrusted = || Refusal::invalid(UNTRUSTED);
    let (leaf, between) = presented.chain.split_first().ok_or_else(untrusted)?;
    let leaf = Stranger::parse(leaf).map_err(|_| untrusted())?;
    if !leaf.is_good_at(ctx.now()) {
        return Err(untrusted());
    }
    Ok(Shown {
        leaf,
        between: between.to_vec(),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// It is trusted, not revoked, and says what the role asks for.
    Good,
    /// It is trusted, but not all of the rest.
    Unfit,
    /// It is not trusted by the role.
    Untrusted,
}

/// Judges a certificate by a role.
fn judge(ctx: &mut Context<'_, '_>, shown: &Shown, role: &Role) -> Result<Judged, Refusal> {
    let trusted = role.certificates()?;
    let leaf = &shown.leaf;
    // A certificate that is trusted by itself is trusted as a whole: one of the same authority, name,
    // serial or even key is another one (CVE-2025-6037).
    let serials = if trusted.iter().any(|it| it.der() == leaf.der()) {
        vec![leaf.serial.clone()]
    } else {
        match leaf.chains_to(&trusted, &shown.between, ctx.now()) {
            Some(serials) => serials,
            None => return Ok(Judged::Untrusted),
        }
    };
    if !role.fits(leaf) || crl::revokes(ctx, &serials)? {
        return Ok(Judged::Unfit);
    }
    Ok(Judged::Good)
}

fn fingerprint(leaf: &Stranger) -> String {
    HEXLOWER.encode(digest(&SHA256, leaf.der()).as_ref())
}

fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let shown = shown(ctx)?;
    let wanted = call.fields().text("name")?.filter(|name| !name.is_empty());
    let roles = match wanted {
        Some(name) => role::find(ctx, &name)?.into_iter().collect(),
        None => role::all(ctx)?,
    };
    let mut worst = UNTRUSTED;
    for role in roles {
        match judge(ctx, &shown, &role)? {
            Judged::Good => return Ok(granted(ctx, &shown.leaf, &role)?.into()),
            Judged::Unfit => worst = UNFIT,
            Judged::Untrusted => {}
        }
    }
    Err(Refusal::invalid(worst))
}

/// Bytes as pairs of hexadecimal digits between colons.
fn with_colons(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(3 * bytes.len());
    for byte in bytes {
        let colon = if text.is_empty() { "" } else { ":" };
        write!(text, "{colon}{byte:02x}").expect("a string takes all");
    }
    text
}

fn granted(ctx: &mut Context<'_, '_>, leaf: &Stranger, role: &Role) -> Result<Reply, Refusal> {
    let config: Config = ctx.load("config")?.unwrap_or_default();
    let name = leaf.common_name.as_str();
    // A name that reads like another one on a terminal or in a log is nobody's.
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err(Refusal::invalid(UNFIT));
    }
    let mut metadata = BTreeMap::from([
        ("cert_name".to_owned(), role.name.clone()),
        ("common_name".to_owned(), name.to_owned()),
        ("serial_number".to_owned(), decimal(&leaf.serial)),
        (
            "subject_key_id".to_owned(),
            with_colons(&leaf.subject_key_id),
        ),
        (
            "authority_key_id".to_owned(),
            with_colons(&leaf.authority_key_id),
        ),
    ]);
    metadata.extend(role.extension_metadata(leaf));
    let alias = (!name.is_empty()).then(|| Alias {
        name: name.to_owned(),
        metadata: if config.enable_identity_alias_metadata {
            metadata.clone()
        } else {
            BTreeMap::new()
        },
    });
    let login = Login {
        alias,
        metadata,
        kept: BTreeMap::from([
            ("cert_name".to_owned(), role.name.clone()),
            ("certificate".to_owned(), fingerprint(leaf)),
        ]),
        display_name: display_name(&ctx.mount, &role.display_name),
        ..role.token.login()
    };
    Ok(Reply::Login(Box::new(login)))
}

#[cfg(test)]
mod tests;
