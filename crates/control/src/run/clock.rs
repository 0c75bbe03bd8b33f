//! Whether a server may start by the clock of its host.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_linux::clock;

/// The file in the server's folder by which an operator says that the host's clock is right.
const IS_RIGHT: &str = "clock-is-right";
/// How far behind a clock may be without a word.
const BEHIND_MAX: Duration = Duration::from_secs(5 * 60);

/// Why a server does not start by the clock of its host.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// It shows so much more than was ever seen that every membership would end.
    #[error(
        "the host's clock shows {wall}, but the last time that this server knows of is {highest}: \
         if the clock is wrong, set it (`timedatectl set-ntp true`); if it is right, type \
         `touch {}` and start the server again", .path.display()
    )]
    FarAhead {
        /// What the clock shows.
        wall: UnixTime,
        /// The latest time that was persisted.
        highest: UnixTime,
        /// The file that says that the clock is right.
        path: PathBuf,
    },
    /// The operator's word cannot be taken back.
    #[error("could not delete `{}`", .path.display())]
    Delete {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Compares the host's clock with the latest time that was ever persisted. A clock that is behind is
/// told of and harmless; one that is [`clock::AHEAD_MAX`] ahead needs an operator's word, the file
/// `clock-is-right` in `folder`, which is good for one start.
pub fn check(highest: Option<UnixTime>, wall: UnixTime, folder: &Path) -> Result<(), ClockError> {
    let Some(highest) = highest else {
        return Ok(());
    };
    let behind = highest.since(wall);
    if BEHIND_MAX < behind {
        tracing::warn!(
            behind_s = behind.as_secs(),
            "the host's clock is behind the time that this server knows of, which goes on from there"
        );
    }
    if !clock::is_far_ahead(wall, highest) {
        return Ok(());
    }
    let path = folder.join(IS_RIGHT);
    match std::fs::remove_file(&path) {
        Ok(()) => {
            tracing::warn!(%wall, %highest, "the operator says that the host's clock is right");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ClockError::FarAhead {
            wall,
            highest,
            path,
        }),
        Err(source) => Err(ClockError::Delete { path, source }),
    }
}

#[cfg(test)]
mod tests;
