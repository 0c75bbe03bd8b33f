use aws_lc_rs::hmac;
use bastide_api::UnixTime;

use super::unsealed::derive_to;
use super::*;
use crate::redb::RedbStore;
use crate::seal::{DevSeal, KeyFileSeal, Sharing};

const CANARY: &[u8] = b"canary-7f3a91-do-not-find-me";

fn unsealed() -> Arc<Unsealed> {
    let store = RedbStore::in_memory().unwrap();
    Barrier::initialise(&store, &DevSeal::new(), ClusterId::from_bytes([1; 16])).unwrap()
}

#[test]
fn a_value_opens_only_where_it_was_put() {
    let barrier = unsealed();
    let key = Key::new(Table(2), "a");
    let sealed = barrier.seal(&key, b"value");
    assert_eq!(barrier.open(&key, &sealed).unwrap().expose(), b"value");
    assert!(barrier.open(&Key::new(Table(2), "b"), &sealed).is_err());
    assert!(barrier.open(&Key::new(Table(3), "a"), &sealed).is_err());
    assert!(
        unsealed().open(&key, &sealed).is_err(),
        "another store has other keys"
    );
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(barrier.open(&key, &damaged).is_err(), "byte {at}");
        assert!(barrier.open(&key, &sealed[..at]).is_err());
    }
    assert_ne!(
        sealed,
        barrier.seal(&key, b"value"),
        "each sealing has its own nonce"
    );
}

#[test]
fn a_value_of_another_cluster_does_not_open_though_the_keys_are_the_same() {
    let keyring = StoredKeyring::draw(UnixTime::EPOCH);
    let root = [5; 32];
    let one = Unsealed::new(ClusterId::from_bytes([1; 16]), &root, &keyring, 0);
    let other = Unsealed::new(ClusterId::from_bytes([2; 16]), &root, &keyring, 0);
    let key = Key::new(Table(2), "a");
    let sealed = one.seal(&key, b"value");
    assert!(one.open(&key, &sealed).is_ok());
    assert!(other.open(&key, &sealed).is_err());
}

#[test]
fn digests_are_the_same_after_reopening_and_differ_by_purpose() {
    let store = RedbStore::in_memory().unwrap();
    let seal = DevSeal::new();
    let first = Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])).unwrap();
    let again = Barrier::unseal(&store, &seal).unwrap();
    assert_eq!(first.digest("token", b"x"), again.digest("token", b"x"));
    assert_ne!(first.digest("token", b"x"), first.digest("audit", b"x"));
    assert!(matches!(
        Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])),
        Err(BarrierError::Initialised)
    ));
    assert!(Barrier::unseal(&store, &DevSeal::new()).is_err());
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn neither_values_nor_keys_reach_the_disk_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let seal = KeyFileSeal::open_or_create(&folder.path().join("seal.key")).unwrap();
    let store = RedbStore::open(&path).unwrap();
    let barrier = Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])).unwrap();
    let key = Key::new(Table(2), "where");
    let plain_key = Key::new(Table(9), "control");
    let mut batch = Batch::default();
    batch
        .ops
        .push(Op::Put(key.clone(), barrier.seal(&key, CANARY)));
    // The control: this one is put without the barrier, so the search must find it.
    batch
        .ops
        .push(Op::Put(plain_key.clone(), b"plain-control-5511".to_vec()));
    let mut begun = store.begin().unwrap();
    begun.apply(&batch).unwrap().unwrap();
    begun.commit().unwrap();
    let index = barrier.secret_for("audit");
    let keyring = store
        .snapshot()
        .unwrap()
        .get(&Key::new(Barrier::TABLE, "keyring"))
        .unwrap();
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    assert!(
        holds(&bytes, b"plain-control-5511"),
        "the search finds what is in clear"
    );
    assert!(
        holds(&bytes, &keyring.unwrap()),
        "the search finds binary values"
    );
    assert!(!holds(&bytes, CANARY));
    assert!(!holds(&bytes, index.expose()));
    let seal_key = std::fs::read(folder.path().join("seal.key")).unwrap();
    assert!(!holds(&bytes, &seal_key));
    let store = RedbStore::open(&path).unwrap();
    let barrier = Barrier::unseal(&store, &seal).unwrap();
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier);
    assert_eq!(open.get(&key).unwrap().unwrap().expose(), CANARY);
}

