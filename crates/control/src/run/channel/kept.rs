//! What a controller that is sealed by shares keeps outside of the barrier: the certificates with which
//! it can say, when it was started anew, that it is sealed, and where it listens.
//!
//! The keys are good for as long as the certificates, 24 hours, and open nothing that is stored.

use std::path::Path;

use bastide_api::Secret;
use bastide_linux::file;
use bastide_pki::{Identity, IdentityError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{ControllerError, Listen};

/// Most bytes of the file.
const BYTES_MAX: u64 = 256 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) format: u32,
    pub(super) listen: Listen,
    /// The cluster's authority (PEM).
    pub(super) ca: String,
    pub(super) channel: Pair,
    pub(super) api: Pair,
}

/// A certificate and its key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pair {
    /// The certificate and its authority (PEM).
    pub(super) chain: String,
    /// PEM. Wiped when dropped.
    key: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Pair {
    pub(super) fn new(chain: String, identity: &Identity) -> Self {
        Self {
            chain,
            key: identity.key_pem().expose().clone(),
        }
    }

    pub(super) fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::from_pem(&Secret::new(self.key.clone()))
    }
}

impl Kept {
    pub(super) const FORMAT: u32 = 1;

    /// Reads what an earlier process kept; `None` if there is nothing that this one can use.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ControllerError> {
        let bytes =
            file::read_bounded(path, BYTES_MAX).map_err(|source| ControllerError::Kept {
                operation: "read",
                path: path.to_owned(),
                source,
            })?;
        let Some(bytes) = bytes.map(Secret::new) else {
            return Ok(None);
        };
        let kept: Option<Self> = serde_json::from_slice(bytes.expose()).ok();
        Ok(kept.filter(|kept| kept.format == Self::FORMAT))
    }

    /// Replaces the file as a whole, for its owner alone.
    pub(super) fn write(&self, path: &Path) -> Result<(), ControllerError> {
        let text = serde_json::to_vec(self).expect("certificates are plain JSON");
        let text = Secret::new(text);
        file::write_private(path, text.expose()).map_err(|source| ControllerError::Kept {
            operation: "write",
            path: path.to_owned(),
            source,
        })
    }
}
