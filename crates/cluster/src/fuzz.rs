//! What is fuzzed in this crate: images as others made them, and what is asked of the blob server.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::images::blobs::Blobs;
use crate::images::import_docker_archive;
use crate::images::manifest::{Document, LAYERS_MAX, MANIFESTS_MAX};
use crate::images::names::{NAMES_MAX, Names};
use crate::images::serve::range::Range;

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("manifest", manifest),
    ("archive", image_archive),
    ("range", range),
    ("image_names", image_names),
];

/// A document is one thing, and within its limits.
fn manifest(bytes: &[u8]) {
    match Document::read(bytes) {
        Some(Document::Manifest { layers, .. }) => assert!(layers.len() <= LAYERS_MAX),
        Some(Document::Index { manifests, .. }) => assert!(manifests.len() <= MANIFESTS_MAX),
        None => {}
    }
}

/// A folder in memory that goes away with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = format!("/dev/shm/bastide-fuzz-{process}-{number}");
        std::fs::create_dir(&path).expect("there is room in memory");
        Self(path.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an archive brings is known by its digest and is complete; nothing of it lies elsewhere, and
/// what is refused leaves nothing half done. The first byte says whether the rest is a tar file, or
/// tells of one in words.
fn image_archive(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let made = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        tar_of(rest)
    };
    let folder = Folder::new();
    let root = folder.0.join("blobs");
    let blobs = Blobs::open(&root).expect("the folder is new");
    if let Ok(images) = import_docker_archive(&blobs, made.as_slice()) {
        assert!(!images.is_empty() && images.len() <= MANIFESTS_MAX);
        for image in images {
            assert!(blobs.has(image.digest));
            for name in image.names {
                assert!(blobs.resolve(&name).is_some());
            }
        }
    }
    assert_eq!(entries(&folder.0), std::slice::from_ref(&root));
    let total: u64 = files(&root).iter().map(|(_, length)| length).sum();
    // Each file of the archive once, the manifests that were written for it, and names of a byte or
    // two with their digests.
    let most = 64 * made.len() as u64 + 64 * 1024;
    assert!(total <= most, "{total} bytes of {}", made.len());
    for (path, _) in files(&root) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_known = name.len() == 64 || name == "names.json";
        assert!(is_known, "{} was left", path.display());
    }
}

/// What parts the entries of an archive that is told in words.
const PART: u8 = 0x1e;

/// Makes a tar file of entries: a byte for the kind, a name, a line end, the content. `{{0}}` in
/// either stands for the SHA-256 of the entry with that number, which no fuzzer guesses.
fn tar_of(words: &[u8]) -> Vec<u8> {
    let mut sums: Vec<String> = Vec::new();
    let mut builder = tar::Builder::new(Vec::new());
    for part in words.split(|byte| *byte == PART).take(32) {
        let Some((kind, rest)) = part.split_first() else {
            continue;
        };
        let text = String::from_utf8_lossy(rest).into_owned();
        let text = sums.iter().enumerate().fold(text, |text, (number, sum)| {
            text.replace(&format!("{{{{{number}}}}}"), sum)
        });
        let (name, content) = text.split_once('\n').unwrap_or((&text, ""));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(*kind));
        let is_link = matches!(*kind, b'1' | b'2');
        let content = if is_link {
            let _ = header.set_link_name_literal(content);
            &[]
        } else {
            content.as_bytes()
        };
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let place = &mut header.as_old_mut().name;
        let length = name.len().min(place.len());
        place[..length].copy_from_slice(&name.as_bytes()[..length]);
        header.set_cksum();
        if builder.append(&header, content).is_err() {
            break;
        }
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        sums.push(data_encoding::HEXLOWER.encode(sum.as_ref()));
    }
    builder.into_inner().unwrap_or_default()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).expect("the folder is ours");
    listed.flatten().map(|entry| entry.path()).collect()
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for path in entries(folder) {
        match std::fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => found.extend(files(&path)),
            Ok(about) => {
                assert!(about.is_file(), "`{}` is no file", path.display());
                found.push((path, about.len()));
            }
            Err(_) => {}
        }
    }
    found
}

/// A part lies within the whole. The first byte says how long that is.
fn range(bytes: &[u8]) {
    let Some((size, text)) = bytes.split_first() else {
        return;
    };
    let size = match size {
        255 => u64::MAX,
        size => u64::from(*size),
    };
    match Range::read(&String::from_utf8_lossy(text), size) {
        Some(Range::Part { first, length }) => {
            assert!(length >= 1);
            let end = first.checked_add(length);
            assert!(end.is_some_and(|end| end <= size));
        }
        Some(Range::Unsatisfiable) | None => {}
    }
}

/// The table of names as it is kept.
fn image_names(bytes: &[u8]) {
    let Ok(mut names) = serde_json::from_slice::<Names>(bytes) else {
        return;
    };
    let image = "hello:1".parse().expect("a name");
    let digest = bastide_stack::Digest::from_sha256([1; 32]);
    let known = names.iter().count();
    let taken = names.insert(&image, digest);
    assert!(taken.is_ok() || known >= NAMES_MAX);
    if taken.is_ok() {
        assert_eq!(names.get(&image), Some(digest));
    }
}
