//! Encryption as a service: keys that never leave, and what is done with them.
//!
//! ```text
//! keys/NAME        create, read, delete; config, rotate, trim, import, import_version
//! encrypt decrypt rewrap datakey sign verify hmac   /NAME, one item or a batch
//! export backup restore                             keys that may leave after all
//! hash random wrapping_key cache-config config/keys
//! ```

mod backup;
mod batch;
mod cache;
mod cipher;
mod decimal;
mod der;
mod export;
mod fault;
mod hashes;
mod import;
mod kind;
mod material;
mod named;
mod sign;
mod signatures;
mod stored;
mod texts;
pub(crate) mod tools;
mod used;

use serde_json::json;

use self::cache::Cache;
use self::kind::Kind;
use self::named::{Named, Wanted};
use self::stored::Config;
use crate::core::engine::{Call, Context, Engine};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::role::whole_secs;

/// What whoever names a key is told that is not there.
const NOT_FOUND: &str = "encryption key not found";
/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most keys that one pass of time rotates.
const ROTATED_MAX: usize = 16;
/// Shortest period of rotation, in seconds.
const ROTATE_SECS_MIN: u64 = 3600;

/// The engine `transit`.
#[derive(Default)]
pub struct Transit {
    cache: Cache,
}

impl Engine for Transit {
    fn kind(&self) -> &'static str {
        "transit"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            // Whoever may create encrypts under a key that is not there yet.
            ["encrypt", name] => Ok(Some(stored::ring(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn tends(&self) -> bool {
        true
    }

    fn tend(&self, ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
        let mut rotated = 0;
        for name in stored::due(ctx)? {
            if rotated == ROTATED_MAX {
                return Ok(true);
            }
            let named = Named::load(ctx, &self.cache, &name)?;
            let mut named = named.ok_or_else(|| Refusal::corrupt("key", "it is missing"))?;
            // RSA keys are slow work, which no pass of time does: their next use rotates them.
            if named.ring.kind.rsa_bits().is_none() {
                named.rotate(ctx)?;
                rotated += 1;
            }
        }
        Ok(false)
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Patch, Read, Update};
        let segments = call.segments();
        match (call.operation, &segments[..]) {
            (Create | Update, ["encrypt", name]) => self.encrypt(ctx, call, name),
            (Create | Update, ["decrypt", name]) => self.decrypt(ctx, call, name),
            (Create | Update, ["rewrap", name]) => self.rewrap(ctx, call, name),
            (Create | Update, ["datakey", what, name]) => self.datakey(ctx, call, what, name),
            (Create | Update, ["sign", name, rest @ ..]) if rest.len() < 2 => {
                self.sign(ctx, call, name, rest.first().copied())
            }
            (Create | Update, ["verify", name, rest @ ..]) if rest.len() < 2 => {
                self.verify(ctx, call, name, rest.first().copied())
            }
            (Create | Update, ["hmac", name, rest @ ..]) if rest.len() < 2 => {
                self.hmac(ctx, call, name, rest.first().copied())
            }
            (Create | Update, ["hash", rest @ ..]) if rest.len() < 2 => {
                tools::hash(call, rest.first().copied())
            }
            (Create | Update, ["random", rest @ ..]) => tools::random(ctx, call, rest),
            (List, ["keys"]) => Answer::keys(ctx.keys("ring/")?),
            (Create | Update, ["keys", name]) => self.create(ctx, call, name),
            (Read, ["keys", name]) => self.read(ctx, call, name),
            (Delete, ["keys", name]) => self.delete(ctx, name),
            (Create | Update, ["keys", name, "config"]) => self.configure(ctx, call, name),
            (Create | Update, ["keys", name, "rotate"]) => {
                let mut named = self.known(ctx, name, "key not found")?;
                named.rotate(ctx)?;
                Ok(Answer::data(named.shown(ctx, &[])?))
            }
            (Create | Update, ["keys", name, "trim"]) => self.trim(ctx, call, name),
            (Create | Update, ["keys", name, "import"]) => {
                check_name(name)?;
                import::import(ctx, &self.cache, call, name)
            }
            (Create | Update, ["keys", name, "import_version"]) => {
                let missing = format!(
                    "no key found with name {name}; to import a new key, use the import/ endpoint"
                );
                let named = self.known(ctx, name, &missing)?;
                import::import_version(ctx, call, named)
            }
            (Read, ["wrapping_key"]) => import::wrapping_key(ctx),
            (Read, ["export", what, name, rest @ ..]) if rest.len() < 2 => {
                let named = Named::load(ctx, &self.cache, name)?.ok_or(Refusal::Absent)?;
                named.export(ctx, call, what, rest.first().copied())
            }
            (Read, ["backup", name]) => {
                let named = Named::load(ctx, &self.cache, name)?;
                let missing = || Refusal::failed(format!("key {name:?} not found"));
                named.ok_or_else(missing)?.backup(ctx)
            }
            (Create | Update, ["restore", rest @ ..]) if rest.len() < 2 => {
                backup::restore(ctx, &self.cache, call, rest.first().copied())
            }
            (_, ["cache-config"]) | (_, ["config", "keys"]) => {
                settings(ctx, call, segments[0] == "config")
            }
            (Patch | List | Delete | Read | Create | Update, known) if is_known(known) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

/// Returns whether there is such a path, for some operation.
fn is_known(path: &[&str]) -> bool {
    match path {
        ["keys"] | ["hash"] | ["random"] | ["restore"] | ["wrapping_key"] => true,
        [
            "encrypt" | "decrypt" | "rewrap" | "sign" | "verify" | "hmac" | "backup",
            _,
        ] => true,
        ["keys", _] | ["datakey", _, _] | ["export", _, _] => true,
        ["keys", _, rest] => {
            ["config", "rotate", "trim", "import", "import_version"].contains(rest)
        }
        _ => false,
    }
}

/// Reads or writes the settings of the mount.
fn settings(ctx: &mut Context<'_, '_>, call: &Call<'_>, of_keys: bool) -> Result<Answer, Refusal> {
    let mut config: Config = ctx.load("config/keys")?.unwrap_or_default();
    match call.operation {
        Operation::Read => {}
        Operation::Create | Operation::Update => {
            if of_keys {
                if let Some(flag) = call.fields().flag("disable_upsert")? {
                    config.disable_upsert = flag;
                }
            } else {
                let size = call.fields().int("size")?.unwrap_or(0);
                // Vault's own bound: a smaller cache would be none.
                if size < 0 || 0 < size && size < 10 {
                    return Err(Refusal::invalid(
                        "size must be 0 or a value greater or equal to 10",
                    ));
                }
                config.cache_size = u32::try_from(size).unwrap_or(u32::MAX);
            }
            ctx.save("config/keys", &config)?;
            if !of_keys {
                return Ok(Answer::done());
            }
        }
        _ => return Err(Refusal::UnsupportedOperation),
    }
    Ok(Answer::json(if of_keys {
        json!({ "disable_upsert": config.disable_upsert })
    } else {
        json!({ "size": config.cache_size })
    }))
}

/// Refuses a name that no key can have: letters, digits and `_`, and `-` and `.` inside.
fn check_name(name: &str) -> Result<(), Refusal> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.chars().all(|c| is_word(c) || c == '-' || c == '.');
    if is_name {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "a key's name has at most {NAME_BYTES_MAX} letters, digits, `_`, and inside `-` and `.`"
    )))
}

/// Returns the kind that a field names; without one the default.
fn kind_of(name: &str) -> Result<Kind, Refusal> {
    if name.is_empty() {
        return Ok(Kind::Aes256Gcm96);
    }
    Kind::parse(&name.to_ascii_lowercase())
        .ok_or_else(|| Refusal::invalid(format!("unknown key type {name}")))
}

/// Reads the period of rotation, in seconds: none, or an hour and longer.
fn rotate_secs(fields: Fields<'_>) -> Result<Option<u64>, Refusal> {
    let secs = fields.duration("auto_rotate_period")?.map(whole_secs);
    match secs {
        Some(secs) if secs != 0 && secs < ROTATE_SECS_MIN => Err(Refusal::invalid(
            "auto rotate period must be 0 to disable or at least an hour",
        )),
        secs => Ok(secs),
    }
}

/// Refuses what a kind of key cannot be.
fn fits(kind: Kind, wanted: &Wanted) -> Result<(), Refusal> {
    if wanted.convergent && !wanted.derived {
        return Err(Refusal::invalid(
            "convergent encryption requires derivation to be enabled",
        ));
    }
    // A derived RSA key once crashed a server (GHSA-8w8f): there is none.
    if wanted.derived && !kind.derives() || wanted.convergent && !kind.is_aead() {
        return Err(Refusal::invalid(format!(
            "key derivation and convergent encryption not supported for keys of type {}",
            kind.name()
        )));
    }
    Ok(())
}

/// Reads what names itself a ciphertext, a signature or an HMAC, as requests do.
#[cfg(any(test, bastide_fuzz))]
pub(crate) fn judge_text(text: &str) {
    if let Ok(sealed) = cipher::Sealed::parse(text) {
        assert!(sealed.bytes.len() < text.len());
        let (version, body) = cipher::take_apart(text, "ciphertext").expect("it was just read");
        assert_eq!(version, sealed.version);
        assert!(text.ends_with(body));
    }
    for marshaling in [sign::Marshaling::Asn1, sign::Marshaling::Jws] {
        if let Ok((_, bytes)) = sign::parse_signature(text, marshaling) {
            let _ = der::is_ecdsa_signature(&bytes);
        }
    }
    let _ = der::public_of_pem(text);
    let _ = check_name(text);
}

/// Reads a backup; what is accepted is whole.
#[cfg(any(test, bastide_fuzz))]
pub(crate) fn judge_backup(json: &[u8]) {
    let _ = backup::Backup::parse(&data_encoding::BASE64.encode(json));
}

impl Transit {
    /// Reads a key that must be there.
    fn known(
        &self,
        ctx: &mut Context<'_, '_>,
        name: &str,
        missing: &str,
    ) -> Result<Named<'_>, Refusal> {
        Named::load(ctx, &self.cache, name)?.ok_or_else(|| Refusal::invalid(missing))
    }

    fn create(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        check_name(name)?;
        let fields = call.fields();
        let kind = kind_of(&fields.text("type")?.unwrap_or_default())?;
        let mut wanted = Wanted {
            derived: fields.flag("derived")?.unwrap_or(false),
            convergent: fields.flag("convergent_encryption")?.unwrap_or(false),
            exportable: fields.flag("exportable")?.unwrap_or(false),
            plaintext_backup: fields.flag("allow_plaintext_backup")?.unwrap_or(false),
            rotate_secs: rotate_secs(fields)?.unwrap_or(0),
            key_size: 32,
            ..Wanted::default()
        };
        fits(kind, &wanted)?;
        match fields.count("key_size")?.unwrap_or(0) {
            0 => {}
            _ if kind != Kind::Hmac => {
                return Err(Refusal::invalid(format!(
                    "key_size is not valid for algorithm {}",
                    kind.name()
                )));
            }
            size => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if !import::HMAC_BYTES.contains(&size) {
                    return Err(Refusal::invalid(format!("invalid key_size {size}")));
                }
                wanted.key_size = u32::try_from(size).unwrap_or(u32::MAX);
            }
        }
        if let Some(known) = Named::load(ctx, &self.cache, name)? {
            let shown = known.shown(ctx, &[])?;
            return Ok(Answer::data(shown).warn(format!("key {name} already existed")));
        }
        let mut named = Named::begin(ctx, &self.cache, name, kind, wanted);
        named.rotate(ctx)?;
        Ok(Answer::data(named.shown(ctx, &[])?))
    }

