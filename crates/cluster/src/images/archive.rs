//! Takes an image out of what `docker save` writes: the legacy layout (`manifest.json`, one tar per
//! layer) and the OCI layout (`index.json`, blobs).
//!
//! The archive is read once, from front to back. Each file in it becomes a blob that is kept only if
//! the image needs it; no path of the archive ever becomes a path on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use bastide_stack::{Digest, ImageRef};
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::blobs::{BLOB_BYTES_MAX, BlobError, Blobs, Complete};
use super::manifest::{
    Descriptor, Document, LAYERS_MAX, MANIFEST_BYTES_MAX, MANIFESTS_MAX, Manifest, OCI_CONFIG,
    OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST,
};

/// Longest archive, in bytes.
const ARCHIVE_BYTES_MAX: u64 = 32 << 30;
/// Most entries of an archive: `docker save` writes four per layer.
const ENTRIES_MAX: usize = 10_000;
/// Longest extended header.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Most links from one layer to another.
const LINKS_MAX: usize = 8;
/// Deepest nesting of indexes.
const INDEX_DEPTH_MAX: usize = 3;

/// An image that was taken out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The digest of its manifest or index: what to deploy by.
    pub digest: Digest,
    /// The names it had in the archive; each now resolves to `digest` on this node.
    pub names: Vec<ImageRef>,
}

/// Why an archive could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a tar file, or cut off.
    #[error("could not read the archive")]
    Tar(#[source] io::Error),
    /// Something in it is not as an image archive is.
    #[error("the archive is not an image: {0}")]
    Image(String),
    /// Too much of something.
    #[error("the archive has more than {max} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A file of the archive could not be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Imports all images of an archive and remembers their names. The same archive always gives the
/// same digests. Blocking.
pub fn import_docker_archive(
    blobs: &Blobs,
    archive: impl Read,
) -> Result<Vec<Imported>, ArchiveError> {
    let mut files = Files::read(blobs, archive)?;
    let images = match files.text("index.json")? {
        Some(index) => import_layout(blobs, &mut files, &index)?,
        None => match files.text("manifest.json")? {
            Some(list) => import_legacy(blobs, &mut files, &list)?,
            None => {
                let what = "it has neither `manifest.json` nor `index.json`".to_owned();
                return Err(ArchiveError::Image(what));
            }
        },
    };
    if images.is_empty() {
        return Err(ArchiveError::Image("it holds no image".to_owned()));
    }
    for image in &images {
        for name in &image.names {
            blobs.name(name, image.digest)?;
        }
    }
    Ok(images)
}

/// The files of an archive, each written aside.
struct Files {
    files: BTreeMap<String, Complete>,
    links: BTreeMap<String, String>,
}

impl Files {
    fn read(blobs: &Blobs, archive: impl Read) -> Result<Self, ArchiveError> {
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        let mut archive = Archive::new(archive.take(ARCHIVE_BYTES_MAX));
        // Raw: long names and extended headers would otherwise be read into memory unbounded.
        let entries = archive.entries().map_err(ArchiveError::Tar)?.raw(true);
        for (position, entry) in entries.enumerate() {
            if ENTRIES_MAX <= position {
                let (what, max) = ("entries", 10_000);
                return Err(ArchiveError::TooMuch { what, max });
            }
            let mut entry = entry.map_err(ArchiveError::Tar)?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
                check_extension(&mut entry)?;
                continue;
            }
            let Some(path) = normal_path(&entry.path_bytes()) else {
                let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let what = format!("`{}` leads out of it", path.escape_debug());
                return Err(ArchiveError::Image(what));
            };
            match kind {
                EntryType::Regular | EntryType::Continuous => {
                    let mut partial = blobs.begin(BLOB_BYTES_MAX)?;
                    partial.copy(&mut entry)?;
                    let file = partial.finish();
                    if file.length() != entry.size() {
                        return Err(ArchiveError::Tar(io::ErrorKind::UnexpectedEof.into()));
                    }
                    files.insert(path, file);
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    // A symbolic link starts from its own directory, a hard link from the root.
                    let base = match path.rsplit_once('/') {
                        Some((directory, _)) if kind == EntryType::Symlink => directory,
                        _ => "",
                    };
                    if let Some(target) = join(base, &target) {
                        links.insert(path, target);
                    }
                }
                EntryType::Directory => {}
                other => {
                    let what = format!("`{}` is a {other:?}", path.escape_debug());
                    return Err(ArchiveError::Image(what));
                }
            }
        }
        Ok(Self { files, links })
    }

    /// Follows links to where they end; `None` if there are too many.
    fn follow<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        let mut path = path;
        for _ in 0..LINKS_MAX {
            match self.links.get(path) {
                Some(target) => path = target,
                None => return Some(path),
            }
        }
        None
    }

    /// Returns the bytes of a small file.
    fn text(&self, path: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(file) = self.follow(path).and_then(|path| self.files.get(path)) else {
            return Ok(None);
        };
        if MANIFEST_BYTES_MAX < file.length() {
            let what = "bytes in a manifest";
            return Err(ArchiveError::TooMuch {
                what,
                max: MANIFEST_BYTES_MAX,
            });
        }
        Ok(Some(file.read()?))
    }

    /// Keeps a file as a blob.
    fn keep(&mut self, blobs: &Blobs, path: &str) -> Result<(Digest, u64), ArchiveError> {
        let missing = || ArchiveError::Image(format!("`{}` is missing", path.escape_debug()));
        let path = self.follow(path).ok_or_else(missing)?.to_owned();
        let file = self.files.remove(&path).ok_or_else(missing)?;
        let (digest, length) = file.keep(blobs)?;
        Ok((digest, length))
    }
}

