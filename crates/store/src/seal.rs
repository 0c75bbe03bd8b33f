//! Seals: what holds the root key while the controller is down.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use bastide_api::Secret;
use zeroize::Zeroize;

use crate::barrier::aead;

mod shamir;
mod tpm;

pub use shamir::{ShamirSeal, Share, Sharing, SharingError};
#[cfg(any(test, bastide_fuzz))]
pub(crate) use tpm::Opened as TpmStored;
pub use tpm::{TpmError, TpmSeal};

/// Bytes of a seal's key.
const KEY_BYTES: usize = 32;

/// Why a seal did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or made.
    #[error("could not {operation} the seal's key file `{path}`")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read the key file.
    #[error("the seal's key file `{path}` is open to others: mode {mode:o} is not 600 or stricter")]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no key.
    #[error("the seal's key file `{path}` does not hold {KEY_BYTES} bytes")]
    Length {
        /// Which file.
        path: PathBuf,
    },
    /// The store was sealed with another key.
    #[error("the root key was sealed by another key than that of seal `{seal}`")]
    WrongKey {
        /// Which seal.
        seal: &'static str,
    },
    /// The TPM did not do its work.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// A seal of another crate did not do its work.
    #[error("seal `{seal}` did not answer")]
    Elsewhere {
        /// Which seal.
        seal: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Shares do not combine to this store's key. Which of them is wrong cannot be told.
    #[error("these shares do not open this store: one of them at least is not of it")]
    Shares,
}

/// Wraps and unwraps the root key.
pub trait Seal: Send + Sync {
    /// The seal's name, part of where the wrapped key is stored.
    fn name(&self) -> &'static str;
    /// How its key is shared out, if people hold it.
    fn sharing(&self) -> Option<Sharing> {
        None
    }
    /// Wraps the root key for `context`, which must be given again to unwrap it.
    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError>;
    /// Unwraps the root key.
    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError>;
}

fn random_key() -> Secret<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    rand::fill(&mut key).expect("the system's random source answers once it is seeded");
    let secret = Secret::new(key);
    key.zeroize();
    secret
}

fn unwrap_with(
    seal: &'static str,
    key: &Secret<[u8; KEY_BYTES]>,
    context: &[u8],
    wrapped: &[u8],
) -> Result<Secret<[u8; 32]>, SealError> {
    let mut plain =
        aead::open(key.expose(), context, wrapped).ok_or(SealError::WrongKey { seal })?;
    let root = <[u8; 32]>::try_from(plain.as_slice()).map_err(|_| SealError::WrongKey { seal });
    plain.zeroize();
    root.map(Secret::new)
}

/// A seal whose key stands in a file that its owner alone may read: the default on one machine.
///
/// Keep the file apart from the store's folder and from its backups: who has both has everything.
pub struct KeyFileSeal {
    key: Secret<[u8; KEY_BYTES]>,
}

impl KeyFileSeal {
    /// Reads the key at `path`; makes it, mode 0600 and durable, if it is missing.
    pub fn open_or_create(path: &Path) -> Result<Self, SealError> {
        match Self::open(path) {
            Err(SealError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path)
            }
            other => other,
        }
    }

    /// Reads the key at `path`.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let failed = |operation| {
            move |source| SealError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let mut file = std::fs::File::open(path).map_err(failed("open"))?;
        let found = file.metadata().map_err(failed("read"))?;
        if found.mode() & 0o077 != 0 {
            return Err(SealError::Mode {
                path: path.to_owned(),
                mode: found.mode() & 0o777,
            });
        }
        let wrong = || SealError::Length {
            path: path.to_owned(),
        };
        if found.len() != KEY_BYTES as u64 {
            return Err(wrong());
        }
        let mut key = [0; KEY_BYTES];
        io::Read::read_exact(&mut file, &mut key).map_err(failed("read"))?;
        let secret = Secret::new(key);
        key.zeroize();
        Ok(Self { key: secret })
    }

    /// Takes a key that was read elsewhere: by root, for a server that may not read the file.
    pub fn from_key(key: Secret<[u8; KEY_BYTES]>) -> Self {
        Self { key }
    }

    /// Returns the key, to be handed to such a server.
    pub fn key(&self) -> &Secret<[u8; KEY_BYTES]> {
        &self.key
    }

    fn create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File {
            operation: "make",
            path: path.to_owned(),
            source,
        };
        let key = random_key();
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        io::Write::write_all(&mut file, key.expose()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(Self { key })
    }
}

impl Seal for KeyFileSeal {
    fn name(&self) -> &'static str {
        "key-file"
    }

    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        Ok(aead::seal(self.key.expose(), context, root))
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError> {
        unwrap_with(self.name(), &self.key, context, wrapped)
    }
}

/// A seal whose key ends with the process, for stores in memory.
pub struct DevSeal {
    key: Secret<[u8; KEY_BYTES]>,
}

impl DevSeal {
    /// Draws a key.
    pub fn new() -> Self {
        Self { key: random_key() }
    }
}

impl Default for DevSeal {
    fn default() -> Self {
        Self::new()
    }
}

impl Seal for DevSeal {
    fn name(&self) -> &'static str {
        "dev"
    }

    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        Ok(aead::seal(self.key.expose(), context, root))
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError> {
        unwrap_with(self.name(), &self.key, context, wrapped)
    }
}

#[cfg(test)]
mod tests;
