//! Revocation lists that operators bring.
//!
//! As in Vault, a serial number that one of the lists names is refused whichever authority gave it out:
//! a list whose issuer is spelled differently from the certificate's would otherwise revoke nothing.

use bastide_pki::{decimal, revoked_serials};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::role;

/// Most lists of a mount: each is asked at each login.
const LISTS_MAX: usize = 64;

/// A list, as it is stored; what it lists stands in keys of its own.
#[derive(Serialize, Deserialize)]
struct List {
    revoked: usize,
}

fn at(name: &str) -> String {
    format!("crls/{name}")
}

fn below(name: &str) -> String {
    format!("revoked/{name}/")
}

fn folded(name: &str) -> Result<String, Refusal> {
    role::name(name).ok_or_else(|| Refusal::invalid("name of the list is not valid"))
}

/// Returns whether a list names one of these serial numbers.
pub(super) fn revokes(ctx: &mut Context<'_, '_>, serials: &[Vec<u8>]) -> Result<bool, Refusal> {
    for name in ctx.keys("crls/")? {
        for serial in serials {
            let serial = HEXLOWER.encode(serial);
            if ctx.get(&format!("{}{serial}", below(&name)))?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Takes a list, in place of the one of the same name.
pub(super) fn write(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let name = folded(name)?;
    let fields = call.fields();
    if fields.text("url")?.is_some_and(|url| !url.is_empty()) {
        return Err(Refusal::invalid(
            "lists are not fetched from a URL: give the list itself as `crl`",
        ));
    }
    let pem = fields.required("crl")?;
    let serials = revoked_serials(&pem)
        .map_err(|error| Refusal::invalid(format!("failed to parse CRL: {error}")))?;
    let is_new = ctx.get(&at(&name))?.is_none();
    if is_new && LISTS_MAX <= ctx.keys("crls/")?.len() {
        return Err(Refusal::invalid(format!(
            "a mount has at most {LISTS_MAX} lists"
        )));
    }
    clear(ctx, &name)?;
    for serial in &serials {
        let at = format!("{}{}", below(&name), HEXLOWER.encode(serial));
        ctx.put(&at, b"1".to_vec())?;
    }
    let list = List {
        revoked: serials.len(),
    };
    ctx.save(&at(&name), &list)?;
    Ok(Answer::done())
}

fn clear(ctx: &mut Context<'_, '_>, name: &str) -> Result<(), Refusal> {
    let below = below(name);
    for serial in ctx.keys(&below)? {
        ctx.delete(&format!("{below}{serial}"));
    }
    ctx.delete(&at(name));
    Ok(())
}

/// Shows what a list revokes, by serial number in decimal.
pub(super) fn read(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let name = folded(name)?;
    ctx.load::<List>(&at(&name))?.ok_or(Refusal::Absent)?;
    let mut serials = Map::new();
    for serial in ctx.keys(&below(&name))? {
        let bytes = HEXLOWER
            .decode(serial.as_bytes())
            .map_err(|error| Refusal::corrupt("serial number", error))?;
        serials.insert(decimal(&bytes), json!({}));
    }
    Ok(Answer::json(json!({ "serials": Value::Object(serials) })))
}

pub(super) fn delete(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let name = folded(name)?;
    if ctx.get(&at(&name))?.is_none() {
        return Err(Refusal::invalid(format!("no such CRL {name}")));
    }
    clear(ctx, &name)?;
    Ok(Answer::done())
}