/// A key, remembered in a form in which it does not stand in memory itself.
struct Masked([u8; 32]);

const MASK: u8 = 0xa5;

impl Masked {
    fn new(key: &[u8; 32]) -> Self {
        let mut masked = [MASK; 32];
        for (masked, byte) in masked.iter_mut().zip(key) {
            *masked ^= byte;
        }
        Self(masked)
    }

    /// Returns how often the key stands in this process's writable memory.
    fn copies(&self) -> usize {
        use std::os::unix::fs::FileExt;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let mut chunk = vec![0; 1 << 20];
        let own = chunk.as_ptr_range();
        let own = own.start as u64..own.end as u64;
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            let mut at = u64::from_str_radix(start, 16).unwrap();
            while at < end {
                let want = chunk.len().min(usize::try_from(end - at).unwrap());
                // Memory that was given back meanwhile holds nothing.
                let Ok(read) = memory.read_at(&mut chunk[..want], at) else {
                    break;
                };
                let first = self.0[0] ^ MASK;
                let windows = chunk[..read].windows(32).enumerate();
                found += windows
                    .filter(|(_, window)| window[0] == first)
                    .filter(|(_, window)| window.iter().zip(&self.0).all(|(a, b)| a ^ MASK == *b))
                    .filter(|(offset, _)| !own.contains(&(at + *offset as u64)))
                    .count();
                if read < 32 || read < want {
                    break;
                }
                // A key may lie across two chunks.
                at += if at + read as u64 == end {
                    read as u64
                } else {
                    read as u64 - 31
                };
            }
        }
        chunk.zeroize();
        found
    }
}

#[test]
fn a_barrier_that_was_dropped_leaves_none_of_its_keys_in_memory() {
    let mut keyring = StoredKeyring::draw(UnixTime::EPOCH);
    let drawn = keyring.epochs.get_mut(&1).unwrap();
    rand::fill(drawn).unwrap();
    let table = {
        let mut bytes = Zeroizing::new([0; 32]);
        derive_to(&keyring.epochs[&1], &[b"bastide table", &[2]], &mut bytes);
        Masked::new(&bytes)
    };
    let mut root = Zeroizing::new([0; 32]);
    rand::fill(&mut root[..]).unwrap();
    let kept = Masked::new(&root);
    let epoch = Masked::new(&keyring.epochs[&1]);
    let barrier = Unsealed::new(ClusterId::from_bytes([1; 16]), &root, &keyring, 0);
    drop(keyring);
    // Where it is: one that is moved to be dropped leaves a copy.
    root.zeroize();
    let key = Key::new(Table(2), "a");
    let sealed = barrier.seal(&key, b"value");
    barrier.open(&key, &sealed).unwrap();
    for masked in [&table, &kept, &epoch] {
        assert!(0 < masked.copies(), "the control: a key in use is found");
    }
    drop(barrier);
    for (what, masked) in [("table", &table), ("root", &kept), ("epoch", &epoch)] {
        assert_eq!(masked.copies(), 0, "{what}");
    }
}

#[test]
fn a_store_that_could_not_be_filled_is_not_initialised() {
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([1; 16]);
    let failed = Barrier::initialise_with(&store, &[&DevSeal::new()], cluster, |_| {
        Err(BarrierError::NotInitialised)
    });
    assert!(failed.is_err());
    assert!(!Barrier::is_initialised(&store).unwrap());
    let key = Key::new(Table(2), "first");
    let barrier = Barrier::initialise_with(&store, &[&DevSeal::new()], cluster, |_| {
        let mut batch = Batch::default();
        batch.ops.push(Op::Put(key.clone(), b"contents".to_vec()));
        Ok::<_, BarrierError>(batch)
    });
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier.unwrap());
    assert_eq!(open.get(&key).unwrap().unwrap().expose(), b"contents");
}

