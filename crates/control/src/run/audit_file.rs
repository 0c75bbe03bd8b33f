//! The audit device that is a file: one JSON object a line, each with the hash of the line before.
//!
//! Room is allocated ahead of its end, so that on a full disk what was asked and done can still be
//! recorded, for a time. What happens to the file is noticed when it is made durable: moved away, it
//! is made anew, and goes on there; deleted or cut, what was not durable before is written again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// Longest line: two values of the largest size and room for the rest, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Bytes that are allocated at a time at least, when room is short.
const STEP_BYTES_MIN: u64 = 4096;
/// Bytes that are allocated at a time at least, while there is room: to allocate for each line takes as
/// long as to write it.
const STEP_BYTES: u64 = 256 << 10;

/// An audit file, open for appending.
pub struct AuditFile {
    path: PathBuf,
    file: Arc<File>,
    /// The number of the last line written, if any.
    last: Option<u64>,
    /// Where that line ends.
    length: u64,
    /// The number of the last line that was made durable, if any.
    last_durable: Option<u64>,
    /// Where that line ends.
    length_durable: u64,
    /// Up to here blocks are allocated.
    paid: u64,
    /// So many bytes are to be allocated beyond the end.
    ahead: u64,
    has_room: bool,
    /// Its permission bits; `None`: left as they are.
    mode: Option<u32>,
    /// Its hash.
    tail: Option<LineHash>,
}

/// SHA-256 of a line.
pub type LineHash = [u8; 32];

/// How far a file was written when it began to be made durable.
pub struct Mark {
    file: Arc<File>,
    last: Option<u64>,
    length: u64,
}

impl Mark {
    /// Makes what was written up to here durable. It takes milliseconds: meanwhile the file may well be
    /// appended to.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What became of the file since it was made durable last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// Nothing: what was appended is durable in it.
    Kept,
    /// It was moved away: what was appended is durable in it, and a new one was begun.
    Moved,
    /// It was deleted or cut: what was appended since then is to be appended again.
    Lost,
}

impl AuditFile {
    /// Opens the file, made for its owner alone if it is missing. A line that a crash cut is taken
    /// back: its record is still in the outbox. `ahead`: bytes to be allocated beyond its end.
    pub fn open(path: &Path, ahead: u64) -> io::Result<Self> {
        Self::open_as(path, ahead, Some(0o600))
    }

