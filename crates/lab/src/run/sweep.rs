//! Removes what dead labs left behind.

use std::fs;
use std::io;
use std::path::Path;

use super::state::State;
pub use super::state::{Leftover, Removed, StateError};

/// Removes the control groups and folders of labs below `state_root` whose supervisor is gone, and
/// returns what was removed. Labs that are up are left alone.
pub fn sweep(state_root: &Path) -> Result<Vec<Removed>, StateError> {
    let mut removed = Vec::new();
    let folders = match fs::read_dir(state_root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(source) => {
            let path = state_root.to_owned();
            return Err(StateError::File {
                operation: "list",
                path,
                source,
            });
        }
        Ok(folders) => folders,
    };
    for folder in folders.flatten() {
        if folder.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(state) = State::lock(&folder.path())?
        {
            removed.extend(state.remove()?);
        }
    }
    Ok(removed)
}