fn by_shares(sharing: Sharing) -> SealedBy {
    SealedBy {
        sharing: Some(sharing),
        others: Vec::new(),
    }
}

#[test]
fn a_store_tells_what_opens_it() {
    use crate::seal::{ShamirSeal, Sharing};
    let cluster = ClusterId::from_bytes([1; 16]);
    let store = RedbStore::in_memory().unwrap();
    assert_eq!(Barrier::sealed_by(&store).unwrap(), None);
    Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let other = SealedBy {
        sharing: None,
        others: vec!["dev".to_owned()],
    };
    assert_eq!(Barrier::sealed_by(&store).unwrap(), Some(other));
    let store = RedbStore::in_memory().unwrap();
    let sharing = Sharing::new(5, 3).unwrap();
    let (seal, shares) = ShamirSeal::split(sharing);
    let made = Barrier::initialise(&store, &seal, cluster).unwrap();
    assert_eq!(
        Barrier::sealed_by(&store).unwrap(),
        Some(by_shares(sharing))
    );
    let seal = ShamirSeal::combine(sharing, &shares[1..4]).unwrap();
    let open = Barrier::unseal(&store, &seal).unwrap();
    assert_eq!(open.digest("token", b"x"), made.digest("token", b"x"));
    let (strange, _) = ShamirSeal::split(sharing);
    assert!(matches!(
        Barrier::unseal(&store, &strange),
        Err(BarrierError::Seal(SealError::Shares))
    ));
}

#[test]
fn a_store_that_is_sealed_anew_opens_with_the_new_shares_alone() {
    use crate::seal::{ShamirSeal, Sharing};
    let store = RedbStore::in_memory().unwrap();
    let (old, _) = ShamirSeal::split(Sharing::new(3, 2).unwrap());
    let made = Barrier::initialise(&store, &old, ClusterId::from_bytes([1; 16])).unwrap();
    let to = Sharing::new(5, 4).unwrap();
    let (new, shares) = ShamirSeal::split(to);
    let (strange, _) = ShamirSeal::split(to);
    assert!(Barrier::check(&store, &made, &strange).is_err());
    Barrier::check(&store, &made, &old).unwrap();
    Barrier::reseal(&store, &made, &new).unwrap();
    assert!(Barrier::unseal(&store, &old).is_err());
    let seal = ShamirSeal::combine(to, &shares[1..]).unwrap();
    let open = Barrier::unseal(&store, &seal).unwrap();
    assert_eq!(open.digest("token", b"x"), made.digest("token", b"x"));
    assert_eq!(Barrier::sealed_by(&store).unwrap(), Some(by_shares(to)));
}

#[test]
fn each_of_two_seals_opens_a_store_and_the_last_one_stays() {
    use crate::seal::{ShamirSeal, Sharing};
    let store = RedbStore::in_memory().unwrap();
    let sharing = Sharing::new(3, 2).unwrap();
    let (shares, _) = ShamirSeal::split(sharing);
    let dev = DevSeal::new();
    let cluster = ClusterId::from_bytes([1; 16]);
    let seals: [&dyn Seal; 2] = [&dev, &shares];
    Barrier::initialise_with(&store, &seals, cluster, |_| {
        Ok::<_, BarrierError>(Batch::default())
    })
    .unwrap();
    let both = SealedBy {
        sharing: Some(sharing),
        others: vec!["dev".to_owned()],
    };
    assert_eq!(Barrier::sealed_by(&store).unwrap(), Some(both));
    let one = Barrier::unseal(&store, &dev).unwrap();
    let other = Barrier::unseal(&store, &shares).unwrap();
    assert_eq!(one.digest("token", b"x"), other.digest("token", b"x"));
    Barrier::drop_seal(&store, "dev").unwrap();
    assert!(Barrier::unseal(&store, &dev).is_err());
    assert!(Barrier::unseal(&store, &shares).is_ok());
    assert!(matches!(
        Barrier::drop_seal(&store, "shamir"),
        Err(BarrierError::OnlySeal(_))
    ));
    assert!(Barrier::unseal(&store, &shares).is_ok());
}

