//! A store's file that is not what it was left as.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bastide_api::ClusterId;

use redb::StorageBackend;

use super::file::AHEAD_BYTES;
use super::*;
use crate::barrier::{Barrier, BarrierError, OpenSnapshot};
use crate::seal::{DevSeal, Seal};

const VALUES: usize = 300;

fn at(number: usize) -> Key {
    Key::new(Table(2), format!("entry-{number:04}"))
}

/// A store of some hundred sealed values, closed; its path and seal.
struct Left {
    folder: tempfile::TempDir,
    seal: DevSeal,
}

impl Left {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seal = DevSeal::new();
        let store = RedbStore::open(&folder.path().join("store.redb")).unwrap();
        let cluster = ClusterId::from_bytes([7; 16]);
        let barrier = Barrier::initialise(&store, &seal, cluster).unwrap();
        for from in (0..VALUES).step_by(50) {
            let put = |number| {
                let value = format!("value-{number}").repeat(20);
                Op::Put(at(number), barrier.seal(&at(number), value.as_bytes()))
            };
            let ops = (from..from + 50).map(put).collect();
            let mut begun = store.begin().unwrap();
            let batch = Batch {
                compares: Vec::new(),
                ops,
            };
            begun.apply(&batch).unwrap().unwrap();
            begun.commit().unwrap();
        }
        drop(store);
        Self { folder, seal }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }

    /// Opens and reads all of it; what stands there is either what was written or refused.
    fn read_all(&self, path: &Path) -> Result<(), String> {
        let seal: &dyn Seal = &self.seal;
        let checked = |store: &dyn Store| -> Result<(), Error> {
            Barrier::unseal(store, seal)?;
            Ok(())
        };
        let store = RedbStore::open_checked(path, checked).map_err(|error| error.to_string())?;
        let barrier = Barrier::unseal(&store, seal).map_err(|error| error.to_string())?;
        let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier);
        for number in 0..VALUES {
            let value = open.get(&at(number)).map_err(|error| error.to_string())?;
            let wanted = format!("value-{number}").repeat(20);
            let value = value.ok_or("a value is missing, and nothing was said")?;
            assert_eq!(value.expose().as_slice(), wanted.as_bytes());
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

/// Numbers that look drawn, the same at each run.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn a_store_that_was_cut_is_refused_and_left_as_it_is() {
    let left = Left::make();
    left.read_all(&left.path()).unwrap();
    let whole = fs::read(left.path()).unwrap();
    let cut = left.folder.path().join("cut.redb");
    let mut draw = numbers(1);
    let mut lengths: Vec<usize> = (0..60)
        .map(|_| usize::try_from(draw(whole.len() as u64)).unwrap())
        .collect();
    lengths.extend([0, 1, 63, 64, 319, 320, 4095, 4096, 8192, whole.len() / 2]);
    for length in lengths {
        fs::write(&cut, &whole[..length]).unwrap();
        let said = left.read_all(&cut).unwrap_err();
        assert!(
            said.contains("put a backup in its place"),
            "{length}: {said}"
        );
        assert!(fs::read(&cut).unwrap() == whole[..length], "at {length}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let left = Left::make();
    let whole = fs::read(left.path()).unwrap();
    let flipped = left.folder.path().join("flipped.redb");
    let used = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let mut draw = numbers(2);
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..250_u64 {
        // Every bit of the header is tried too: it has 320 bytes.
        let place = if round < 64 {
            usize::try_from(round * 5).unwrap()
        } else {
            usize::try_from(draw(used as u64)).unwrap()
        };
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << draw(8);
        fs::write(&flipped, &bytes).unwrap();
        match left.read_all(&flipped) {
            Err(_) => {
                refused += 1;
                assert!(fs::read(&flipped).unwrap() == bytes, "it was left as it is");
            }
            // In a page that nothing points to any more.
            Ok(()) => harmless += 1,
        }
    }
    assert!(20 < refused, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_store_of_another_cluster_is_refused_and_left_as_it_is() {
    let (left, other) = (Left::make(), Left::make());
    let before = fs::read(other.path()).unwrap();
    let said = left.read_all(&other.path()).unwrap_err();
    assert!(said.contains("sealed by another key"), "{said}");
    assert!(fs::read(other.path()).unwrap() == before);
    other.read_all(&other.path()).unwrap();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let left = Left::make();
    let store = RedbStore::open(&left.path()).unwrap();
    let header = Key::new(Barrier::TABLE, "header");
    let newer = br#"{"format":2,"cluster":{"id":"of another form"},"more":true}"#;
    let batch = Batch {
        compares: Vec::new(),
        ops: vec![Op::Put(header, newer.to_vec())],
    };
    let mut begun = store.begin().unwrap();
    begun.apply(&batch).unwrap().unwrap();
    begun.commit().unwrap();
    drop(store);
    let before = fs::read(left.path()).unwrap();
    let changed = fs::metadata(left.path()).unwrap().modified().unwrap();
    let said = left.read_all(&left.path()).unwrap_err();
    assert!(said.contains("format 2"), "{said}");
    assert!(said.contains("install that version again"), "{said}");
    assert!(fs::read(left.path()).unwrap() == before);
    let after = fs::metadata(left.path()).unwrap().modified().unwrap();
    assert_eq!(after, changed, "not one byte was written");
    // The control: what writes to a store does show.
    let store = RedbStore::open(&left.path()).unwrap();
    store.begin().unwrap().commit().unwrap();
    drop(store);
    assert!(fs::read(left.path()).unwrap() != before);
}

#[test]
fn a_store_file_of_a_newer_redb_is_refused_and_left_as_it_is() {
    let left = Left::make();
    let mut bytes = fs::read(left.path()).unwrap();
    // The version of the file's format stands first in each commit slot.
    for slot in [64, 192] {
        bytes[slot] = 9;
    }
    fs::write(left.path(), &bytes).unwrap();
    let said = left.read_all(&left.path()).unwrap_err();
    assert!(said.contains("left as it is"), "{said}");
    assert!(fs::read(left.path()).unwrap() == bytes);
}

#[test]
fn a_store_in_use_is_refused() {
    let left = Left::make();
    let store = RedbStore::open(&left.path()).unwrap();
    let said = left.read_all(&left.path()).unwrap_err();
    assert!(said.contains("in use by another process"), "{said}");
    drop(store);
    left.read_all(&left.path()).unwrap();
}

#[test]
fn a_file_keeps_what_it_paid_for_and_gives_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = Arc::new(StoreFile::open(&path).unwrap());
    let through = Through(Arc::clone(&file));
    through.set_len(1 << 20).unwrap();
    through.write(0, &vec![7; 1 << 20]).unwrap();
    assert!(file.has_room());
    let paid = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    assert!((AHEAD_BYTES >> 9) < paid(&path), "room lies beyond the end");
    let before = paid(&path);
    through.set_len(4096).unwrap();
    assert_eq!(through.len().unwrap(), 4096);
    assert_eq!(paid(&path), before);
    through.set_len(8192).unwrap();
    let mut page = [1; 4096];
    through.read(4096, &mut page).unwrap();
    assert_eq!(page, [0; 4096], "what is grown anew is zero");
}