/// An extended header may not change what the plain one says about name and length.
fn check_extension(entry: &mut impl Read) -> Result<(), ArchiveError> {
    let mut bytes = Vec::new();
    let mut limited = entry.take(EXTENSION_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(ArchiveError::Tar)?;
    if EXTENSION_BYTES_MAX < u64::try_from(bytes.len()).unwrap_or(u64::MAX) {
        let what = "bytes in an extended header";
        return Err(ArchiveError::TooMuch {
            what,
            max: EXTENSION_BYTES_MAX,
        });
    }
    for extension in tar::PaxExtensions::new(&bytes) {
        let extension = extension.map_err(ArchiveError::Tar)?;
        let key = extension.key_bytes();
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse") {
            let key = String::from_utf8_lossy(key).into_owned();
            return Err(ArchiveError::Image(format!(
                "its extended header `{key}` is not supported"
            )));
        }
    }
    Ok(())
}

/// Returns a path in its one spelling; `None` if it is absolute, leads upwards or is not text.
fn normal_path(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let words = path.split('/').filter(|word| !matches!(*word, "" | "."));
    let words: Vec<&str> = words.collect();
    (!words.contains(&"..")).then(|| words.join("/"))
}

/// Resolves a link; `None` if it leads out of the archive.
fn join(base: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if target.starts_with('/') {
        return None;
    }
    let mut words: Vec<&str> = base.split('/').filter(|word| !word.is_empty()).collect();
    for word in target.split('/').filter(|word| !matches!(*word, "" | ".")) {
        match word {
            ".." => drop(words.pop()?),
            word => words.push(word),
        }
    }
    Some(words.join("/"))
}

/// An image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// The part of an image's configuration that ties it to its layers.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

fn read_json<'a, T: Deserialize<'a>>(path: &str, bytes: &'a [u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let path = path.escape_debug();
        ArchiveError::Image(format!("`{path}` cannot be read: {error}"))
    })
}