#[test]
fn values_of_every_epoch_stay_readable_and_new_ones_are_sealed_under_the_last() {
    let store = RedbStore::in_memory().unwrap();
    let seal = DevSeal::new();
    let barrier = Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])).unwrap();
    let key = Key::new(Table(2), "a");
    let mut sealed = Vec::new();
    for epoch in 1..=300 {
        assert_eq!(barrier.epoch(), epoch);
        sealed.push(barrier.seal(&key, &epoch.to_be_bytes()));
        assert_eq!(
            barrier.epoch_status().sealed,
            1,
            "each epoch counts its own"
        );
        assert_eq!(Barrier::rotate(&store, &barrier).unwrap(), epoch + 1);
    }
    let again = Barrier::unseal(&store, &seal).unwrap();
    assert_eq!(again.epoch(), 301);
    assert!(UnixTime::EPOCH < again.epoch_status().installed);
    for barrier in [&barrier, &again] {
        for (epoch, sealed) in (1u32..).zip(&sealed) {
            assert_eq!(
                sealed[..4],
                epoch.to_be_bytes(),
                "the epoch stands in front"
            );
            let plain = barrier.open(&key, sealed).unwrap();
            assert_eq!(plain.expose()[..], epoch.to_be_bytes());
        }
        // Under another epoch's number it does not open.
        let mut moved = sealed[0].clone();
        moved[3] = 2;
        assert!(barrier.open(&key, &moved).is_err());
    }
}

#[test]
fn a_crash_never_makes_the_count_of_sealed_values_smaller() {
    let store = RedbStore::in_memory().unwrap();
    let seal = DevSeal::new();
    let barrier = Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])).unwrap();
    let key = Key::new(Table(2), "a");
    let idle = store.revision();
    Barrier::note_sealed(&store, &barrier).unwrap();
    assert_eq!(
        store.revision(),
        idle,
        "nothing was sealed: nothing is noted"
    );
    barrier.seal(&key, b"x");
    Barrier::note_sealed(&store, &barrier).unwrap();
    let noted = store.revision();
    for _ in 0..100 {
        barrier.seal(&key, b"x");
        Barrier::note_sealed(&store, &barrier).unwrap();
    }
    assert_eq!(store.revision(), noted, "it is noted far ahead");
    let again = Barrier::unseal(&store, &seal).unwrap();
    let counted = again.epoch_status().sealed;
    assert!((101..=2 * NOTE_AHEAD).contains(&counted), "{counted}");
    // Of a new epoch nothing is noted yet.
    Barrier::rotate(&store, &again).unwrap();
    assert_eq!(
        Barrier::unseal(&store, &seal)
            .unwrap()
            .epoch_status()
            .sealed,
        0
    );
}

#[test]
fn a_keyring_of_an_earlier_version_is_read() {
    let mut keyring = StoredKeyring::draw(UnixTime::from_millis(7));
    let mut text = serde_json::to_value(&keyring).unwrap();
    text.as_object_mut().unwrap().remove("installed");
    let text = serde_json::to_vec(&text).unwrap();
    let mut read = StoredKeyring::parse(&text).unwrap();
    assert_eq!(read.index, keyring.index);
    assert_eq!(read.turn(UnixTime::from_millis(8)), Some(2));
    // The active epoch must be there, and no epoch be out of reach.
    keyring.active = 2;
    assert!(StoredKeyring::parse(&serde_json::to_vec(&keyring).unwrap()).is_none());
    keyring.active = 1;
    keyring.epochs.insert(ring::EPOCH_MAX + 1, [1; 32]);
    assert!(StoredKeyring::parse(&serde_json::to_vec(&keyring).unwrap()).is_none());
}

