//! Backups, in the form of Vault and OpenBao: base64 of JSON with the policy and its archive.
//!
//! What Go writes of its own types stands in them: large numbers in decimal, RSA keys with the
//! values that were computed of them, Ed25519 keys of 64 bytes.

use std::collections::BTreeMap;

use bastide_api::UnixTime;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use super::batch::base64;
use super::cache::Cache;
use super::kind::Kind;
use super::material;
use super::named::{Named, Wanted};
use super::stored::{self, Moment, VERSIONS_MAX, Version};
use super::{decimal, der, export};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, timestamp};

/// Longest backup that is read, in bytes of base64.
const BACKUP_BYTES_MAX: usize = 2 << 20;
/// The number of HKDF-SHA256 among Vault's ways to derive keys.
const KDF_HKDF: u64 = 1;
/// The version of convergent encryption that is known here.
const CONVERGENT: i64 = 3;
/// How Go writes the time that nothing was set to.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// The most that a period of rotation is, in seconds: 200 years.
const ROTATE_SECS_MAX: u64 = 200 * 365 * 86_400;

#[derive(Serialize, Deserialize)]
struct KeyData {
    policy: Policy,
    archived_keys: Option<Archive>,
}

#[derive(Default, Serialize, Deserialize)]
struct Archive {
    keys: Option<Vec<Entry>>,
}

#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "Vault's fields")]
struct Policy {
    name: String,
    keys: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    kdf: u64,
    #[serde(default)]
    convergent_encryption: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    min_decryption_version: u32,
    #[serde(default)]
    min_encryption_version: u32,
    latest_version: u32,
    #[serde(default)]
    archive_version: u32,
    #[serde(default)]
    archive_min_version: u32,
    #[serde(default)]
    min_available_version: u32,
    #[serde(default)]
    deletion_allowed: bool,
    #[serde(default)]
    convergent_version: i64,
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    backup_info: Option<Info>,
    #[serde(default)]
    restore_info: Option<Info>,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    version_template: String,
    #[serde(default)]
    storage_prefix: String,
    /// In nanoseconds.
    #[serde(default)]
    auto_rotate_period: u64,
    #[serde(default, rename = "Imported")]
    imported: bool,
    #[serde(default, rename = "AllowImportedKeyRotation")]
    imported_rotates: bool,
    #[serde(default)]
    key_size: u32,
}

#[derive(Serialize, Deserialize)]
struct Info {
    time: String,
    version: u32,
}

/// A version's key.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: Option<Hidden>,
    hmac_key: Option<Hidden>,
    #[serde(default)]
    time: String,
    ec_x: Option<Box<RawValue>>,
    ec_y: Option<Box<RawValue>>,
    ec_d: Option<Box<RawValue>>,
    rsa_key: Option<RsaKey>,
    #[serde(default)]
    rsa_public_key: Option<RsaPublic>,
    #[serde(default)]
    public_key: String,
    #[serde(default)]
    convergent_version: i64,
    #[serde(default)]
    creation_time: i64,
}

#[derive(Serialize, Deserialize)]
struct RsaPublic {
    #[serde(rename = "N")]
    n: Box<RawValue>,
    #[serde(rename = "E")]
    e: u64,
}

#[derive(Serialize, Deserialize)]
struct RsaKey {
    #[serde(rename = "N")]
    n: Box<RawValue>,
    #[serde(rename = "E")]
    e: u64,
    #[serde(rename = "D")]
    d: Box<RawValue>,
    #[serde(rename = "Primes")]
    primes: Vec<Box<RawValue>>,
    #[serde(rename = "Precomputed")]
    computed: Computed,
}

#[derive(Serialize, Deserialize)]
struct Computed {
    #[serde(rename = "Dp")]
    dp: Option<Box<RawValue>>,
    #[serde(rename = "Dq")]
    dq: Option<Box<RawValue>>,
    #[serde(rename = "Qinv")]
    qinv: Option<Box<RawValue>>,
    #[serde(rename = "CRTValues", default)]
    others: Option<Vec<Box<RawValue>>>,
}