fn import_legacy(
    blobs: &Blobs,
    files: &mut Files,
    list: &[u8],
) -> Result<Vec<Imported>, ArchiveError> {
    let images: Vec<LegacyImage> = read_json("manifest.json", list)?;
    if MANIFESTS_MAX < images.len() {
        return Err(ArchiveError::TooMuch {
            what: "images",
            max: 256,
        });
    }
    // Several images may share a layer: a file is kept once.
    let mut kept: BTreeMap<String, (Digest, u64, &'static str)> = BTreeMap::new();
    let mut imported = Vec::new();
    for image in images {
        let path = plain(&image.config)?;
        let bytes = files.text(&path)?;
        let bytes = match (bytes, kept.get(&path)) {
            (Some(bytes), _) => bytes,
            (None, Some((digest, ..))) => blobs
                .read_small(*digest, MANIFEST_BYTES_MAX)?
                .unwrap_or_default(),
            (None, None) => {
                return Err(ArchiveError::Image(format!("`{path}` is missing")));
            }
        };
        let config: Config = read_json(&path, &bytes)?;
        let diff_ids = config.rootfs.diff_ids;
        if LAYERS_MAX < image.layers.len() || diff_ids.len() != image.layers.len() {
            let what = format!(
                "it has {} layers where its configuration has {} and {LAYERS_MAX} are allowed",
                image.layers.len(),
                diff_ids.len()
            );
            return Err(ArchiveError::Image(what));
        }
        let mut layers = Vec::new();
        for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
            layers.push(keep_layer(
                blobs,
                files,
                &mut kept,
                &plain(layer)?,
                *diff_id,
            )?);
        }
        let (digest, size) = match kept.get(&path) {
            Some((digest, size, _)) => (*digest, *size),
            None => files.keep(blobs, &path)?,
        };
        kept.insert(path, (digest, size, OCI_CONFIG));
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: Descriptor {
                media_type: OCI_CONFIG.to_owned(),
                digest,
                size,
            },
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).expect("texts and digests are always JSON");
        imported.push(Imported {
            digest: blobs.put(&bytes)?,
            names: names(image.repo_tags.unwrap_or_default()),
        });
    }
    Ok(imported)
}

fn keep_layer(
    blobs: &Blobs,
    files: &mut Files,
    kept: &mut BTreeMap<String, (Digest, u64, &'static str)>,
    path: &str,
    diff_id: Digest,
) -> Result<Descriptor, ArchiveError> {
    let own = files.follow(path).unwrap_or(path).to_owned();
    let (digest, size, media_type) = if let Some(known) = kept.get(&own) {
        *known
    } else {
        let (digest, size) = files.keep(blobs, &own)?;
        let mut magic = [0; 2];
        let read = blobs
            .read(digest)?
            .map(|mut file| file.read_exact(&mut magic));
        let is_gzip = matches!(read, Some(Ok(()))) && magic == [0x1f, 0x8b];
        let media_type = if is_gzip { OCI_LAYER_GZIP } else { OCI_LAYER };
        kept.insert(own, (digest, size, media_type));
        (digest, size, media_type)
    };
    // The engine checks a compressed layer after unpacking it; a plain one is checked here.
    if media_type == OCI_LAYER && digest != diff_id {
        return Err(ArchiveError::Image(format!(
            "layer `{path}` is not `{diff_id}`"
        )));
    }
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
    })
}

fn plain(path: &str) -> Result<String, ArchiveError> {
    normal_path(path.as_bytes())
        .ok_or_else(|| ArchiveError::Image(format!("`{}` leads out of it", path.escape_debug())))
}

fn names(texts: impl IntoIterator<Item = String>) -> Vec<ImageRef> {
    let names: BTreeSet<ImageRef> = texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    names.into_iter().collect()
}

/// `index.json` of an OCI layout.
#[derive(Deserialize)]
struct Layout {
    manifests: Vec<LayoutEntry>,
}

