//! How much room there is where an engine or we keep things.

use std::path::Path;

use crate::core::service::Trouble;

/// With less than this left, in bytes, an image of ordinary size does not fit any more.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// With fewer files left, an image of ordinary size does not fit any more.
const FREE_FILES_MIN: u64 = 4096;

/// Returns what is wrong with the room in the engine's folder, if this process can see that folder.
pub fn full(folder: &Path) -> Option<Trouble> {
    // An engine may keep its things where this process cannot look: that is no trouble.
    let room = rustix::fs::statvfs(folder).ok()?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    // File systems without a fixed number of files say 0 of 0.
    let has_files = room.f_files == 0 || FREE_FILES_MIN <= room.f_favail;
    if FREE_BYTES_MIN <= free && has_files {
        return None;
    }
    let left = if has_files {
        format!("{} MiB", free >> 20)
    } else {
        format!("{} files", room.f_favail)
    };
    Some(Trouble::new(
        format!(
            "the disk of the container engine is full: {left} left in `{}`, so images cannot be \
             pulled nor containers started",
            folder.display()
        ),
        "docker system prune",
    ))
}

/// Whether an engine's words mean that its disk is full.
pub fn is_full(message: &str) -> bool {
    message.contains("no space left on device")
}
