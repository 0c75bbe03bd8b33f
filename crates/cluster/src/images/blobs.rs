//! Files named by the SHA-256 of what they hold.
//!
//! ```text
//! <root>/blobs/<64 hex digits>   complete and verified
//! <root>/partial/<number>        being written; removed at the next start
//! <root>/names.json              what was pushed under which name
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use bastide_stack::{Digest, ImageRef};

use super::names::{Full, Names};

/// Longest blob, in bytes. Layers of several GiB exist; more is a mistake or an attack.
pub const BLOB_BYTES_MAX: u64 = 8 << 30;
/// Longest file of names.
const NAMES_BYTES_MAX: u64 = 8 << 20;

/// The blobs of this node.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
    /// Numbers the files in `partial`.
    next: AtomicU64,
    names: Mutex<Names>,
}

/// Why a blob could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file system refused.
    #[error("could not {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The source ended with an error.
    #[error("could not read the bytes of a blob")]
    Source(#[source] io::Error),
    /// The bytes are not those that were asked for.
    #[error("expected blob `{expected}` but got the bytes of `{actual}`")]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Longer than allowed.
    #[error("a blob is longer than {max} bytes")]
    TooLong {
        /// The limit, in bytes.
        max: u64,
    },
    /// The table of names cannot be read by this program.
    #[error("`{path}` is not a table of names that this program can read")]
    Names {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; `None`: its format is newer.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The table of names is full.
    #[error(transparent)]
    Full(#[from] Full),
}

impl Blobs {
    /// Opens the store at `root`, which only one process does at a time; makes it if it is not
    /// there, and removes what an interrupted write left behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let root = root.into();
        for directory in [root.clone(), root.join("blobs"), root.join("partial")] {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory);
            made.map_err(failed("make directory", &directory))?;
        }
        let partial = root.join("partial");
        let entries = fs::read_dir(&partial).map_err(failed("read directory", &partial))?;
        for entry in entries {
            let path = entry.map_err(failed("read directory", &partial))?.path();
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let names = read_names(&root.join("names.json"))?;
        Ok(Self {
            root,
            next: AtomicU64::new(0),
            names: Mutex::new(names),
        })
    }

    /// Returns the size of a blob in bytes; `None` if it is not here.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        let meta = fs::symlink_metadata(self.path(digest)).ok()?;
        meta.is_file().then_some(meta.len())
    }

    /// Whether a blob is here.
    pub fn has(&self, digest: Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Opens a blob for reading; `None` if it is not here.
    pub fn read(&self, digest: Digest) -> Result<Option<File>, BlobError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Reads a small blob whole; `None` if it is not here or longer than `bytes_max`.
    pub fn read_small(&self, digest: Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, BlobError> {
        let Some(file) = self.read(digest)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut limited = file.take(bytes_max + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(failed("read", &self.path(digest)))?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max);
        Ok(fits.then_some(bytes))
    }

    /// Keeps bytes; returns their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let mut partial = self.begin(BLOB_BYTES_MAX)?;
        partial.write(bytes)?;
        Ok(partial.finish().keep(self)?.0)
    }

    /// Begins to write a blob of at most `bytes_max` bytes. Dropped before [`Complete::keep`], it
    /// leaves nothing behind.
    pub fn begin(&self, bytes_max: u64) -> Result<Partial, BlobError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("partial").join(number.to_string());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(failed("make", &path))?;
        Ok(Partial {
            file,
            scrap: Scrap(path),
            context: Context::new(&SHA256),
            length: 0,
            bytes_max,
        })
    }

    /// Remembers what a name means on this node.
    pub fn name(&self, image: &ImageRef, digest: Digest) -> Result<(), BlobError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = names.clone();
        changed.insert(image, digest)?;
        self.write_names(&changed)?;
        *names = changed;
        Ok(())
    }

    /// Says which digest a name meant when it was last pushed to this node. A name that holds a
    /// digest means that digest, if its blob is here.
    pub fn resolve(&self, image: &ImageRef) -> Option<Digest> {
        match image.digest() {
            Some(digest) => self.has(digest).then_some(digest),
            None => self
                .names
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(image),
        }
    }

    /// Returns all names, in their one spelling (`hello:latest`), with what they mean.
    pub fn names(&self) -> Vec<(String, Digest)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .iter()
            .map(|(name, digest)| (name.to_owned(), digest))
            .collect()
    }

    /// Forgets the names of images that are not here any more.
    pub(super) fn forget_names_of_missing(&self) -> Result<(), BlobError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = names.clone();
        changed.retain(|digest| self.has(digest));
        if changed != *names {
            self.write_names(&changed)?;
            *names = changed;
        }
        Ok(())
    }

    /// The folder of the complete blobs.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn write_names(&self, names: &Names) -> Result<(), BlobError> {
        let path = self.root.join("names.json");
        let text = serde_json::to_vec(names).expect("texts and digests are always JSON");
        let mut partial = self.begin(NAMES_BYTES_MAX)?;
        partial.write(&text)?;
        partial.finish().rename(&self.root, &path)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }
}

