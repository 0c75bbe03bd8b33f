//! The store's file, with room reserved ahead, so that a full disk is met between commits and never
//! in the middle of one.
//!
//! ```text
//!   0            logical        physical (the file's size)          paid
//!   |  redb's pages  |  free, ours  |  allocated beyond the end, ours  |
//! ```
//!
//! What lies before `paid` has blocks on the disk (`fallocate`): writing there needs no room. As
//! long as the next growth is paid ahead there is *room*; when it cannot be, the pages that are free
//! in the file and what was paid before still serve what must go on. The file never shrinks: what it
//! gave back on a full disk, others would take.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// Bytes that are paid ahead beyond one doubling: what the largest commit takes, twice, because redb
/// doubles small files until a page fits.
pub(super) const AHEAD_BYTES: u64 = 16 << 20;
/// Bytes of zeroes that are written at a time.
const ZEROES_BYTES: usize = 8 << 10;

/// A store's file, locked against a second process for as long as it is open.
#[derive(Debug)]
pub(super) struct StoreFile {
    file: File,
    extent: Mutex<Extent>,
    has_room: AtomicBool,
    is_abandoned: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    /// What redb believes the length to be.
    logical: u64,
    /// The file's size.
    physical: u64,
    /// Up to here blocks are allocated.
    paid: u64,
}

impl StoreFile {
    /// Opens the file at `path`, for its owner alone if it is made, and locks it. Nothing in it
    /// changes. The error is [`io::ErrorKind::WouldBlock`] if another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            extent: Mutex::new(Extent {
                logical: length,
                physical: length,
                paid: 0,
            }),
            has_room: AtomicBool::new(true),
            is_abandoned: AtomicBool::new(false),
        })
    }

    /// Returns the file's length as it was found or is now.
    pub(super) fn length(&self) -> u64 {
        self.extent().logical
    }

    fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the next growth is paid for.
    pub(super) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Pays for the next growth, if the disk has the room. Returns whether it had.
    pub(super) fn make_room(&self) -> io::Result<bool> {
        let mut extent = self.extent();
        let want = 2 * extent.physical + AHEAD_BYTES;
        let paid = pay(&self.file, &mut extent, want)?;
        self.has_room.store(paid, Ordering::Relaxed);
        Ok(paid)
    }

    /// Lets nothing more reach the disk, as a crash would. A clean close would trim the file, and
    /// give away what it has paid for.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.is_abandoned.load(Ordering::Acquire) {
            return Err(io::Error::other("the store was closed"));
        }
        Ok(())
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let zeroes = [0; ZEROES_BYTES];
        let mut at = from;
        while at < to {
            let some = usize::try_from(to - at).map_or(ZEROES_BYTES, |left| left.min(ZEROES_BYTES));
            self.file.write_all_at(&zeroes[..some], at)?;
            at += some as u64;
        }
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.check()?;
        let mut extent = self.extent();
        let stale = extent.logical..extent.physical.min(length);
        if extent.physical < length {
            self.file.set_len(length)?;
            if !pay(&self.file, &mut extent, length)? {
                // Taken back, so that the file is as long as what it was last told to hold.
                self.file.set_len(extent.physical)?;
                self.has_room.store(false, Ordering::Relaxed);
                return Err(io::ErrorKind::StorageFull.into());
            }
            extent.physical = length;
            let want = 2 * length + AHEAD_BYTES;
            let has_room = pay(&self.file, &mut extent, want)?;
            self.has_room.store(has_room, Ordering::Relaxed);
        }
        // What was given back before may hold what it held then.
        self.zero(stale.start, stale.end)?;
        extent.logical = length;
        Ok(())
    }
}

/// Allocates blocks up to `want`, beyond the file's end if need be. `false`: there is no room. A
/// file system that cannot allocate ahead is believed to have room: there a full disk ends the
/// server, and a later start mends it.
fn pay(file: &File, extent: &mut Extent, want: u64) -> io::Result<bool> {
    if want <= extent.paid {
        return Ok(true);
    }
    match fallocate(
        file,
        FallocateFlags::KEEP_SIZE,
        extent.paid,
        want - extent.paid,
    ) {
        Ok(()) => {
            extent.paid = want;
            Ok(true)
        }
        Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Ok(false),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            extent.paid = want;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// What redb writes through.
#[derive(Debug)]
pub(super) struct Through(pub(super) Arc<StoreFile>);

impl StorageBackend for Through {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.resize(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check()?;
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.check()?;
        self.0.file.write_all_at(data, offset)
    }
}
