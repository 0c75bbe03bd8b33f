//! The high-water mark of handshake timestamps, on disk.

use std::path::PathBuf;

use bastide_linux::file;

use super::DeviceError;
use crate::core::wireguard::Tai64N;

/// A file of 12 bytes, or nothing.
pub struct Floor {
    path: Option<PathBuf>,
    last: Tai64N,
}

impl Floor {
    /// Reads the mark. A file that is not there yet is no mark; one of a wrong length is damage
    /// that only a human may judge, because starting below the mark makes the device mute.
    pub fn open(path: Option<PathBuf>) -> Result<Self, DeviceError> {
        let mut last = Tai64N::ZERO;
        if let Some(path) = &path {
            let failed = |source| DeviceError::Floor {
                path: path.clone(),
                source,
            };
            if let Some(bytes) = file::read_bounded(path, 12).map_err(failed)? {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| failed(std::io::Error::other("it is not 12 bytes long")))?;
                last = Tai64N::from_bytes(bytes);
            }
        }
        Ok(Self { path, last })
    }

    /// Returns the mark.
    pub fn last(&self) -> Tai64N {
        self.last
    }

    /// Writes a new mark, durably.
    pub fn raise(&mut self, mark: Tai64N) {
        self.last = mark;
        let Some(path) = &self.path else {
            return;
        };
        if let Err(error) = file::write_private(path, mark.as_bytes()) {
            // The handshake goes out all the same: a mesh that stops because a disk is full would
            // be worse than one that may be mute after a restart with a wrong clock.
            tracing::warn!(path = %path.display(), %error, "could not keep the handshake timestamp");
        }
    }
}
