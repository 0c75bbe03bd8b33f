//! Backups, in the form of Vault and OpenBao: base64 of JSON with the policy and its archive.
//!
//! What Go writes of its own types stands in them: large numbers in decimal, RSA keys with the
//! values that were computed of them, Ed25519 keys of 64 bytes.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::json;
use zeroize::Zeroizing;

use self::form::{Archive, Entry, Info, KeyData, Policy};
use super::batch::base64;
use super::cache::Cache;
use super::kind::Kind;
use super::named::{Named, Wanted};
use super::stored::{self, Moment, VERSIONS_MAX, Version};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, timestamp};

mod entry;
mod form;

/// Longest backup that is read, in bytes of base64.
const BACKUP_BYTES_MAX: usize = 2 << 20;
/// The number of HKDF-SHA256 among Vault's ways to derive keys.
const KDF_HKDF: u64 = 1;
/// The version of convergent encryption that is known here.
const CONVERGENT: i64 = 3;
/// The highest number of a version that is restored: there are others to come.
const LATEST_MAX: u32 = 1 << 30;
/// The most that a period of rotation is, in seconds: 200 years.
const ROTATE_SECS_MAX: u64 = 200 * 365 * 86_400;

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
            && latest <= LATEST_MAX
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
