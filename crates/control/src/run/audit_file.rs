//! The audit device that is a file: one JSON object a line, each with the hash of the line before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Longest line: two values of the largest size and room for the rest, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// An audit file, open for appending.
pub struct AuditFile {
    path: PathBuf,
    file: File,
    /// The number of the last line written, if any.
    last: Option<u64>,
}

impl AuditFile {
    /// Opens the file, made for its owner alone if it is missing. A line that a crash cut is taken
    /// back: its record is still in the outbox.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let tail = tail(&mut file)?;
        if tail.cut != 0 {
            let length = file.metadata()?.len() - tail.cut;
            file.set_len(length)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            last: tail.last,
        })
    }

    /// Appends a line with its number; a number that stands in the file already is passed over.
    pub fn append(&mut self, lines: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let last = self.last;
        let new = lines
            .iter()
            .filter(|(number, _)| last.is_none_or(|last| last < *number));
        let mut text = Vec::new();
        let mut newest = last;
        for (number, line) in new {
            text.extend_from_slice(line);
            text.push(b'\n');
            newest = Some(*number);
        }
        if text.is_empty() {
            return Ok(());
        }
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&text) {
            // A part may be there: take it back, so that a later attempt does not follow half a line.
            let _ = self.file.set_len(before);
            return Err(error);
        }
        self.last = newest;
        Ok(())
    }

    /// Makes what was appended durable. A file that was moved or deleted under us is opened anew.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let mine = self.file.metadata()?;
        let there = std::fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())) {
            return Ok(());
        }
        let last = self.last;
        *self = Self::open(&self.path)?;
        self.last = self.last.max(last);
        Ok(())
    }
}

/// The end of a file.
struct Tail {
    /// The number of the last whole line.
    last: Option<u64>,
    /// Bytes after it.
    cut: u64,
}

fn tail(file: &mut File) -> io::Result<Tail> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    if whole == 0 && start != 0 {
        return Err(io::Error::other("its last line is longer than any of ours"));
    }
    let line = bytes[..whole]
        .split(|&byte| byte == b'\n')
        .rfind(|line| !line.is_empty());
    let last = match line {
        None => None,
        Some(line) => {
            let line: Numbered = serde_json::from_slice(line)
                .map_err(|_| io::Error::other("its last line is not one of ours"))?;
            Some(line.seq)
        }
    };
    Ok(Tail {
        last,
        cut: (bytes.len() - whole) as u64,
    })
}

#[derive(serde::Deserialize)]
struct Numbered {
    seq: u64,
}

#[cfg(test)]
mod tests;