    /// As [`Self::open`], with these permission bits; `None`: as they are, or for its owner alone.
    pub fn open_as(path: &Path, ahead: u64, mode: Option<u32>) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let there = file.metadata()?;
        if !there.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if there.mode() & 0o111 != 0 {
            return Err(io::Error::other("it can be executed"));
        }
        let tail = tail(&mut file)?;
        let mut length = file.metadata()?.len();
        if tail.cut != 0 {
            length -= tail.cut;
            file.set_len(length)?;
        }
        let mut this = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            last: tail.last,
            length,
            last_durable: tail.last,
            length_durable: length,
            paid: length,
            ahead,
            has_room: true,
            mode,
            tail: tail.hash,
        };
        if let Some(mode) = mode
            && there.mode() & 0o777 != mode
        {
            let permissions = std::fs::Permissions::from_mode(mode);
            this.file.set_permissions(permissions)?;
        }
        this.make_room()?;
        Ok(this)
    }

    /// Lets every further write fail.
    #[cfg(test)]
    pub(super) fn break_it(&mut self) {
        self.file = File::open(&self.path)
            .expect("a test's file is there")
            .into();
        self.paid = self.length;
    }

    /// Allocates room beyond the end, if the disk has it. Returns whether it had.
    pub fn make_room(&mut self) -> io::Result<bool> {
        self.has_room = self.pay(self.length + self.ahead)?;
        Ok(self.has_room)
    }

    /// Returns how many bytes can be appended though the disk is full; `None` while it is not.
    pub fn left(&self) -> Option<u64> {
        (!self.has_room).then(|| self.paid.saturating_sub(self.length))
    }

    /// Returns the number and the hash of the last line, if there is one.
    pub fn tail(&self) -> Option<(u64, LineHash)> {
        self.last.zip(self.tail)
    }

    /// Returns the lines of the file from number `from` on, as their numbers and hashes.
    pub fn lines_from(&mut self, from: u64) -> io::Result<Vec<(u64, LineHash)>> {
        let length = self.length;
        let mut window = 1 << 20;
        loop {
            let start = length.saturating_sub(window);
            let mut bytes = vec![0; usize::try_from(length - start).map_err(io::Error::other)?];
            std::os::unix::fs::FileExt::read_exact_at(&*self.file, &mut bytes, start)?;
            // What stands before the first end of a line may be a part of one.
            let whole = match start {
                0 => 0,
                _ => bytes
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .map_or(bytes.len(), |at| at + 1),
            };
            let mut found = Vec::new();
            let mut reaches = start == 0;
            for line in bytes[whole..].split(|&byte| byte == b'\n') {
                if line.is_empty() {
                    continue;
                }
                let parsed: Numbered = serde_json::from_slice(line)
                    .map_err(|_| io::Error::other("a line is not one of ours"))?;
                reaches |= parsed.seq <= from;
                if from <= parsed.seq {
                    found.push((parsed.seq, line_hash(line)));
                }
            }
            if reaches {
                return Ok(found);
            }
            window *= 4;
        }
    }

    /// Returns the number of the last line that is durable, if any.
    pub fn last_durable(&self) -> Option<u64> {
        self.last_durable
    }

    /// Returns up to where the file is known to be durable, in bytes.
    pub fn length_durable(&self) -> u64 {
        self.length_durable
    }

    /// Allocates blocks up to `want`, or as far as there is room: some may be there already.
    fn pay(&mut self, want: u64) -> io::Result<bool> {
        let mut step = want.saturating_sub(self.paid);
        while self.paid < want && STEP_BYTES_MIN.min(want - self.paid) <= step {
            step = step.min(want - self.paid);
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.paid, step) {
                // A file system that cannot allocate ahead is believed to have room.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.paid += step,
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => step /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(want <= self.paid)
    }

    /// Appends lines with their numbers and hashes, as many as there is room for; a number that stands
    /// in the file already is passed over. Returns how many are in the file now, from the first on.
    pub fn append<'l>(
        &mut self,
        lines: impl IntoIterator<Item = (u64, &'l [u8], LineHash)>,
    ) -> io::Result<usize> {
        // Two lines of a usual request.
        let mut text = Vec::with_capacity(4096);
        let (mut newest, mut newest_hash) = (self.last, None);
        let mut taken = 0;
        for (number, line, hash) in lines {
            if newest.is_none_or(|newest| newest < number) {
                let end = self.length + (text.len() + line.len() + 1) as u64;
                if self.paid < end {
                    self.pay(end + self.ahead.max(STEP_BYTES))?;
                }
                if self.paid < end {
                    self.has_room = false;
                    break;
                }
                text.extend_from_slice(line);
                text.push(b'\n');
                newest = Some(number);
                newest_hash = Some(hash);
            }
            taken += 1;
        }
        if text.is_empty() {
            return Ok(taken);
        }
        if let Err(error) = (&*self.file).write_all(&text) {
            // A part may be there: take it back, so that a later attempt does not follow half a line.
            let _ = self.file.set_len(self.length);
            self.paid = self.length;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.last = newest;
        self.tail = newest_hash;
        if self.paid < self.length + self.ahead / 2 || !self.has_room {
            self.make_room()?;
        }
        Ok(taken)
    }

    /// Returns how far it is written.
    pub fn mark(&self) -> Mark {
        Mark {
            file: Arc::clone(&self.file),
            last: self.last,
            length: self.length,
        }
    }

    /// Returns whether a mark is of the file that is open now.
    pub fn is_of(&self, mark: &Mark) -> bool {
        Arc::ptr_eq(&self.file, &mark.file)
    }

    /// Makes what was appended durable, and looks what became of the file meanwhile.
    pub fn sync(&mut self) -> io::Result<Synced> {
        let mark = self.mark();
        mark.sync()?;
        self.settle(&mark)
    }

    /// Notes that what was written up to a mark is durable, and looks what became of the file
    /// meanwhile.
    pub fn settle(&mut self, mark: &Mark) -> io::Result<Synced> {
        let mine = self.file.metadata()?;
        let is_cut = mine.len() < self.length;
        if mine.nlink() == 0 || is_cut {
            let what = if is_cut { "cut" } else { "deleted" };
            tracing::warn!(path = %self.path.display(), what, "the audit file was tampered with");
            let durable = self.last_durable;
            *self = Self::open_as(&self.path, self.ahead, self.mode)?;
            if self.last < durable {
                (self.last, self.tail) = (durable, None);
            }
            return Ok(Synced::Lost);
        }
        self.last_durable = mark.last;
        self.length_durable = mark.length;
        let there = std::fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())) {
            return Ok(Synced::Kept);
        }
        if mark.length < self.length {
            self.file.sync_data()?;
        }
        // What was allocated beyond the end of the old file goes back to the disk.
        let _ = self.file.set_len(self.length);
        self.paid = self.length;
        let last = self.last;
        *self = Self::open_as(&self.path, self.ahead, self.mode)?;
        self.last = self.last.max(last);
        self.last_durable = self.last;
        tracing::info!(path = %self.path.display(), "the audit file was moved away, a new one begun");
        Ok(Synced::Moved)
    }
}

/// The end of a file.
struct Tail {
    /// The number of the last whole line.
    last: Option<u64>,
    /// Its hash.
    hash: Option<LineHash>,
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
    let hash = line.map(line_hash);
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
        hash,
        cut: (bytes.len() - whole) as u64,
    })
}

/// Returns the hash that the next line names.
pub(super) fn line_hash(line: &[u8]) -> LineHash {
    let hash = digest(&SHA256, line);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[derive(serde::Deserialize)]
struct Numbered {
    seq: u64,
}

#[cfg(test)]
mod tests;