/// Bytes in base64, zeroised.
#[derive(Serialize, Deserialize)]
struct Hidden(String);

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Hidden {
    fn new(bytes: &[u8]) -> Self {
        Self(BASE64.encode(bytes))
    }

    fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        base64(&self.0).ok().map(Zeroizing::new)
    }
}

fn number(bytes: &[u8]) -> Box<RawValue> {
    let digits = decimal::print(bytes);
    RawValue::from_string(digits.to_string()).expect("digits are JSON")
}

impl Entry {
    fn empty() -> Self {
        Self {
            key: None,
            hmac_key: None,
            time: NO_TIME.to_owned(),
            ec_x: None,
            ec_y: None,
            ec_d: None,
            rsa_key: None,
            rsa_public_key: None,
            public_key: String::new(),
            convergent_version: 0,
            creation_time: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.ec_x.is_none()
            && self.rsa_key.is_none()
            && self.rsa_public_key.is_none()
            && self.public_key.is_empty()
    }

    fn of(kind: Kind, convergent: bool, version: &Version) -> Option<Self> {
        let mut entry = Self::empty();
        entry.hmac_key = Some(Hidden::new(&version.hmac));
        entry.time = timestamp(version.created);
        entry.creation_time = i64::try_from(version.created.as_secs()).ok()?;
        if convergent {
            entry.convergent_version = CONVERGENT;
        }
        let private = &version.private;
        if kind == Kind::Ed25519 {
            entry.public_key = export::ed25519_public(&version.public);
            if !private.is_empty() {
                entry.key = Some(Hidden::new(&material::ed25519_long(private)?));
            }
        } else if kind.curve_bytes().is_some() {
            entry.public_key = der::pem("PUBLIC KEY", &version.public);
            let point = material::ec_point(kind, &version.public)?;
            let (x, y) = point.split_at(point.len() / 2);
            entry.ec_x = Some(number(x));
            entry.ec_y = Some(number(y));
            if !private.is_empty() {
                let secret = material::ec_secret(kind, private)?;
                entry.ec_d = Some(number(&secret));
            }
        } else if kind.rsa_bits().is_some() {
            let public = der::rsa_public(&version.public)?;
            let exponent = |bytes: &[u8]| {
                let folded = bytes.iter().fold(0, |e, byte| e << 8 | u64::from(*byte));
                (bytes.len() <= 8).then_some(folded)
            };
            if private.is_empty() {
                entry.rsa_public_key = Some(RsaPublic {
                    n: number(public.0),
                    e: exponent(public.1)?,
                });
            } else {
                let numbers = der::rsa_numbers(private)?;
                entry.rsa_key = Some(RsaKey {
                    n: number(numbers.n),
                    e: exponent(numbers.e)?,
                    d: number(numbers.d),
                    primes: vec![number(numbers.p), number(numbers.q)],
                    computed: Computed {
                        dp: Some(number(numbers.dp)),
                        dq: Some(number(numbers.dq)),
                        qinv: Some(number(numbers.qinv)),
                        others: Some(Vec::new()),
                    },
                });
            }
        } else {
            entry.key = Some(Hidden::new(private));
        }
        Some(entry)
    }

    /// Reads the version's key; an error says what of it is not as it should be.
    fn version(&self, kind: Kind) -> Result<Version, &'static str> {
        let hidden = |field: &Option<Hidden>| {
            let bytes = field.as_ref().map(Hidden::bytes);
            bytes.unwrap_or_else(|| Some(Zeroizing::new(Vec::new())))
        };
        let mut private = hidden(&self.key).ok_or("a key is no base64")?;
        let hmac = hidden(&self.hmac_key).ok_or("a key is no base64")?;
        let mut public = Vec::new();
        if kind == Kind::Ed25519 {
            if private.is_empty() {
                let raw = base64(&self.public_key).ok();
                let raw: Option<[u8; 32]> = raw.and_then(|raw| raw.try_into().ok());
                public =
                    material::ed25519_spki(&raw.ok_or("an Ed25519 key is not as it should be")?);
            } else if private.len() == 64 {
                private.truncate(32);
            } else {
                return Err("an Ed25519 key has another length than 64 bytes");
            }
        } else if let Some(length) = kind.curve_bytes() {
            (private, public) = self.elliptic(kind, length)?;
        } else if kind.rsa_bits().is_some() {
            (private, public) = self.rsa()?;
        } else {
            let is_right = if kind == Kind::Hmac {
                super::import::HMAC_BYTES.contains(&private.len())
            } else {
                kind.key_bytes(0) == Some(private.len())
            };
            if !is_right {
                return Err("a key has a wrong length");
            }
        }
        let mismatch = "a key is not of the type that the backup says";
        if private.is_empty() {
            if !material::is_public(kind, &public) {
                return Err(mismatch);
            }
        } else {
            public = material::public_of(kind, &private).ok_or(mismatch)?;
        }
        if kind == Kind::Hmac && !hmac.is_empty() && *hmac != *private {
            // OpenBao's XChaCha20-Poly1305 has the number that Vault gives `hmac`.
            return Err(mismatch);
        }
        let secs = u64::try_from(self.creation_time).unwrap_or(0);
        Ok(Version {
            created: UnixTime::from_millis(secs.saturating_mul(1000)),
            hmac: if kind == Kind::Hmac {
                private.clone()
            } else {
                hmac
            },
            private,
            public: Zeroizing::new(public),
        })
    }

