//! What is revoked: certificates by number or key id, and keys, as a list that `sshd` reads (KRL).
//!
//! Certificates are not stored, so a number says nothing of how long it matters: what is revoked stays
//! so until somebody takes it off the list, unless the certificate itself was given and has ended.

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::UnixTime;
use bastide_pki::ssh::{KRL_BYTES_MAX, PublicKey, Revoked, read_certificate};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Raw, Reply};

/// Most things that are revoked at a time.
const REVOKED_MAX: usize = 20_000;
/// Longest key id that is revoked, in bytes.
const KEY_ID_BYTES_MAX: usize = 512;
/// Longest key id that its name in the list spells, in bytes.
const KEY_ID_BYTES_SPELT: usize = 256;
/// From how many on it is looked whether the list still fits: fewer do, however long their names.
const LOOKED_AT: usize = 4_096;
const PREFIX: &str = "revoked/";
const VERSION: &str = "krl";

/// Something revoked, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    what: What,
    /// When it was revoked.
    since: UnixTime,
    /// From when on it would be good for nothing anyway.
    #[serde(default)]
    until: Option<UnixTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// A certificate, by its number.
    Serial(u64),
    /// Certificates, by their key id.
    KeyId(String),
    /// A key, by the SHA-256 of it.
    Key([u8; 32]),
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Version {
    number: u64,
    changed: u64,
}

impl What {
    /// Returns the name it is listed under.
    fn id(&self) -> String {
        match self {
            Self::Serial(serial) => format!("serial-{serial:x}"),
            // A longer one would make a path of more than a path may have, and could not be deleted.
            Self::KeyId(id) if KEY_ID_BYTES_SPELT < id.len() => {
                let hash = digest(&SHA256, id.as_bytes());
                format!("id-sha256-{}", HEXLOWER.encode(hash.as_ref()))
            }
            Self::KeyId(id) => format!("id-{}", HEXLOWER.encode(id.as_bytes())),
            Self::Key(hash) => format!("key-{}", HEXLOWER.encode(hash)),
        }
    }

    fn shown(&self) -> serde_json::Value {
        match self {
            Self::Serial(serial) => json!({ "serial_number": format!("{serial:x}") }),
            Self::KeyId(id) => json!({ "key_id": id }),
            Self::Key(hash) => json!({ "key_sha256": HEXLOWER.encode(hash) }),
        }
    }
}

/// Returns whether a key is revoked.
pub fn is_key_revoked(ctx: &mut Context<'_, '_>, key: &PublicKey) -> Result<bool, Refusal> {
    let at = format!("{PREFIX}{}", What::Key(key.sha256()).id());
    Ok(ctx.get(&at)?.is_some())
}

pub fn add(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let given = |name| Ok::<_, Refusal>(fields.text(name)?.filter(|text| !text.is_empty()));
    let mut found: Vec<(What, Option<UnixTime>)> = Vec::new();
    if let Some(text) = given("serial_number")? {
        let wrong = || Refusal::invalid("serial_number is not a number in hexadecimal");
        let serial = u64::from_str_radix(&text, 16).map_err(|_| wrong())?;
        if serial == 0 {
            return Err(wrong());
        }
        found.push((What::Serial(serial), None));
    }
    if let Some(id) = given("key_id")? {
        if KEY_ID_BYTES_MAX < id.len() || id.chars().any(char::is_control) {
            return Err(Refusal::invalid("key_id is not valid"));
        }
        found.push((What::KeyId(id), None));
    }
    if let Some(text) = given("public_key")? {
        let key = PublicKey::parse(&text)
            .map_err(|error| Refusal::invalid(format!("public_key {error}")))?;
        found.push((What::Key(key.sha256()), None));
    }
    if let Some(text) = given("certificate")? {
        let wrong = || Refusal::invalid("certificate is no certificate of OpenSSH");
        let certificate = read_certificate(&text).ok_or_else(wrong)?;
        let ends = certificate.says.valid_before.saturating_mul(1000);
        let serial = certificate.says.serial;
        if serial == 0 {
            return Err(wrong());
        }
        found.push((What::Serial(serial), Some(UnixTime::from_millis(ends))));
    }
    let [(what, until)] = <[_; 1]>::try_from(found).map_err(|_| {
        Refusal::invalid(
            "give one of serial_number, key_id, public_key and certificate: what is to be revoked",
        )
    })?;
    let count = ctx.keys(PREFIX)?.len();
    if REVOKED_MAX <= count {
        prune(ctx)?;
        if REVOKED_MAX <= ctx.keys(PREFIX)?.len() {
            return Err(Refusal::invalid(format!(
                "{REVOKED_MAX} things are revoked already: take some off the list, or make another \
                 authority"
            )));
        }
    }
    let id = what.id();
    let at = format!("{PREFIX}{id}");
    // A certificate's word of its end, which nobody has proven, takes nothing off the list that is there.
    let known: Option<Entry> = ctx.load(&at)?;
    let until = match known {
        Some(known) => known.until.zip(until).map(|(one, other)| one.max(other)),
        None => until,
    };
    let entry = Entry {
        what,
        since: ctx.now(),
        until,
    };
    ctx.save(&at, &entry)?;
    let version = changed(ctx)?;
    // One that does not fit would keep all nodes from what else they ask for with it.
    if LOOKED_AT <= count {
        encoded(ctx)?;
    }
    Ok(Answer::json(json!({ "id": id, "krl_version": version })))
}

