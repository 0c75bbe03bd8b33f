use super::*;
use crate::redb::RedbStore;
use crate::seal::{DevSeal, KeyFileSeal};

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
    let keyring = StoredKeyring {
        epochs: BTreeMap::from([(1, [3; 32])]),
        active: 1,
        index: [4; 32],
    };
    let one = Unsealed::new(ClusterId::from_bytes([1; 16]), &keyring);
    let other = Unsealed::new(ClusterId::from_bytes([2; 16]), &keyring);
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
    let keyring = StoredKeyring {
        epochs: BTreeMap::from([(1, *random().expose())]),
        active: 1,
        index: *random().expose(),
    };
    let table = {
        let mut bytes = Zeroizing::new([0; 32]);
        derive_to(&keyring.epochs[&1], &[b"bastide table", &[2]], &mut bytes);
        Masked::new(&bytes)
    };
    let barrier = Unsealed::new(ClusterId::from_bytes([1; 16]), &keyring);
    drop(keyring);
    let key = Key::new(Table(2), "a");
    let sealed = barrier.seal(&key, b"value");
    barrier.open(&key, &sealed).unwrap();
    assert!(0 < table.copies(), "the control: a key in use is found");
    drop(barrier);
    assert_eq!(table.copies(), 0);
}

#[test]
fn a_store_that_could_not_be_filled_is_not_initialised() {
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([1; 16]);
    let failed = Barrier::initialise_with(&store, &DevSeal::new(), cluster, |_| {
        Err(BarrierError::NotInitialised)
    });
    assert!(failed.is_err());
    assert!(!Barrier::is_initialised(&store).unwrap());
    let key = Key::new(Table(2), "first");
    let barrier = Barrier::initialise_with(&store, &DevSeal::new(), cluster, |_| {
        let mut batch = Batch::default();
        batch.ops.push(Op::Put(key.clone(), b"contents".to_vec()));
        Ok::<_, BarrierError>(batch)
    });
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier.unwrap());
    assert_eq!(open.get(&key).unwrap().unwrap().expose(), b"contents");
}

#[test]
fn a_store_tells_what_opens_it() {
    use crate::seal::{ShamirSeal, Sharing};
    let cluster = ClusterId::from_bytes([1; 16]);
    let store = RedbStore::in_memory().unwrap();
    assert_eq!(Barrier::sealed_by(&store).unwrap(), None);
    Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let other = SealKind::Other("dev".to_owned());
    assert_eq!(Barrier::sealed_by(&store).unwrap(), Some(other));
    let store = RedbStore::in_memory().unwrap();
    let sharing = Sharing::new(5, 3).unwrap();
    let (seal, shares) = ShamirSeal::split(sharing);
    let made = Barrier::initialise(&store, &seal, cluster).unwrap();
    assert_eq!(
        Barrier::sealed_by(&store).unwrap(),
        Some(SealKind::Shares(sharing))
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
    assert!(Barrier::reseal(&store, &strange, &new).is_err());
    assert!(
        Barrier::unseal(&store, &old).is_ok(),
        "nothing happened yet"
    );
    Barrier::reseal(&store, &old, &new).unwrap();
    assert!(Barrier::unseal(&store, &old).is_err());
    let seal = ShamirSeal::combine(to, &shares[1..]).unwrap();
    let open = Barrier::unseal(&store, &seal).unwrap();
    assert_eq!(open.digest("token", b"x"), made.digest("token", b"x"));
    assert_eq!(
        Barrier::sealed_by(&store).unwrap(),
        Some(SealKind::Shares(to))
    );
}