    fn elliptic(
        &self,
        kind: Kind,
        length: usize,
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), &'static str> {
        let wrong = "an elliptic key is not as it should be";
        let padded = |field: &Option<Box<RawValue>>| {
            let bytes = decimal::parse(field.as_ref()?.get())?;
            let mut padded = Zeroizing::new(vec![0; length.checked_sub(bytes.len())?]);
            padded.extend_from_slice(&bytes);
            Some(padded)
        };
        let (x, y) = (padded(&self.ec_x), padded(&self.ec_y));
        let point = [&**x.ok_or(wrong)?, &**y.ok_or(wrong)?].concat();
        if self.ec_d.is_none() {
            let public = der::public_of_pem(&self.public_key).ok_or(wrong)?;
            let is_same = material::ec_point(kind, &public).is_some_and(|known| known == point);
            return if is_same {
                Ok((Zeroizing::new(Vec::new()), public))
            } else {
                Err(wrong)
            };
        }
        let secret = padded(&self.ec_d).ok_or(wrong)?;
        let private = material::ec_pkcs8(kind, &secret, &point).ok_or(wrong)?;
        Ok((private, Vec::new()))
    }

    fn rsa(&self) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), &'static str> {
        let wrong = "an RSA key is not as it should be";
        let read = |raw: &RawValue| decimal::parse(raw.get()).ok_or(wrong);
        let exponent = |e: u64| {
            let bytes = e.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].to_vec()
        };
        let Some(key) = &self.rsa_key else {
            let public = self.rsa_public_key.as_ref().ok_or(wrong)?;
            let spki = material::rsa_spki(&read(&public.n)?, &exponent(public.e));
            return Ok((Zeroizing::new(Vec::new()), spki.ok_or(wrong)?));
        };
        let [p, q] = &key.primes[..] else {
            return Err("an RSA key has another number of primes than two");
        };
        let computed = |field: &Option<Box<RawValue>>| {
            let missing = "an RSA key lacks the values that are computed of it";
            read(field.as_ref().ok_or(missing)?)
        };
        let (n, d, p, q) = (read(&key.n)?, read(&key.d)?, read(p)?, read(q)?);
        let private = material::rsa_pkcs8(&der::RsaNumbers {
            n: &n,
            e: &exponent(key.e),
            d: &d,
            p: &p,
            q: &q,
            dp: &computed(&key.computed.dp)?,
            dq: &computed(&key.computed.dq)?,
            qinv: &computed(&key.computed.qinv)?,
        });
        Ok((private.ok_or(wrong)?, Vec::new()))
    }
}

