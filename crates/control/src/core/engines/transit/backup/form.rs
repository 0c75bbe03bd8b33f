//! What stands in a backup: the fields that Go writes of Vault's own types.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use crate::core::engines::transit::batch::base64;

#[derive(Serialize, Deserialize)]
pub(super) struct KeyData {
    pub policy: Policy,
    pub archived_keys: Option<Archive>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Archive {
    pub keys: Option<Vec<Entry>>,
}

#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "Vault's fields")]
pub(super) struct Policy {
    pub name: String,
    pub keys: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    pub derived: bool,
    #[serde(default)]
    pub kdf: u64,
    #[serde(default)]
    pub convergent_encryption: bool,
    #[serde(default)]
    pub exportable: bool,
    #[serde(default)]
    pub min_decryption_version: u32,
    #[serde(default)]
    pub min_encryption_version: u32,
    pub latest_version: u32,
    #[serde(default)]
    pub archive_version: u32,
    #[serde(default)]
    pub archive_min_version: u32,
    #[serde(default)]
    pub min_available_version: u32,
    #[serde(default)]
    pub deletion_allowed: bool,
    #[serde(default)]
    pub convergent_version: i64,
    #[serde(rename = "type")]
    pub kind: u64,
    #[serde(default)]
    pub backup_info: Option<Info>,
    #[serde(default)]
    pub restore_info: Option<Info>,
    #[serde(default)]
    pub allow_plaintext_backup: bool,
    #[serde(default)]
    pub version_template: String,
    #[serde(default)]
    pub storage_prefix: String,
    /// In nanoseconds.
    #[serde(default)]
    pub auto_rotate_period: u64,
    #[serde(default, rename = "Imported")]
    pub imported: bool,
    #[serde(default, rename = "AllowImportedKeyRotation")]
    pub imported_rotates: bool,
    #[serde(default)]
    pub key_size: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Info {
    pub time: String,
    pub version: u32,
}

/// A version's key.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub key: Option<Hidden>,
    pub hmac_key: Option<Hidden>,
    #[serde(default)]
    pub time: String,
    pub ec_x: Option<Box<RawValue>>,
    pub ec_y: Option<Box<RawValue>>,
    pub ec_d: Option<Box<RawValue>>,
    pub rsa_key: Option<RsaKey>,
    #[serde(default)]
    pub rsa_public_key: Option<RsaPublic>,
    #[serde(default)]
    pub public_key: String,
    #[serde(default)]
    pub convergent_version: i64,
    #[serde(default)]
    pub creation_time: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RsaPublic {
    #[serde(rename = "N")]
    pub n: Box<RawValue>,
    #[serde(rename = "E")]
    pub e: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RsaKey {
    #[serde(rename = "N")]
    pub n: Box<RawValue>,
    #[serde(rename = "E")]
    pub e: u64,
    #[serde(rename = "D")]
    pub d: Box<RawValue>,
    #[serde(rename = "Primes")]
    pub primes: Vec<Box<RawValue>>,
    #[serde(rename = "Precomputed")]
    pub computed: Computed,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Computed {
    #[serde(rename = "Dp")]
    pub dp: Option<Box<RawValue>>,
    #[serde(rename = "Dq")]
    pub dq: Option<Box<RawValue>>,
    #[serde(rename = "Qinv")]
    pub qinv: Option<Box<RawValue>>,
    #[serde(rename = "CRTValues", default)]
    pub others: Option<Vec<Box<RawValue>>>,
}

/// Bytes in base64, zeroised.
#[derive(Serialize, Deserialize)]
pub(super) struct Hidden(String);

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Hidden {
    pub fn new(bytes: &[u8]) -> Self {
        Self(BASE64.encode(bytes))
    }

    pub fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        base64(&self.0).ok().map(Zeroizing::new)
    }
}