pub fn remove(ctx: &mut Context<'_, '_>, id: &str) -> Result<Answer, Refusal> {
    let at = format!("{PREFIX}{id}");
    if ctx.get(&at)?.is_some() {
        ctx.delete(&at);
        changed(ctx)?;
    }
    Ok(Answer::done())
}

pub fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let now = ctx.now();
    let mut info = Map::new();
    for (id, entry) in entries(ctx)? {
        if entry.until.is_none_or(|until| now < until) {
            let mut shown = entry.what.shown();
            shown["since"] = json!(entry.since);
            info.insert(id, shown);
        }
    }
    if info.is_empty() {
        return Err(Refusal::Absent);
    }
    let keys: Vec<&String> = info.keys().collect();
    Ok(Answer::json(json!({ "keys": keys, "key_info": info })))
}

fn entries(ctx: &mut Context<'_, '_>) -> Result<Vec<(String, Entry)>, Refusal> {
    let mut found = Vec::new();
    for id in ctx.keys(PREFIX)? {
        if let Some(entry) = ctx.load::<Entry>(&format!("{PREFIX}{id}"))? {
            found.push((id, entry));
        }
    }
    Ok(found)
}

/// Forgets what has ended by itself.
fn prune(ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
    let now = ctx.now();
    for (id, entry) in entries(ctx)? {
        if entry.until.is_some_and(|until| until <= now) {
            ctx.delete(&format!("{PREFIX}{id}"));
        }
    }
    Ok(())
}

fn changed(ctx: &mut Context<'_, '_>) -> Result<u64, Refusal> {
    let before: Version = ctx.load(VERSION)?.unwrap_or_default();
    let now = Version {
        number: before.number + 1,
        changed: ctx.now().as_millis() / 1000,
    };
    ctx.save(VERSION, &now)?;
    Ok(now.number)
}

/// Returns how often the list was changed.
pub fn version(ctx: &mut Context<'_, '_>) -> Result<u64, Refusal> {
    Ok(ctx.load::<Version>(VERSION)?.unwrap_or_default().number)
}

/// Returns the list.
pub fn encoded(ctx: &mut Context<'_, '_>) -> Result<Vec<u8>, Refusal> {
    let version: Version = ctx.load(VERSION)?.unwrap_or_default();
    let now = ctx.now();
    let mut list = Revoked {
        version: version.number,
        date: version.changed,
        ..Revoked::default()
    };
    for (_, entry) in entries(ctx)? {
        if entry.until.is_some_and(|until| until <= now) {
            continue;
        }
        match entry.what {
            What::Serial(serial) => drop(list.serials.insert(serial)),
            What::KeyId(id) => drop(list.key_ids.insert(id)),
            What::Key(hash) => drop(list.keys.insert(hash)),
        }
    }
    let bytes = list.encode();
    if KRL_BYTES_MAX < bytes.len() {
        return Err(Refusal::invalid(format!(
            "the revocation list would be longer than {KRL_BYTES_MAX} bytes: take some off it, or \
             make another authority"
        )));
    }
    Ok(bytes)
}

pub fn krl(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let raw = Raw {
        content_type: "application/octet-stream",
        body: encoded(ctx)?,
    };
    Ok(Reply::Raw(raw).into())
}
