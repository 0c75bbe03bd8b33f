//! The engines that this program has, and the mounts that each cluster begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::auth;
use crate::core::auth::unserved;
use crate::core::draft::Draft;
use crate::core::engine::{Call, Engine};
use crate::core::engines;
use crate::core::mounts::{self, Mount};
use crate::core::path::MountPath;
use crate::core::policy::builtin::Memo;
use crate::core::policy::compiled::Compiled;
use crate::core::refusal::Refusal;

/// Engines and auth methods, by kind.
pub struct Registry {
    engines: BTreeMap<&'static str, Arc<dyn Engine>>,
    auths: BTreeMap<&'static str, Arc<dyn Engine>>,
    /// Parsed policies.
    pub policies: Memo,
    /// Compiled sets of policies.
    pub sets: Compiled,
}

/// Mounts of each cluster: path, kind, description. They cannot be removed or moved.
pub const FIXED_MOUNTS: &[(&str, &str, &str)] = &[
    (
        "sys/",
        "system",
        "system endpoints used for control, policy and debugging",
    ),
    (
        "cubbyhole/",
        "cubbyhole",
        "per-token private secret storage",
    ),
    ("auth/token/", "token", "token based credentials"),
    (
        "auth/join/",
        "join",
        "tickets, with which machines become nodes",
    ),
    ("mesh/", "mesh", "nodes and the view that they share"),
    ("identity/", "identity", "identity store"),
    ("cluster/", "cluster", "stacks and the Swarm that runs them"),
];

impl Registry {
    /// Returns all engines of this program.
    pub fn built_in() -> Self {
        let mut this = Self {
            engines: BTreeMap::new(),
            auths: BTreeMap::new(),
            policies: Memo::default(),
            sets: Compiled::default(),
        };
        this.add_engine(Arc::new(engines::cluster::Cluster));
        this.add_engine(Arc::new(engines::cubbyhole::Cubbyhole));
        this.add_engine(Arc::new(engines::identity::Identity));
        this.add_engine(Arc::new(engines::kv1::KvV1));
        this.add_engine(Arc::new(engines::kv2::KvV2));
        this.add_engine(Arc::new(engines::mesh::Mesh));
        this.add_engine(Arc::new(engines::pki::Pki::default()));
        this.add_engine(Arc::new(engines::ssh::Ssh::default()));
        this.add_engine(Arc::new(engines::sys::Sys));
        this.add_engine(Arc::new(engines::totp::Totp));
        this.add_engine(Arc::new(engines::transit::Transit::default()));
        this.add_auth(Arc::new(auth::approle::AppRole));
        this.add_auth(Arc::new(auth::cert::Cert));
        this.add_auth(Arc::new(auth::join::Join));
        this.add_auth(Arc::new(auth::jwt::Jwt("jwt")));
        this.add_auth(Arc::new(auth::jwt::Jwt("oidc")));
        this.add_auth(Arc::new(auth::ldap::Ldap));
        this.add_auth(Arc::new(auth::token::TokenAuth));
        this.add_auth(Arc::new(auth::userpass::Userpass));
        for &kind in unserved::KINDS {
            this.add_auth(Arc::new(unserved::Unserved(kind)));
        }
        this
    }

    /// Adds an engine.
    pub fn add_engine(&mut self, engine: Arc<dyn Engine>) {
        self.engines.insert(engine.kind(), engine);
    }

    /// Adds an auth method.
    pub fn add_auth(&mut self, engine: Arc<dyn Engine>) {
        self.auths.insert(engine.kind(), engine);
    }

    /// Returns whether there is such an engine, or auth method if `auth`.
    pub fn knows(&self, place: Place, kind: &str) -> bool {
        match place {
            Place::Secrets => self.engines.contains_key(kind),
            Place::Auth => self.auths.contains_key(kind),
        }
    }

    /// Returns the names of all engines, or of all auth methods.
    pub fn kinds(&self, place: Place) -> impl Iterator<Item = &'static str> {
        let of = match place {
            Place::Secrets => &self.engines,
            Place::Auth => &self.auths,
        };
        of.keys()
            .copied()
            .filter(move |kind| place == Place::Secrets || !unserved::KINDS.contains(kind))
    }

    /// Returns the engine behind a mount.
    pub fn of(&self, mount: &Mount) -> Result<&Arc<dyn Engine>, Refusal> {
        let found = if mount.is_auth() {
            self.auths.get(mount.kind.as_str())
        } else if mount.kind == "kv" && mount.options.get("version").is_some_and(|it| it == "2") {
            self.engines.get("kv-v2")
        } else {
            self.engines.get(mount.kind.as_str())
        };
        found.ok_or_else(|| Refusal::Internal(format!("no engine of kind `{}`", mount.kind)))
    }

    /// Returns whether a call needs the capability `sudo` at a mount of this kind. Of a kind that is not
    /// known nothing is protected.
    pub fn needs_sudo(&self, place: Place, kind: &str, call: &Call<'_>) -> bool {
        let of = match place {
            Place::Secrets => &self.engines,
            Place::Auth => &self.auths,
        };
        of.get(kind).is_some_and(|engine| engine.needs_sudo(call))
    }

    /// Writes the mounts that each cluster has: all of them at its beginning, later those that an
    /// earlier version did not know. What stands in the place of one stays.
    pub fn mount_fixed(draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let known = draft.mounts()?;
        for &(path, kind, description) in FIXED_MOUNTS {
            if known.at(path).is_some() {
                continue;
            }
            let path = MountPath::parse(path).expect("fixed mounts have valid paths");
            let mut mount = Mount::new(draft.entropy(), path, kind);
            description.clone_into(&mut mount.description);
            mounts::save(draft, &mount)?;
        }
        Ok(())
    }
}

/// Where a mount stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among the engines.
    Secrets,
    /// Below `auth/`.
    Auth,
}
