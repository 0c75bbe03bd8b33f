//! A look at a store's file that leaves it byte for byte as it is: writes stay in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::file::{StoreFile, Through};

/// Bytes of a page: what is kept of a write at least.
const PAGE_BYTES: usize = 4096;

/// A file and what was written over it, in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Through,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    length: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Overlay {
    /// Lays itself over a file.
    pub(super) fn over(file: Arc<StoreFile>) -> Self {
        let length = file.length();
        Self {
            below: Through(file),
            above: Mutex::new(Above {
                length,
                pages: BTreeMap::new(),
            }),
        }
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a page of the file below; what is beyond its end is zero.
    fn page(&self, number: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut page = Box::new([0; PAGE_BYTES]);
        let start = number * PAGE_BYTES as u64;
        let length = self.below.len()?;
        let some = length.saturating_sub(start).min(PAGE_BYTES as u64);
        let some = usize::try_from(some).unwrap_or(PAGE_BYTES);
        if some != 0 {
            self.below.read(start, &mut page[..some])?;
        }
        Ok(page)
    }
}

/// Cuts a range of bytes at the borders of pages: page, offset in it, bytes of the whole before.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if length <= done {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
        let some = (PAGE_BYTES - within).min(length - done);
        let piece = (at / PAGE_BYTES as u64, within, done..done + some);
        done += some;
        Some(piece)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        if above.length < offset + out.len() as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in pieces(offset, out.len()) {
            let to = within + part.len();
            match above.pages.get(&number) {
                Some(page) => out[part].copy_from_slice(&page[within..to]),
                None => out[part].copy_from_slice(&self.page(number)?[within..to]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.above().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        for (number, within, part) in pieces(offset, data.len()) {
            let to = within + part.len();
            let page = match above.pages.entry(number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(self.page(number)?),
            };
            page[within..to].copy_from_slice(&data[part]);
        }
        Ok(())
    }
}