#[derive(Deserialize)]
struct LayoutEntry {
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn import_layout(
    blobs: &Blobs,
    files: &mut Files,
    index: &[u8],
) -> Result<Vec<Imported>, ArchiveError> {
    let layout: Layout = read_json("index.json", index)?;
    if MANIFESTS_MAX < layout.manifests.len() {
        return Err(ArchiveError::TooMuch {
            what: "images",
            max: 256,
        });
    }
    // Docker also writes `manifest.json`, where names stand in full.
    let legacy: Vec<LegacyImage> = match files.text("manifest.json")? {
        Some(list) => read_json("manifest.json", &list)?,
        None => Vec::new(),
    };
    let mut imported: Vec<Imported> = Vec::new();
    for entry in layout.manifests {
        let mut walk = Walk::default();
        if !walk.keep_image(blobs, files, entry.digest, 0)? {
            let what = format!("manifest `{}` lacks a blob", entry.digest);
            return Err(ArchiveError::Image(what));
        }
        let annotated = entry.annotations.get("io.containerd.image.name").cloned();
        let listed = legacy
            .iter()
            .filter(|image| {
                walk.configs
                    .iter()
                    .any(|config| image.config.ends_with(&config.hex()))
            })
            .flat_map(|image| image.repo_tags.iter().flatten().cloned());
        let names = names(annotated.into_iter().chain(listed));
        match imported
            .iter_mut()
            .find(|known| known.digest == entry.digest)
        {
            Some(known) => {
                let all = names.into_iter().chain(known.names.drain(..));
                known.names = all.collect::<BTreeSet<_>>().into_iter().collect();
            }
            None => imported.push(Imported {
                digest: entry.digest,
                names,
            }),
        }
    }
    Ok(imported)
}

/// The way through an image's indexes and manifests.
#[derive(Default)]
struct Walk {
    /// The configurations that were met.
    configs: BTreeSet<Digest>,
    /// Documents that were walked at which depth, and whether they are complete. An index may name
    /// the next one 256 times, and that one the next: each is walked once.
    walked: BTreeMap<(Digest, usize), bool>,
}

impl Walk {
    /// Keeps a manifest and what it needs; `false` if something is missing. Of an index, one
    /// complete image is enough: `docker save` leaves out other platforms.
    fn keep_image(
        &mut self,
        blobs: &Blobs,
        files: &mut Files,
        digest: Digest,
        depth: usize,
    ) -> Result<bool, ArchiveError> {
        if let Some(complete) = self.walked.get(&(digest, depth)) {
            return Ok(*complete);
        }
        let complete = self.walk(blobs, files, digest, depth)?;
        self.walked.insert((digest, depth), complete);
        Ok(complete)
    }

    fn walk(
        &mut self,
        blobs: &Blobs,
        files: &mut Files,
        digest: Digest,
        depth: usize,
    ) -> Result<bool, ArchiveError> {
        if INDEX_DEPTH_MAX < depth || !keep_blob(blobs, files, digest)? {
            return Ok(false);
        }
        let bytes = blobs
            .read_small(digest, MANIFEST_BYTES_MAX)?
            .unwrap_or_default();
        match Document::read(&bytes) {
            Some(Document::Manifest { config, layers, .. }) => {
                self.configs.insert(config.digest);
                for descriptor in layers.iter().chain([&config]) {
                    if !keep_blob(blobs, files, descriptor.digest)?
                        || blobs.size(descriptor.digest) != Some(descriptor.size)
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Some(Document::Index { manifests, .. }) => {
                let mut complete = false;
                for descriptor in manifests {
                    complete |= self.keep_image(blobs, files, descriptor.digest, depth + 1)?;
                }
                Ok(complete)
            }
            None => Err(ArchiveError::Image(format!(
                "blob `{digest}` is no manifest"
            ))),
        }
    }
}

fn keep_blob(blobs: &Blobs, files: &mut Files, digest: Digest) -> Result<bool, ArchiveError> {
    let path = format!("blobs/sha256/{}", digest.hex());
    match files.files.remove(&path) {
        Some(file) => {
            file.keep_as(blobs, digest)?;
            Ok(true)
        }
        None => Ok(blobs.has(digest)),
    }
}

#[cfg(test)]
mod tests;
