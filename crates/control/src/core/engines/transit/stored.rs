//! Named keys as they are stored.
//!
//! ```text
//! ring/<name>              -> Ring: settings, and which versions there are
//! version/<name>/<number>  -> Version: a version's key; the number in 8 hexadecimal digits
//! used/<name>/<number>     -> how often a version has encrypted, in whole blocks
//! due/<secs>/<name>        -> when a key is to be rotated; seconds in 16 hexadecimal digits
//! wrapping                 -> Wrapping: what imported keys are wrapped for
//! config/keys              -> Config of the mount
//! ```

use bastide_api::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::kind::Kind;
use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// Most versions of a key: beyond it, trim it.
pub(super) const VERSIONS_MAX: u32 = 2048;

/// A named key without its versions' keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "settings that clients know")]
pub(super) struct Ring {
    pub kind: Kind,
    /// Drawn anew whenever a version's key changes, so that nothing parsed outlives its key.
    pub epoch: u64,
    #[serde(default)]
    pub derived: bool,
    #[serde(default)]
    pub convergent: bool,
    #[serde(default)]
    pub exportable: bool,
    #[serde(default)]
    pub plaintext_backup: bool,
    #[serde(default)]
    pub deletion_allowed: bool,
    #[serde(default)]
    pub imported: bool,
    /// Whether an imported key may be rotated here.
    #[serde(default)]
    pub imported_rotates: bool,
    pub latest: u32,
    pub decryption_min: u32,
    /// 0: only the latest encrypts, unless another is asked for.
    pub encryption_min: u32,
    /// Versions before this one are gone.
    pub available_min: u32,
    /// In seconds; 0: never.
    #[serde(default)]
    pub rotate_secs: u64,
    /// When the latest version was made.
    pub rotated: UnixTime,
    /// Bytes of an `hmac` key.
    #[serde(default)]
    pub key_size: u32,
    #[serde(default)]
    pub backed_up: Option<Moment>,
    #[serde(default)]
    pub restored: Option<Moment>,
}

/// When something was done with the key, and at which version.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Moment {
    pub at: UnixTime,
    pub version: u32,
}

/// A version's key.
#[derive(Serialize, Deserialize)]
pub(super) struct Version {
    pub created: UnixTime,
    /// A symmetric key, an Ed25519 seed, or PKCS #8 in DER; empty if only the public half is known.
    #[serde(with = "base64")]
    pub private: Zeroizing<Vec<u8>>,
    /// The public half as SubjectPublicKeyInfo in DER; empty without one.
    #[serde(with = "base64")]
    pub public: Zeroizing<Vec<u8>>,
    /// The key of `hmac`.
    #[serde(with = "base64")]
    pub hmac: Zeroizing<Vec<u8>>,
}

/// The key that imported keys are wrapped for.
#[derive(Serialize, Deserialize)]
pub(super) struct Wrapping {
    #[serde(with = "base64")]
    pub private: Zeroizing<Vec<u8>>,
}

/// The settings of a mount.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub disable_upsert: bool,
    /// Most parsed keys that Vault would keep; told, and kept below ours.
    #[serde(default)]
    pub cache_size: u32,
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        bytes: &Zeroizing<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(BASE64.encode(bytes));
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        let bytes = BASE64.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| serde::de::Error::custom("not base64"))?;
        Ok(Zeroizing::new(bytes))
    }
}

pub(super) fn ring_at(name: &str) -> String {
    format!("ring/{name}")
}

pub(super) fn version_at(name: &str, number: u32) -> String {
    format!("version/{name}/{number:08x}")
}

pub(super) fn used_at(name: &str, number: u32) -> String {
    format!("used/{name}/{number:08x}")
}

fn due_at(name: &str, at: UnixTime) -> String {
    format!("due/{:016x}/{name}", at.as_secs())
}

pub(super) fn ring(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Ring>, Refusal> {
    ctx.load(&ring_at(name))
}

pub(super) fn version(
    ctx: &mut Context<'_, '_>,
    name: &str,
    number: u32,
) -> Result<Version, Refusal> {
    let found = ctx.load(&version_at(name, number))?;
    found.ok_or_else(|| Refusal::corrupt("key version", "it is missing"))
}

impl Ring {
    /// Returns when it is to be rotated next.
    pub(super) fn due(&self) -> Option<UnixTime> {
        let rotates = self.rotate_secs != 0 && (!self.imported || self.imported_rotates);
        let period = std::time::Duration::from_secs(self.rotate_secs);
        rotates.then(|| self.rotated.plus(period))
    }

    /// Writes the key over `before`, what it was, and its time of rotation.
    pub(super) fn save(
        &self,
        ctx: &mut Context<'_, '_>,
        name: &str,
        before: Option<&Self>,
    ) -> Result<(), Refusal> {
        let (was, is) = (before.and_then(Self::due), self.due());
        if was != is {
            if let Some(was) = was {
                ctx.delete(&due_at(name, was));
            }
            if let Some(is) = is {
                ctx.put(&due_at(name, is), Vec::new())?;
            }
        }
        ctx.save(&ring_at(name), self)
    }

    /// Deletes the key and its versions.
    pub(super) fn remove(&self, ctx: &mut Context<'_, '_>, name: &str) {
        if let Some(due) = self.due() {
            ctx.delete(&due_at(name, due));
        }
        for number in self.available_min.max(1)..=self.latest {
            forget(ctx, name, number);
        }
        ctx.delete(&ring_at(name));
    }
}

/// Deletes a version.
pub(super) fn forget(ctx: &mut Context<'_, '_>, name: &str, number: u32) {
    ctx.delete(&version_at(name, number));
    ctx.delete(&used_at(name, number));
}

/// Returns the names of keys whose time to rotate has come.
pub(super) fn due(ctx: &mut Context<'_, '_>) -> Result<Vec<String>, Refusal> {
    let now = format!("{:016x}", ctx.now().as_secs());
    let due = ctx.keys("due/")?;
    let names = due.iter().filter_map(|key| {
        let (at, name) = key.split_once('/')?;
        (at <= now.as_str()).then(|| name.to_owned())
    });
    Ok(names.collect())
}
