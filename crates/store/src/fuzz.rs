//! What is fuzzed in this crate: what stands in a store that somebody else could write to.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::sync::{Arc, LazyLock};

use bastide_api::{ClusterId, Secret};

use crate::{
    Barrier, BarrierError, Batch, Key, KeyFileSeal, KeyRange, Op, OpenSnapshot, RedbStore, Seal,
    Store, Table, Unsealed,
};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("barrier", barrier),
    ("unseal", unseal),
    ("keyring", keyring),
    ("tpm_stored", tpm_stored),
];

struct Opened {
    store: RedbStore,
    unsealed: Arc<Unsealed>,
}

fn seal() -> KeyFileSeal {
    KeyFileSeal::from_key(Secret::new([9; 32]))
}

fn opened() -> Opened {
    let store = RedbStore::in_memory().expect("a store in memory");
    let cluster = ClusterId::from_bytes([7; 16]);
    let unsealed = Barrier::initialise(&store, &seal(), cluster).expect("the store is empty");
    Opened { store, unsealed }
}

static OPENED: LazyLock<Opened> = LazyLock::new(opened);

/// The first byte chooses what is done to a value that was sealed. Nothing but the value itself, at
/// its own place, is opened.
fn barrier(bytes: &[u8]) {
    let unsealed = &OPENED.unsealed;
    let key = Key::new(Table(3), "nodes/atlas");
    assert!(unsealed.open(&key, bytes).is_err(), "a value was made up");
    let Some((choice, plain)) = bytes.split_first() else {
        return;
    };
    let sealed = unsealed.seal(&key, plain);
    let back = unsealed.open(&key, &sealed).map(|it| it.expose().clone());
    assert_eq!(back.ok().as_deref(), Some(plain));
    let mut other = sealed.clone();
    let at = usize::from(*choice) % sealed.len();
    other[at] ^= 1 << (choice & 7);
    assert!(
        unsealed.open(&key, &other).is_err(),
        "byte {at} was changed"
    );
    assert!(unsealed.open(&key, &sealed[..at]).is_err());
    // Moved to another key, or to the same one of another table.
    for elsewhere in [
        Key::new(Table(3), plain),
        Key::new(Table(*choice), "nodes/atlas"),
    ] {
        let is_same = elsewhere == key;
        assert_eq!(unsealed.open(&elsewhere, &sealed).is_ok(), is_same);
    }
    let Some(range_key) = Key::from_bytes(plain) else {
        return;
    };
    let range = KeyRange::prefix(range_key.table(), range_key.rest());
    assert!(range.contains(&range_key) && !range.after(&range_key).contains(&range_key));
}

/// The three values that stand before the barrier, replaced: it opens with what it was made with, or
/// not at all.
fn unseal(bytes: &[u8]) {
    let Some((choice, value)) = bytes.split_first() else {
        return;
    };
    let Opened { store, .. } = &*OPENED;
    let name = ["header", "keyring", "seal/key-file"][usize::from(choice % 3)];
    let at = Key::new(Barrier::TABLE, name);
    let before = store
        .snapshot()
        .and_then(|snapshot| snapshot.get(&at))
        .expect("a store in memory answers")
        .expect("it was written at the beginning");
    let mut new = value.to_vec();
    if choice & 128 != 0 {
        // What was there, with a few bits changed.
        new.clone_from(&before);
        for pair in value.chunks(2) {
            let place = usize::from(pair[0]) % new.len();
            new[place] ^= pair.get(1).copied().unwrap_or(1);
        }
    }
    put(store, &at, new.clone());
    let found = Barrier::unseal(store, &seal() as &dyn Seal);
    put(store, &at, before.clone());
    match found {
        // The header alone stands in clear; in another spelling it is still the same.
        Ok(unsealed) => {
            assert!(new == before || name == "header", "`{name}` was made up");
            assert_eq!(unsealed.cluster(), OPENED.unsealed.cluster());
            let key = Key::new(Table(3), "a");
            let sealed = OPENED.unsealed.seal(&key, b"plain");
            assert!(unsealed.open(&key, &sealed).is_ok());
        }
        Err(BarrierError::Store(error)) => panic!("the store failed: {error}"),
        Err(_) => assert!(new != before, "the barrier does not open as it was made"),
    }
    let snapshot = store.snapshot().expect("a store in memory answers");
    let open = OpenSnapshot::new(snapshot, Arc::clone(&OPENED.unsealed));
    // What stands before the barrier does not pass for a value behind it.
    assert!(open.get(&at).is_err());
}

/// A keyring that was opened: one that is taken has its active epoch, and can be turned.
fn keyring(bytes: &[u8]) {
    let Some(mut ring) = crate::barrier::StoredKeyring::parse(bytes) else {
        return;
    };
    let before = ring.active;
    assert_ne!(ring.turn(bastide_api::UnixTime::EPOCH), Some(before));
    let text = serde_json::to_vec(&ring).expect("a keyring is plain JSON");
    assert!(crate::barrier::StoredKeyring::parse(&text).is_some());
}

/// What a TPM's seal stored, before the TPM is asked.
fn tpm_stored(bytes: &[u8]) {
    let _ = crate::seal::TpmStored::parse(bytes);
}

fn put(store: &RedbStore, at: &Key, value: Vec<u8>) {
    let batch = Batch {
        compares: Vec::new(),
        ops: vec![Op::Put(at.clone(), value)],
    };
    let mut begun = store.begin().expect("a store in memory can be written to");
    let applied = begun
        .apply(&batch)
        .expect("a store in memory can be written to");
    assert!(applied.is_ok());
    begun.commit().expect("a store in memory can be written to");
}
