//! What the engine keeps behind the barrier. Keys of the mount:
//!
//! ```text
//! config                     settings of the mount
//! index                      issuers and keys: ids, names, which belongs to which
//! issuer/<id>  key/<id>      an issuer, a key
//! role/<name>                a role
//! cert/<serial>              a certificate that was issued; serials in hexadecimal digits
//! rev/<group>/<serial>       that a certificate was revoked
//! dirty/<group>              a random mark, new with each revocation
//! crl/<group>                the state of a group's lists; their bytes are in list/<group>/<kind>/<part>
//! tidy                       the state of the cleaning
//! ```
//!
//! A *group* is all issuers of one name and one key: whoever checks a list checks name and key, so they
//! share their lists, and an issuer that is deleted and imported again finds what it had revoked.

use bastide_api::{Secret, UnixTime};
use bastide_pki::x509::Extensions;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// Most issuers of one mount, and most keys.
pub const ISSUERS_MAX: usize = 256;

/// Bytes, stored in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = BASE64.decode(text.as_bytes());
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// Settings of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The id of the issuer that is meant where none is named; empty: none.
    pub default_issuer: String,
    /// The id of the key that is meant where none is named.
    pub default_key: String,
    /// Whether an issuer that is made or imported becomes the default one.
    pub follows_latest: bool,
    /// Places that certificates name, where their issuer has none of its own.
    pub urls: Urls,
    /// Revocation lists.
    pub crl: CrlConfig,
    /// This mount's own place, for templates.
    pub path: String,
    /// The place that is named in certificates, for templates.
    pub aia_path: String,
    /// Cleaning by itself.
    pub auto_tidy: AutoTidy,
}

/// Places that certificates name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Urls {
    /// Where the issuer's certificate is.
    pub issuing_certificates: Vec<String>,
    /// Where its list is.
    pub crl_distribution_points: Vec<String>,
    /// Where its delta list is.
    pub delta_crl_distribution_points: Vec<String>,
    /// Where OCSP is answered.
    pub ocsp_servers: Vec<String>,
    /// Whether `{{issuer_id}}` and the like are filled in.
    pub enable_templating: bool,
}

impl Urls {
    /// Returns the extensions that name these places, and no others.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions {
            issuing_certificates: &self.issuing_certificates,
            ocsp_servers: &self.ocsp_servers,
            crl_points: &self.crl_distribution_points,
            delta_crl_points: &self.delta_crl_distribution_points,
            ..Extensions::default()
        }
    }

    /// Returns whether no place is named.
    pub fn is_empty(&self) -> bool {
        self.issuing_certificates.is_empty()
            && self.crl_distribution_points.is_empty()
            && self.delta_crl_distribution_points.is_empty()
            && self.ocsp_servers.is_empty()
    }
}

/// Settings of revocation lists. Durations in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "they are Vault's fields")]
pub struct CrlConfig {
    /// For how long a list is good.
    pub expiry: u64,
    /// Whether lists are empty.
    pub disable: bool,
    /// Whether OCSP is not answered.
    pub ocsp_disable: bool,
    /// For how long an OCSP answer is good; 0: it names no end.
    pub ocsp_expiry: u64,
    /// Whether lists are made before they end, and not at each revocation.
    pub auto_rebuild: bool,
    /// How long before its end a list is made anew.
    pub auto_rebuild_grace_period: u64,
    /// Whether delta lists are made.
    pub enable_delta: bool,
    /// How often.
    pub delta_rebuild_interval: u64,
}

impl Default for CrlConfig {
    fn default() -> Self {
        Self {
            expiry: 72 * 3600,
            disable: false,
            ocsp_disable: false,
            ocsp_expiry: 12 * 3600,
            auto_rebuild: false,
            auto_rebuild_grace_period: 12 * 3600,
            enable_delta: false,
            delta_rebuild_interval: 15 * 60,
        }
    }
}

