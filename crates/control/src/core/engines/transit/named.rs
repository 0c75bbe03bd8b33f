//! A named key in the course of a request.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::cache::Cache;
use super::cipher::derived;
use super::fault::Fault;
use super::kind::Kind;
use super::material::{self, Key, Material};
use super::stored::{self, Ring, VERSIONS_MAX, Version, version_at};
use super::{der, export};
use crate::core::engine::Context;
use crate::core::refusal::Refusal;
use crate::core::reply::timestamp;

/// A named key, as it is stored now or will be.
pub(super) struct Named<'c> {
    pub name: String,
    pub ring: Ring,
    /// What is stored now; none for a new key.
    before: Option<Ring>,
    cache: &'c Cache,
}

/// What a new key is to be.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "settings that clients know")]
pub(super) struct Wanted {
    pub derived: bool,
    pub convergent: bool,
    pub exportable: bool,
    pub plaintext_backup: bool,
    pub imported: bool,
    pub imported_rotates: bool,
    pub rotate_secs: u64,
    pub key_size: u32,
}

impl<'c> Named<'c> {
    /// Reads a key.
    pub(super) fn load(
        ctx: &mut Context<'_, '_>,
        cache: &'c Cache,
        name: &str,
    ) -> Result<Option<Self>, Refusal> {
        let Some(ring) = stored::ring(ctx, name)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            name: name.to_owned(),
            before: Some(ring.clone()),
            ring,
            cache,
        }))
    }

    /// Begins a key without versions; nothing is written yet.
    pub(super) fn begin(
        ctx: &mut Context<'_, '_>,
        cache: &'c Cache,
        name: &str,
        kind: Kind,
        wanted: Wanted,
    ) -> Self {
        let now = ctx.now();
        Self {
            name: name.to_owned(),
            ring: Ring {
                kind,
                epoch: 0,
                derived: wanted.derived,
                convergent: wanted.convergent,
                exportable: wanted.exportable,
                plaintext_backup: wanted.plaintext_backup,
                deletion_allowed: false,
                imported: wanted.imported,
                imported_rotates: wanted.imported_rotates,
                latest: 0,
                decryption_min: 1,
                encryption_min: 0,
                available_min: 0,
                rotate_secs: wanted.rotate_secs,
                rotated: now,
                key_size: wanted.key_size,
                backed_up: None,
                restored: None,
            },
            before: None,
            cache,
        }
    }

    /// Returns a version's keys.
    pub(super) fn material(
        &self,
        ctx: &mut Context<'_, '_>,
        number: u32,
    ) -> Result<Arc<Material>, Refusal> {
        self.cache.material(ctx, &self.ring, &self.name, number)
    }

    /// Writes the key's settings.
    pub(super) fn save(&mut self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        self.ring.save(ctx, &self.name, self.before.as_ref())?;
        self.before = Some(self.ring.clone());
        Ok(())
    }

    /// Writes a version's key, and that what was parsed of the key is outdated.
    pub(super) fn put(
        &mut self,
        ctx: &mut Context<'_, '_>,
        number: u32,
        version: &Version,
    ) -> Result<(), Refusal> {
        ctx.save(&version_at(&self.name, number), version)?;
        self.ring.epoch = u64::from_be_bytes(ctx.entropy().bytes());
        Ok(())
    }

    /// Adds a version as the latest, and writes the key.
    pub(super) fn append(
        &mut self,
        ctx: &mut Context<'_, '_>,
        version: &Version,
    ) -> Result<(), Refusal> {
        if VERSIONS_MAX <= self.ring.latest - self.ring.available_min {
            return Err(Refusal::invalid(format!(
                "key \"{}\" has {VERSIONS_MAX} versions: trim it first",
                self.name
            )));
        }
        self.ring.latest += 1;
        self.ring.rotated = version.created;
        self.put(ctx, self.ring.latest, version)?;
        self.save(ctx)
    }

    /// Makes a new version, and writes the key.
    pub(super) fn rotate(&mut self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        if self.ring.imported && !self.ring.imported_rotates {
            return Err(Refusal::invalid(format!(
                "imported key {} does not allow rotation within Vault",
                self.name
            )));
        }
        let version = material::make(ctx, self.ring.kind, self.ring.key_size)?;
        self.append(ctx, &version)
    }

    /// Rotates a key whose time has come and that waits for its next use.
    pub(super) fn catch_up(&mut self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        if self.ring.due().is_some_and(|due| due <= ctx.now()) {
            self.rotate(ctx)?;
        }
        Ok(())
    }

    /// Returns what `keys/NAME` shows; with a context the public half of derived Ed25519 keys.
    pub(super) fn shown(
        &self,
        ctx: &mut Context<'_, '_>,
        context: &[u8],
    ) -> Result<Map<String, Value>, Refusal> {
        let ring = &self.ring;
        let kind = ring.kind;
        let mut shown = super::batch::result(json!({
            "name": self.name,
            "type": kind.name(),
            "derived": ring.derived,
            "deletion_allowed": ring.deletion_allowed,
            "min_available_version": ring.available_min,
            "min_decryption_version": ring.decryption_min,
            "min_encryption_version": ring.encryption_min,
            "latest_version": ring.latest,
            "exportable": ring.exportable,
            "allow_plaintext_backup": ring.plaintext_backup,
            "supports_encryption": kind.encrypts(),
            "supports_decryption": kind.encrypts(),
            "supports_signing": kind.signs(),
            "supports_derivation": kind.derives(),
            "auto_rotate_period": ring.rotate_secs,
            "imported_key": ring.imported,
        }));
        if kind == Kind::Hmac {
            shown.insert("key_size".into(), ring.key_size.into());
        }
        if ring.imported {
            let rotates = ring.imported_rotates.into();
            shown.insert("imported_key_allow_rotation".into(), rotates);
        }
        for (name, moment) in [
            ("backup_info", ring.backed_up),
            ("restore_info", ring.restored),
        ] {
            if let Some(moment) = moment {
                let moment = json!({ "time": timestamp(moment.at), "version": moment.version });
                shown.insert(name.into(), moment);
            }
        }
        if ring.derived {
            shown.insert("kdf".into(), "hkdf_sha256".into());
            shown.insert("convergent_encryption".into(), ring.convergent.into());
            if ring.convergent {
                // Vault's word for: each version of the key says it itself.
                shown.insert("convergent_encryption_version".into(), (-1).into());
            }
        }
        let mut keys = Map::new();
        for number in ring.decryption_min..=ring.latest {
            let version = stored::version(ctx, &self.name, number)?;
            keys.insert(number.to_string(), self.version_shown(&version, context)?);
        }
        shown.insert("keys".into(), Value::Object(keys));
        Ok(shown)
    }

    fn version_shown(&self, version: &Version, context: &[u8]) -> Result<Value, Refusal> {
        let kind = self.ring.kind;
        if !kind.has_public() {
            return Ok(material::seconds(version.created).into());
        }
        let public = if kind == Kind::Ed25519 && self.ring.derived {
            public_derived(version, context)?
        } else if kind == Kind::Ed25519 {
            export::ed25519_public(&version.public)
        } else {
            der::pem("PUBLIC KEY", &version.public)
        };
        Ok(json!({
            "name": kind.version_name(),
            "public_key": public,
            "creation_time": timestamp(version.created),
            "certificate_chain": "",
        }))
    }

    /// Returns the pair that an Ed25519 key signs with, derived if it is to be.
    pub(super) fn ed25519(
        &self,
        material: &Material,
        context: &[u8],
    ) -> Result<Option<aws_lc_rs::signature::Ed25519KeyPair>, Fault> {
        match &material.key {
            Key::Root(root) if self.ring.kind == Kind::Ed25519 => {
                Ok(material::ed25519(&derived(root, context, 32)?))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the public key that an Ed25519 key has with a context; empty without one.
fn public_derived(version: &Version, context: &[u8]) -> Result<String, Refusal> {
    if context.is_empty() {
        return Ok(String::new());
    }
    let corrupt = || Refusal::corrupt("key version", "it cannot be parsed");
    let root = material::ed25519_long(&version.private).ok_or_else(corrupt)?;
    let seed = derived(&root, context, 32)?;
    let public = material::public_of(Kind::Ed25519, &seed).ok_or_else(corrupt)?;
    Ok(export::ed25519_public(&public))
}
