//! Mounts: which engine stands behind which path.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bastide_store::{Key, KeyRange};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::config::Ttls;
use crate::core::draft::Draft;
use crate::core::entropy::Entropy;
use crate::core::lockout;
use crate::core::path::{ApiPath, MountPath};
use crate::core::refusal::Refusal;
use crate::core::tables;
use crate::core::token_type::TokenType;

/// Most mounts of a cluster.
pub const MOUNTS_MAX: usize = 1024;
/// How long a lease lives where nothing else is said, and at most: 768 hours, as Vault's.
pub const TTL_DEFAULT: Duration = Duration::from_secs(768 * 3600);

/// Names a mount's storage for its whole life, wherever it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MountId(pub [u8; 16]);

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.0);
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// A mount, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it stands.
    pub path: MountPath,
    /// Which engine: see [`crate::core::engine::Engine::kind`].
    pub kind: String,
    /// Whose storage.
    pub id: MountId,
    /// Its accessor, such as `kv_1a2b3c4d`.
    pub accessor: String,
    /// What people say it is for.
    #[serde(default)]
    pub description: String,
    /// The engine's options, such as `version`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What can be tuned.
    #[serde(default)]
    pub config: MountConfig,
    /// The storage that its engine still takes over into its own: it serves nothing until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converts: Option<MountId>,
    /// Kept for clients; means nothing here.
    #[serde(default)]
    pub local: bool,
    /// Kept for clients; means nothing here: everything is sealed.
    #[serde(default)]
    pub seal_wrap: bool,
    /// The system's times to live, of the server's configuration; not stored.
    #[serde(skip)]
    pub system: Ttls,
}

/// What can be tuned at a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    /// In seconds; 0: the system's.
    #[serde(default)]
    pub default_lease_ttl: u64,
    /// In seconds; 0: the system's.
    #[serde(default)]
    pub max_lease_ttl: u64,
    /// Kept for clients.
    #[serde(default)]
    pub force_no_cache: bool,
    /// `unauth`, `hidden` or empty: whether the mount is listed to whoever has no token.
    #[serde(default)]
    pub listing_visibility: String,
    /// For auth methods: which tokens a login makes.
    #[serde(default)]
    pub token_type: TokenType,
    /// Fields of requests that the audit log shows in clear.
    #[serde(default)]
    pub audit_non_hmac_request_keys: Vec<String>,
    /// Fields of answers that the audit log shows in clear.
    #[serde(default)]
    pub audit_non_hmac_response_keys: Vec<String>,
    /// Kept for clients.
    #[serde(default)]
    pub passthrough_request_headers: Vec<String>,
    /// Kept for clients.
    #[serde(default)]
    pub allowed_response_headers: Vec<String>,
    /// For auth methods: when names are locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_lockout: Option<lockout::Settings>,
}

impl Mount {
    /// Makes a mount of `kind` at `path`.
    pub fn new(entropy: &mut Entropy, path: MountPath, kind: &str) -> Self {
        let place = if path.as_str().starts_with("auth/") {
            "auth_"
        } else {
            ""
        };
        let tail = data_encoding::HEXLOWER.encode(&entropy.bytes::<4>());
        Self {
            path,
            kind: kind.to_owned(),
            id: MountId(entropy.bytes()),
            accessor: format!("{place}{kind}_{tail}"),
            description: String::new(),
            options: BTreeMap::new(),
            config: MountConfig::default(),
            converts: None,
            local: false,
            seal_wrap: false,
            system: Ttls::default(),
        }
    }

    /// Returns whether it is an auth method.
    pub fn is_auth(&self) -> bool {
        self.path.as_str().starts_with("auth/")
    }

    /// Returns how long a lease of this mount lives where nothing else is said.
    pub fn ttl_default(&self) -> Duration {
        match self.config.default_lease_ttl {
            0 => self.system.default.min(self.ttl_max()),
            secs => Duration::from_secs(secs).min(self.ttl_max()),
        }
    }

    /// Returns how long a lease of this mount lives at most.
    pub fn ttl_max(&self) -> Duration {
        match self.config.max_lease_ttl {
            0 => self.system.max,
            secs => Duration::from_secs(secs),
        }
    }

    /// Returns what `sys/mounts` and `sys/auth` say of it.
    pub fn info(&self) -> Value {
        let config = &self.config;
        let mut shown = json!({
            "default_lease_ttl": config.default_lease_ttl,
            "max_lease_ttl": config.max_lease_ttl,
            "force_no_cache": config.force_no_cache,
        });
        let fields = shown.as_object_mut().expect("made as an object");
        if self.is_auth() {
            let kind = match config.token_type {
                TokenType::Default => TokenType::DefaultService,
                kind => kind,
            };
            fields.insert("token_type".into(), kind.as_str().into());
        }
        for (name, list) in [
            (
                "audit_non_hmac_request_keys",
                &config.audit_non_hmac_request_keys,
            ),
            (
                "audit_non_hmac_response_keys",
                &config.audit_non_hmac_response_keys,
            ),
            (
                "passthrough_request_headers",
                &config.passthrough_request_headers,
            ),
            ("allowed_response_headers", &config.allowed_response_headers),
        ] {
            if !list.is_empty() {
                fields.insert(name.into(), json!(list));
            }
        }
        if !config.listing_visibility.is_empty() {
            fields.insert(
                "listing_visibility".into(),
                json!(config.listing_visibility),
            );
        }
        if let Some(settings) = config.user_lockout {
            fields.insert("user_lockout_config".into(), settings.shown());
        }
        json!({
            "type": self.kind,
            "description": self.description,
            "accessor": self.accessor,
            "local": self.local,
            "seal_wrap": self.seal_wrap,
            "external_entropy_access": false,
            "options": if self.options.is_empty() { Value::Null } else { json!(self.options) },
            "uuid": self.id.to_string(),
            "plugin_version": "",
            "running_plugin_version": "",
            "running_sha256": "",
            "deprecation_status": "supported",
            "config": shown,
        })
    }
}

/// All mounts, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The mounts.
    pub mounts: BTreeMap<MountPath, Arc<Mount>>,
}

impl MountTable {
    /// Returns where the table stands.
    pub fn range() -> KeyRange {
        KeyRange::prefix(tables::MOUNTS, "")
    }

    /// Reads the table.
    pub fn load(draft: &mut Draft<'_>) -> Result<Self, Refusal> {
        let mut mounts = BTreeMap::new();
        for (_, text) in draft.range(&Self::range(), MOUNTS_MAX)? {
            let mut mount: Mount = serde_json::from_slice(text.expose())
                .map_err(|error| Refusal::corrupt("mount", error))?;
            mount.system = draft.ttls();
            mounts.insert(mount.path.clone(), Arc::new(mount));
        }
        Ok(Self { mounts })
    }

    /// Returns the mount that `path` lies in, and the rest of the path below it.
    pub fn route<'p>(&self, path: &'p ApiPath) -> Option<(&Arc<Mount>, &'p str)> {
        self.mounts
            .values()
            .filter_map(|mount| mount.path.below(path).map(|below| (mount, below)))
            .max_by_key(|(mount, _)| mount.path.as_str().len())
    }

    /// Returns the mount at exactly `path`, such as `mesh/`.
    pub fn at(&self, path: &str) -> Option<&Arc<Mount>> {
        self.mounts
            .values()
            .find(|mount| mount.path.as_str() == path)
    }
}

/// Writes a mount.
pub fn save(draft: &mut Draft<'_>, mount: &Mount) -> Result<(), Refusal> {
    draft.save(Key::new(tables::MOUNTS, mount.path.as_str()), mount)
}