impl Named<'_> {
    /// Answers `backup/NAME`.
    pub(super) fn backup(&mut self, ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        if !self.ring.exportable {
            return Err(Refusal::failed("exporting is disallowed on the policy"));
        }
        if !self.ring.plaintext_backup {
            return Err(Refusal::failed(
                "plaintext backup is disallowed on the policy",
            ));
        }
        self.ring.backed_up = Some(Moment {
            at: ctx.now(),
            version: self.ring.latest,
        });
        self.save(ctx)?;
        let ring = self.ring.clone();
        let corrupt = || Refusal::corrupt("key version", "it cannot be parsed");
        let mut entry = |number: u32| {
            let version = stored::version(ctx, &self.name, number)?;
            Entry::of(ring.kind, ring.convergent, &version).ok_or_else(corrupt)
        };
        let mut keys = BTreeMap::new();
        for number in ring.decryption_min..=ring.latest {
            keys.insert(number.to_string(), entry(number)?);
        }
        let mut archive = Vec::new();
        for number in ring.available_min..=ring.latest {
            archive.push(if number == 0 {
                Entry::empty()
            } else {
                entry(number)?
            });
        }
        let info = |moment: Moment| Info {
            time: timestamp(moment.at),
            version: moment.version,
        };
        let data = KeyData {
            policy: Policy {
                name: self.name.clone(),
                keys: Some(keys),
                derived: ring.derived,
                kdf: KDF_HKDF,
                convergent_encryption: ring.convergent,
                exportable: ring.exportable,
                min_decryption_version: ring.decryption_min,
                min_encryption_version: ring.encryption_min,
                latest_version: ring.latest,
                archive_version: ring.latest,
                archive_min_version: ring.available_min,
                min_available_version: ring.available_min,
                deletion_allowed: ring.deletion_allowed,
                convergent_version: if ring.convergent { -1 } else { 0 },
                kind: ring.kind.number(),
                backup_info: ring.backed_up.map(info),
                restore_info: ring.restored.map(info),
                allow_plaintext_backup: ring.plaintext_backup,
                version_template: String::new(),
                storage_prefix: String::new(),
                auto_rotate_period: ring.rotate_secs.saturating_mul(1_000_000_000),
                imported: ring.imported,
                imported_rotates: ring.imported_rotates,
                key_size: ring.key_size,
            },
            archived_keys: Some(Archive {
                keys: Some(archive),
            }),
        };
        let text = Zeroizing::new(serde_json::to_vec(&data).expect("a backup is plain JSON"));
        Ok(Answer::json(json!({ "backup": BASE64.encode(&text) })))
    }
}

/// A backup that was read, and not yet written.
pub(super) struct Backup {
    pub name: String,
    kind: Kind,
    policy: Policy,
    versions: BTreeMap<u32, Version>,
}

impl Backup {
    /// Reads a backup. What is wrong is told without what it holds.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if BACKUP_BYTES_MAX < text.len() {
            return Err("the backup is too long".to_owned());
        }
        let json = base64(text).map_err(|_| "the backup is no base64".to_owned())?;
        let json = Zeroizing::new(json);
        let data: KeyData = serde_json::from_slice(&json)
            .map_err(|_| "the backup is no key's backup".to_owned())?;
        let KeyData {
            mut policy,
            archived_keys,
        } = data;
        let number = policy.kind;
        let kind = Kind::of_number(number)
            .ok_or_else(|| format!("keys of type {number} are not known here"))?;
        let old = "the key derives or encrypts in a way that was given up: rewrap what it sealed";
        if policy.derived && (policy.kdf != KDF_HKDF || !kind.derives()) {
            return Err(old.to_owned());
        }
        if policy.convergent_encryption && (!policy.derived || !kind.is_aead()) {
            return Err("only derived keys encrypt convergently".to_owned());
        }
        if !policy.version_template.is_empty() && policy.version_template != "vault:v{{version}}:" {
            return Err("the key writes its versions in another way".to_owned());
        }
        let latest = policy.latest_version;
        let first = policy.min_available_version;
        policy.min_decryption_version = policy.min_decryption_version.max(1);
        let decryption = policy.min_decryption_version;
        let encryption = policy.min_encryption_version;
        let is_ordered = first <= decryption
            && decryption <= latest
            && encryption <= latest
            && (encryption == 0 || decryption <= encryption)
            && latest - first <= VERSIONS_MAX;
        if !is_ordered {
            return Err("the versions of the key are out of order".to_owned());
        }
        let mut versions = BTreeMap::new();
        let archived = archived_keys.and_then(|archive| archive.keys);
        let archived = (first..).zip(archived.unwrap_or_default());
        let current = policy.keys.take().unwrap_or_default().into_iter();
        let current = current.filter_map(|(number, entry)| Some((number.parse().ok()?, entry)));
        for (number, entry) in archived.chain(current) {
            if number == 0 || number < first || latest < number || entry.is_empty() {
                continue;
            }
            let is_known = policy.convergent_version > 0 && policy.convergent_version < CONVERGENT
                || entry.convergent_version != CONVERGENT;
            if policy.convergent_encryption && is_known {
                return Err(old.to_owned());
            }
            let version = entry.version(kind).map_err(str::to_owned)?;
            versions.insert(number, version);
        }
        let first = versions
            .keys()
            .next()
            .copied()
            .unwrap_or(latest)
            .min(decryption);
        if !(first..=latest).all(|number| versions.contains_key(&number)) {
            return Err("the backup lacks versions of the key".to_owned());
        }
        Ok(Self {
            name: policy.name.clone(),
            kind,
            policy,
            versions,
        })
    }
}

