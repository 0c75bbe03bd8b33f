//! Removing what no deployed stack needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use bastide_api::UnixTime;

use super::Digest;
use super::blobs::{BlobError, Blobs, failed};
use super::manifest::{Document, MANIFEST_BYTES_MAX};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes the blobs that none of the images `wanted` consists of and that were kept, or kept again,
/// before `before`, by the host's clock: what is younger may belong to an image that is deployed in a moment. Names of
/// images that are gone are forgotten.
pub fn sweep(
    blobs: &Blobs,
    wanted: &BTreeSet<Digest>,
    before: UnixTime,
) -> Result<Swept, BlobError> {
    let needed = needed(blobs, wanted)?;
    let folder = blobs.folder();
    let mut swept = Swept::default();
    for entry in fs::read_dir(&folder).map_err(failed("read directory", &folder))? {
        let path = entry.map_err(failed("read directory", &folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let digest = name.and_then(|hex| format!("sha256:{hex}").parse().ok());
        // What is not named like a blob is not ours to remove.
        let Some(digest) = digest else { continue };
        if needed.contains(&digest) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        let kept = modified(&meta);
        if before <= kept {
            continue;
        }
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        swept.blobs += 1;
        swept.bytes = swept.bytes.saturating_add(meta.len());
    }
    if swept.blobs != 0 {
        blobs.forget_names_of_missing()?;
    }
    Ok(swept)
}

/// When a file was written, in whole milliseconds.
fn modified(meta: &fs::Metadata) -> UnixTime {
    let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
    let millis = u64::try_from(meta.mtime_nsec() / 1_000_000).unwrap_or(0);
    UnixTime::from_millis(seconds.saturating_mul(1000).saturating_add(millis))
}

/// Follows images to all they consist of, as far as it is here.
fn needed(blobs: &Blobs, wanted: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, BlobError> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<Digest> = wanted.iter().copied().collect();
    while let Some(digest) = open.pop() {
        if !needed.insert(digest) {
            continue;
        }
        let Some(bytes) = blobs.read_small(digest, MANIFEST_BYTES_MAX)? else {
            continue;
        };
        match Document::read(&bytes) {
            Some(Document::Manifest { config, layers, .. }) => {
                // These are no documents, whatever they hold.
                needed.insert(config.digest);
                needed.extend(layers.iter().map(|layer| layer.digest));
            }
            Some(Document::Index { manifests, .. }) => {
                open.extend(manifests.iter().map(|manifest| manifest.digest));
            }
            None => {}
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests;