/// What is cleaned. Durations in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "they are Vault's fields")]
pub struct TidyWhat {
    /// Certificates that have ended.
    pub tidy_cert_store: bool,
    /// Revocations of certificates that have ended.
    pub tidy_revoked_certs: bool,
    /// The names of issuers in certificates that were revoked.
    pub tidy_revoked_cert_issuer_associations: bool,
    /// Issuers that have ended.
    pub tidy_expired_issuers: bool,
    /// How long after a certificate's end.
    pub safety_buffer: u64,
    /// How long after an issuer's end.
    pub issuer_safety_buffer: u64,
}

impl Default for TidyWhat {
    fn default() -> Self {
        Self {
            tidy_cert_store: false,
            tidy_revoked_certs: false,
            tidy_revoked_cert_issuer_associations: false,
            tidy_expired_issuers: false,
            safety_buffer: 72 * 3600,
            issuer_safety_buffer: 8760 * 3600,
        }
    }
}

/// Cleaning by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoTidy {
    /// Whether it happens.
    pub enabled: bool,
    /// How often, in seconds.
    pub interval_duration: u64,
    /// What is cleaned.
    pub what: TidyWhat,
}

impl Default for AutoTidy {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_duration: 12 * 3600,
            what: TidyWhat::default(),
        }
    }
}

/// All issuers and keys of a mount, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Index {
    /// The issuers, oldest first.
    pub issuers: Vec<IssuerEntry>,
    /// The keys, oldest first.
    pub keys: Vec<KeyEntry>,
}

/// An issuer in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerEntry {
    /// Its id.
    pub id: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its key's id; empty if the key is not here.
    pub key: String,
    /// Its group.
    pub group: String,
    /// Its serial number.
    pub serial: String,
}

/// A key in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its id.
    pub id: String,
    /// Its name; may be empty.
    pub name: String,
    /// SHA-256 of its public half, in hexadecimal digits.
    pub public: String,
}

impl Index {
    /// Returns the issuer that `reference` means: an id or a name.
    pub fn issuer(&self, reference: &str) -> Option<&IssuerEntry> {
        let by_id = self.issuers.iter().find(|issuer| issuer.id == reference);
        by_id.or_else(|| {
            let named = |issuer: &&IssuerEntry| !reference.is_empty() && issuer.name == reference;
            self.issuers.iter().find(named)
        })
    }

    /// Returns the key that `reference` means.
    pub fn key(&self, reference: &str) -> Option<&KeyEntry> {
        let by_id = self.keys.iter().find(|key| key.id == reference);
        by_id.or_else(|| {
            let named = |key: &&KeyEntry| !reference.is_empty() && key.name == reference;
            self.keys.iter().find(named)
        })
    }
}

/// What happens if a certificate is asked for that would outlive its issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeafBehavior {
    /// It is refused.
    #[default]
    Err,
    /// It ends with its issuer.
    Truncate,
    /// It is issued: the operator has said so.
    Permit,
}

impl LeafBehavior {
    /// Returns Vault's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Err => "err",
            Self::Truncate => "truncate",
            Self::Permit => "permit",
        }
    }
}

/// What an issuer may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(pub u8);

impl Usage {
    /// Being shown.
    pub const READ: u8 = 1;
    /// Issuing.
    pub const ISSUE: u8 = 2;
    /// Signing revocation lists.
    pub const CRL: u8 = 4;
    /// Signing OCSP answers.
    pub const OCSP: u8 = 8;
    /// Vault's words, in the order in which it shows them.
    pub const WORDS: &[(u8, &str)] = &[
        (Self::READ, "read-only"),
        (Self::ISSUE, "issuing-certificates"),
        (Self::CRL, "crl-signing"),
        (Self::OCSP, "ocsp-signing"),
    ];