/// Answers `restore[/NAME]`.
pub(super) fn restore(
    ctx: &mut Context<'_, '_>,
    cache: &Cache,
    call: &Call<'_>,
    name: Option<&str>,
) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let text = fields.text("backup")?.unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::invalid("'backup' must be supplied"));
    }
    let text = Zeroizing::new(text);
    let backup = Backup::parse(&text).map_err(Refusal::Invalid)?;
    let named = fields.text("name")?.filter(|name| !name.is_empty());
    let name = match (name, named) {
        (Some(name), _) => name.to_owned(),
        (None, Some(name)) => name,
        (None, None) => backup.name.clone(),
    };
    super::check_name(&name)?;
    let known = Named::load(ctx, cache, &name)?;
    if known.is_some() && fields.flag("force")? != Some(true) {
        return Err(Refusal::failed(format!("key \"{name}\" already exists")));
    }
    let policy = &backup.policy;
    let first = backup.versions.keys().next().copied().unwrap_or(1);
    let wanted = Wanted {
        derived: policy.derived,
        convergent: policy.convergent_encryption,
        exportable: policy.exportable,
        plaintext_backup: policy.allow_plaintext_backup,
        imported: policy.imported,
        imported_rotates: policy.imported_rotates,
        rotate_secs: (policy.auto_rotate_period / 1_000_000_000).min(ROTATE_SECS_MAX),
        key_size: if policy.key_size == 0 {
            32
        } else {
            policy.key_size
        },
    };
    let mut restored = Named::begin(ctx, cache, &name, backup.kind, wanted);
    if let Some(known) = known {
        known.ring.remove(ctx, &name);
    }
    restored.ring.deletion_allowed = policy.deletion_allowed;
    restored.ring.latest = policy.latest_version;
    restored.ring.decryption_min = policy.min_decryption_version;
    restored.ring.encryption_min = policy.min_encryption_version;
    // What the backup lacks below what it allows is gone.
    restored.ring.available_min = if first <= 1 {
        policy.min_available_version
    } else {
        first
    };
    let now = ctx.now();
    restored.ring.restored = Some(Moment {
        at: now,
        version: policy.latest_version,
    });
    for (number, version) in &backup.versions {
        let mut version = Version {
            created: version.created,
            private: version.private.clone(),
            public: version.public.clone(),
            hmac: version.hmac.clone(),
        };
        if version.hmac.is_empty() {
            let mut key = Zeroizing::new(vec![0; 32]);
            ctx.entropy().fill(&mut key);
            version.hmac = key;
        }
        restored.put(ctx, *number, &version)?;
        if *number == policy.latest_version {
            restored.ring.rotated = version.created.min(now);
        }
    }
    restored.save(ctx)?;
    Ok(Answer::done())
}

#[cfg(test)]
mod tests;