#[cfg(feature = "simulation")]
#[test]
fn power_lost_in_a_rotation_leaves_the_old_epoch_or_the_new_one() {
    use crate::simulation::{Draw, SimulatedDisk, Syncs};
    let seal = KeyFileSeal::from_key(Secret::new([9; 32]));
    let key = Key::new(Table(2), "a");
    let (mut before, mut after) = (0, 0);
    for cut in 0..60 {
        let disk = SimulatedDisk::new(Syncs::Hold);
        let store = disk.open().unwrap();
        let cluster = ClusterId::from_bytes([1; 16]);
        let barrier = Barrier::initialise(&store, &seal, cluster).unwrap();
        let old = barrier.seal(&key, b"old");
        disk.lose_power_after(cut);
        let rotated = Barrier::rotate(&store, &barrier);
        // Nothing is sealed under an epoch that is not durable.
        let last = barrier.seal(&key, b"last");
        assert_eq!(barrier.epoch(), if rotated.is_ok() { 2 } else { 1 });
        drop(store);
        let store = disk.after_crash(&mut Draw::new(cut)).open().unwrap();
        let again = Barrier::unseal(&store, &seal).unwrap();
        match again.epoch() {
            1 => before += 1,
            2 => after += 1,
            other => panic!("epoch {other}"),
        }
        for sealed in [&old, &last] {
            assert!(
                again.open(&key, sealed).is_ok(),
                "cut after {cut} operations"
            );
        }
    }
    assert!(0 < before && 0 < after, "{before} before, {after} after");
}

#[test]
fn a_kept_digest_key_is_the_one_that_is_derived() {
    let barrier = unsealed();
    for purpose in ["token", "audit"] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, barrier.secret_for(purpose).expose());
        let tag = hmac::sign(&key, b"hvs.x");
        assert_eq!(barrier.digest(purpose, b"hvs.x"), tag.as_ref(), "{purpose}");
    }
}

#[test]
fn a_snapshot_parses_a_value_once_for_each_type_and_a_later_one_parses_anew() {
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([1; 16]);
    let barrier = Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let (key, long) = (Key::new(Table(2), "a"), Key::new(Table(2), "long"));
    let put = |key: &Key, value: &[u8]| {
        let sealed = barrier.seal(key, value);
        commit(&store, vec![Op::Put(key.clone(), sealed)]).unwrap();
    };
    let open = || OpenSnapshot::new(store.snapshot().unwrap(), Arc::clone(&barrier));
    put(&key, b"old");
    put(&long, &[b'x'; 5000]);
    let parses = std::cell::Cell::new(0);
    let bytes = |plain: &[u8]| {
        parses.set(parses.get() + 1);
        Ok::<_, BarrierError>(plain.to_vec())
    };
    let before = open();
    let first = before.parsed(&key, bytes).unwrap().unwrap();
    let again = before.parsed(&key, bytes).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!((parses.get(), &first[..]), (1, &b"old"[..]));
    let length = |plain: &[u8]| Ok::<_, BarrierError>(plain.len());
    assert_eq!(*before.parsed(&key, length).unwrap().unwrap(), 3);
    let nothing = Key::new(Table(2), "b");
    assert!(before.parsed(&nothing, bytes).unwrap().is_none());
    put(&key, b"new");
    assert_eq!(**before.parsed(&key, bytes).unwrap().unwrap(), *b"old");
    assert_eq!(**open().parsed(&key, bytes).unwrap().unwrap(), *b"new");
    let kept = parses.get();
    for _ in 0..2 {
        before.parsed(&long, bytes).unwrap().unwrap();
    }
    assert_eq!(parses.get(), kept + 2, "a long value is not kept");
    let wrong = |_: &[u8]| Err::<u8, _>(BarrierError::Full);
    assert!(before.parsed(&key, wrong).is_err(), "what fails is told");
}

#[test]
fn what_a_snapshot_keeps_is_bounded() {
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([1; 16]);
    let barrier = Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let keys: Vec<_> = (0..3000)
        .map(|at: u32| Key::new(Table(2), at.to_string()))
        .collect();
    let puts = keys
        .iter()
        .map(|key| Op::Put(key.clone(), barrier.seal(key, b"x")));
    commit(&store, puts.collect()).unwrap();
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier);
    for key in &keys {
        let parsed = open.parsed(key, |plain| Ok::<_, BarrierError>(plain.to_vec()));
        assert_eq!(**parsed.unwrap().unwrap(), *b"x");
        assert!(open.kept() <= 1024);
    }
    assert!(1 < open.kept());
}
