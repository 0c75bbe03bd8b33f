//! What lies at a path: the mount that answers there says what its policies do not.

use bastide_client::{Client, ClientError};
use bastide_control::core::engine::Call;
use bastide_control::core::path::ApiPath;
use bastide_control::core::registry::{self, FIXED_MOUNTS, Registry};
use bastide_control::core::request::Operation;
use serde_json::{Map, Value};

use crate::output;
use crate::verbs::login;

/// First segments below a mount of `kv` version 2.
const VERSIONED: &[&str] = &[
    "config", "data", "delete", "destroy", "metadata", "subkeys", "undelete",
];

/// A mount, and a path below it.
pub(super) struct Place {
    /// With a slash at its end.
    mount: String,
    kind: String,
    is_versioned: bool,
    rest: String,
    is_folder: bool,
}

impl Place {
    /// Finds the mount of a path among those that every server has.
    pub(super) fn fixed(path: &ApiPath) -> Option<Self> {
        let whole = format!("{}/", path.as_str().trim_end_matches('/'));
        let (mount, kind, _) = FIXED_MOUNTS
            .iter()
            .find(|(mount, ..)| whole.starts_with(mount))?;
        Some(Self::new(path, mount, kind, false))
    }

    /// Asks the server which mount a path lies in.
    pub(super) async fn ask(client: &Client, path: &ApiPath) -> anyhow::Result<Option<Self>> {
        let asked = login::path(path.as_str().trim_end_matches('/'));
        let asked = format!("/v1/sys/internal/ui/mounts/{asked}");
        match client.call("GET", &asked, None).await {
            Ok(told) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let is_versioned = told["options"]["version"] == "2";
                let (mount, kind) = (text(&told["path"]), text(&told["type"]));
                Ok(Some(Self::new(path, &mount, &kind, is_versioned)))
            }
            Err(ClientError::Refused { .. }) => {
                let fixed = Self::fixed(path);
                if fixed.is_none() {
                    output::note(format!(
                        "no mount is known at `{}`, or this token may not know it: the path is taken \
                         as one that needs no `sudo`",
                        path.as_str()
                    ));
                }
                Ok(fixed)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn new(path: &ApiPath, mount: &str, kind: &str, is_versioned: bool) -> Self {
        let bare = path.as_str().trim_end_matches('/');
        Self {
            rest: bare.strip_prefix(mount).unwrap_or_default().to_owned(),
            mount: mount.to_owned(),
            kind: kind.to_owned(),
            is_versioned: is_versioned && kind == "kv",
            is_folder: path.is_folder(),
        }
    }

    pub(super) fn mount(&self) -> &str {
        &self.mount
    }

    /// Whether the server asks for `sudo` here, by the code with which it does.
    pub(super) fn needs_sudo(&self, operation: Operation, fields: &Map<String, Value>) -> bool {
        let place = if self.mount.starts_with("auth/") {
            registry::Place::Auth
        } else {
            registry::Place::Secrets
        };
        let call = Call {
            operation,
            path: &self.rest,
            folder: self.is_folder,
            data: fields,
        };
        Registry::built_in().needs_sudo(place, &self.kind, &call)
    }

    /// Returns where a secret of version 2 is asked for, if the path is written as of version 1.
    pub(super) fn other_path(&self, operations: &[Operation]) -> Option<String> {
        let first = self.rest.split('/').next().unwrap_or_default();
        if !self.is_versioned || VERSIONED.contains(&first) {
            return None;
        }
        let part = if operations.contains(&Operation::List) {
            "metadata"
        } else if self.rest.is_empty() {
            return None;
        } else {
            "data"
        };
        let path = format!("{}{part}/{}", self.mount, self.rest);
        Some(path.trim_end_matches('/').to_owned())
    }
}