    fn read(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let named = Named::load(ctx, &self.cache, name)?.ok_or(Refusal::Absent)?;
        let context = call.fields().text("context")?.unwrap_or_default();
        let context = batch::base64(&context)
            .map_err(|_| Refusal::invalid("failed to base64-decode context"))?;
        Ok(Answer::data(named.shown(ctx, &context)?))
    }

    fn delete(&self, ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
        let refused = |why: &str| Refusal::invalid(format!("error deleting policy {name}: {why}"));
        let named = Named::load(ctx, &self.cache, name)?;
        let named = named.ok_or_else(|| refused("could not delete key; not found"))?;
        if !named.ring.deletion_allowed {
            return Err(refused("deletion is not allowed for this key"));
        }
        named.ring.remove(ctx, name);
        Ok(Answer::done())
    }

    fn configure(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let missing = format!("no existing key named {name} could be found");
        let mut named = self.known(ctx, name, &missing)?;
        let fields = call.fields();
        let refused = |text: String| Err(Refusal::Invalid(text));
        let ring = &mut named.ring;
        let mut warning = None;
        let version = |field: &str, what: &str, latest: u32| match fields.int(field)? {
            None => Ok(None),
            Some(number) if number < 0 => Err(Refusal::invalid(format!(
                "min {what} version cannot be negative"
            ))),
            Some(number) => match u32::try_from(number) {
                Ok(number) if number <= latest => Ok(Some(number)),
                _ => Err(Refusal::invalid(format!(
                    "cannot set min {what} version of {number}, latest key version is {latest}"
                ))),
            },
        };
        if let Some(number) = version("min_decryption_version", "decryption", ring.latest)? {
            if number == 0 {
                warning = Some(
                    "since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1",
                );
            }
            ring.decryption_min = number.max(1);
        }
        if let Some(number) = version("min_encryption_version", "encryption", ring.latest)? {
            ring.encryption_min = number;
        }
        let (encryption, decryption) = (ring.encryption_min, ring.decryption_min);
        if 0 < encryption && encryption < decryption {
            return refused(format!(
                "cannot set min encryption/decryption values; min encryption version of \
                 {encryption} must be greater than or equal to min decryption version of \
                 {decryption}"
            ));
        }
        if decryption < ring.available_min {
            return refused(
                "min decryption version should not be less then min available version".to_owned(),
            );
        }
        if let Some(flag) = fields.flag("deletion_allowed")? {
            ring.deletion_allowed = flag;
        }
        // What was once allowed to leave may have left: these two are never taken back.
        ring.exportable |= fields.flag("exportable")?.unwrap_or(false);
        ring.plaintext_backup |= fields.flag("allow_plaintext_backup")?.unwrap_or(false);
        if let Some(secs) = rotate_secs(fields)? {
            ring.rotate_secs = secs;
        }
        named.save(ctx)?;
        Ok(Answer::data(named.shown(ctx, &[])?).warned(warning))
    }