    /// Returns whether it covers `usage`.
    pub fn has(self, usage: u8) -> bool {
        self.0 & usage == usage
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self(Self::READ | Self::ISSUE | Self::CRL | Self::OCSP)
    }
}

/// An issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredIssuer {
    /// Its id.
    pub id: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its key's id; empty if the key is not here.
    pub key: String,
    /// Its group.
    pub group: String,
    /// Its certificate in DER.
    pub certificate: Blob,
    /// The ids of the issuers above it, itself first.
    pub chain: Vec<String>,
    /// The same, if the operator has said so.
    pub manual_chain: Vec<String>,
    /// What happens at its end.
    pub leaf_behavior: LeafBehavior,
    /// What it may be used for.
    pub usage: Usage,
    /// How it signs lists and answers; empty: as it signs certificates.
    pub revocation_scheme: String,
    /// The places that its certificates name.
    pub urls: Urls,
    /// When it was revoked.
    pub revoked: Option<UnixTime>,
}

impl StoredIssuer {
    /// Returns what a person calls it: its name, or its id.
    pub fn called(&self) -> &str {
        if self.name.is_empty() {
            &self.id
        } else {
            &self.name
        }
    }
}

/// A key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// Its id.
    pub id: String,
    /// Its name; may be empty.
    pub name: String,
    /// `rsa`, `ec` or `ed25519`.
    pub family: String,
    /// The key as PKCS #8, in base64.
    pub pkcs8: String,
}

impl StoredKey {
    /// Returns the key in DER.
    pub fn der(&self) -> Result<Secret<Vec<u8>>, Refusal> {
        let bytes = BASE64.decode(self.pkcs8.as_bytes());
        bytes
            .map(Secret::new)
            .map_err(|error| Refusal::corrupt("key", error))
    }
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCert {
    /// The certificate in DER.
    pub der: Blob,
    /// The issuer's id; empty if it is not known any more.
    pub issuer: String,
    /// The issuer's group.
    pub group: String,
    /// When it ends.
    pub expires: UnixTime,
}

/// That a certificate was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
}

/// The state of a group's lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CrlState {
    /// The number of the last list, whole or delta.
    pub number: u64,
    /// The number of the last whole list.
    pub base: u64,
    /// The mark of the group when the last whole list was made.
    pub covers: String,
    /// The mark of the group when the last delta was made.
    pub delta_covers: String,
    /// When the last whole list was made.
    pub built: u64,
    /// When it ends.
    pub ends: u64,
    /// When the last delta was made.
    pub delta_built: u64,
    /// How many certificates the whole list names.
    pub entries: usize,
    /// In how many parts the whole list is stored.
    pub parts: usize,
    /// In how many parts the delta is stored.
    pub delta_parts: usize,
}

/// Reads the settings; without any, the usual ones.
pub fn config(ctx: &mut Context<'_, '_>) -> Result<Config, Refusal> {
    Ok(ctx.load("config")?.unwrap_or_default())
}

/// Reads the index.
pub fn index(ctx: &mut Context<'_, '_>) -> Result<Index, Refusal> {
    Ok(ctx.load("index")?.unwrap_or_default())
}

/// Reads a key.
pub fn key(ctx: &mut Context<'_, '_>, id: &str) -> Result<StoredKey, Refusal> {
    ctx.load(&format!("key/{id}"))?
        .ok_or_else(|| Refusal::corrupt("index", "it names a key that is not there"))
}

/// Reads an issuer.
pub fn issuer(ctx: &mut Context<'_, '_>, id: &str) -> Result<StoredIssuer, Refusal> {
    ctx.load(&format!("issuer/{id}"))?
        .ok_or_else(|| Refusal::corrupt("index", "it names an issuer that is not there"))
}

/// Writes an issuer.
pub fn save_issuer(ctx: &mut Context<'_, '_>, issuer: &StoredIssuer) -> Result<(), Refusal> {
    ctx.save(&format!("issuer/{}", issuer.id), issuer)
}