/// Makes a blob as young as one that was kept just now, so that it is not swept away.
fn renew(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    let flags = rustix::fs::AtFlags::empty();
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}

fn read_names(path: &Path) -> Result<Names, BlobError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Names::new()),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let refuse = |source| BlobError::Names {
        path: path.to_owned(),
        source,
    };
    let names: Names =
        serde_json::from_reader(file.take(NAMES_BYTES_MAX)).map_err(|error| refuse(Some(error)))?;
    if names.is_known_format() {
        Ok(names)
    } else {
        Err(refuse(None))
    }
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io {
        operation,
        path,
        source,
    }
}

/// A file that is removed when dropped.
#[derive(Debug)]
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// A blob that is being written.
pub struct Partial {
    file: File,
    scrap: Scrap,
    context: Context,
    length: u64,
    bytes_max: u64,
}

impl Partial {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let more = u64::try_from(bytes.len()).expect("a slice's length fits 64 bits");
        self.length = self.length.saturating_add(more);
        if self.bytes_max < self.length {
            return Err(BlobError::TooLong {
                max: self.bytes_max,
            });
        }
        self.context.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.scrap.0))
    }

    /// Appends all that `source` gives.
    pub fn copy(&mut self, source: &mut dyn Read) -> Result<(), BlobError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.write(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlobError::Source(error)),
            }
        }
    }

    /// Ends the writing and computes the digest.
    pub fn finish(self) -> Complete {
        let sum = self.context.finish();
        let sum = sum.as_ref().try_into().expect("a SHA-256 sum has 32 bytes");
        Complete {
            scrap: self.scrap,
            digest: Digest::from_sha256(sum),
            length: self.length,
        }
    }
}

/// A blob that is written and not yet kept. It holds no open file: an archive has hundreds.
#[derive(Debug)]
pub struct Complete {
    scrap: Scrap,
    digest: Digest,
    length: u64,
}

impl Complete {
    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns how many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads the bytes back, for texts.
    pub fn read(&self) -> Result<Vec<u8>, BlobError> {
        fs::read(&self.scrap.0).map_err(failed("read", &self.scrap.0))
    }

    /// Keeps it, under its own digest.
    pub fn keep(self, blobs: &Blobs) -> Result<(Digest, u64), BlobError> {
        let (digest, length) = (self.digest, self.length);
        let path = blobs.path(digest);
        if blobs.size(digest) != Some(length) {
            self.rename(&blobs.root.join("blobs"), &path)?;
        } else if let Err(error) = renew(&path) {
            // It may have been swept away between the two looks.
            tracing::debug!(%error, "blob that is here already could not be renewed");
            self.rename(&blobs.root.join("blobs"), &path)?;
        }
        Ok((digest, length))
    }

    /// Keeps it if it is what was asked for.
    pub fn keep_as(self, blobs: &Blobs, expected: Digest) -> Result<u64, BlobError> {
        if self.digest != expected {
            let actual = self.digest;
            return Err(BlobError::Mismatch { expected, actual });
        }
        Ok(self.keep(blobs)?.1)
    }

    /// Moves the file to its place, such that after a crash there is all of it or nothing.
    fn rename(self, directory: &Path, path: &Path) -> Result<(), BlobError> {
        File::open(&self.scrap.0)
            .and_then(|file| file.sync_data())
            .map_err(failed("write", &self.scrap.0))?;
        fs::rename(&self.scrap.0, path).map_err(failed("make", path))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("write", directory))
    }
}

#[cfg(test)]
mod tests;
