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