    fn trim(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let mut named = self.known(ctx, name, "invalid key name")?;
        let fields = call.fields();
        let asked = match fields.int("min_available_version")? {
            Some(number) => Some(number),
            None => fields.int("min_version")?,
        };
        let Some(asked) = asked else {
            return Err(Refusal::invalid("missing min_available_version"));
        };
        let ring = &mut named.ring;
        let refused = |text: &str| {
            Err(Refusal::invalid(format!(
                "minimum available version {text}"
            )))
        };
        let before = ring.available_min;
        if asked < 0 {
            return refused("cannot be negative");
        }
        let asked = u32::try_from(asked).unwrap_or(u32::MAX);
        if asked < before {
            return refused("cannot be decremented");
        }
        if ring.encryption_min == 0 {
            return refused("cannot be set when minimum encryption version is not set");
        }
        if ring.encryption_min < asked {
            return refused("cannot be greater than minmum encryption version");
        }
        if ring.decryption_min < asked {
            return refused("cannot be greater than minimum decryption version");
        }
        if asked == 0 {
            return refused("should be positive");
        }
        ring.available_min = asked;
        for number in before.max(1)..asked {
            stored::forget(ctx, name, number);
        }
        named.save(ctx)?;
        Ok(Answer::data(named.shown(ctx, &[])?))
    }
}

#[cfg(test)]
mod tests;
