use std::os::unix::fs::PermissionsExt;

use super::*;

fn folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("bastide-keep-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn stamps_grow_even_if_the_clock_goes_back() {
    let path = folder().join("stamp");
    let first = first_stamp(&path, UnixTime::from_millis(5_000_000)).unwrap();
    assert_eq!(first, 5_000_000_000);
    let second = first_stamp(&path, UnixTime::from_millis(1)).unwrap();
    assert_eq!(second, first + LIFE);
    let third = first_stamp(&path, UnixTime::from_millis(50_000_000)).unwrap();
    assert_eq!(third, 50_000_000_000);
}

#[test]
fn addresses_survive_and_are_for_their_owner_alone() {
    let path = folder().join("last-good");
    let (one, two) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let mut kept = LastGood::open(path.clone()).unwrap();
    assert!(kept.pending().is_none());
    kept.put(one, "192.0.2.1:51820".parse().unwrap());
    kept.put(two, "[2001:db8::1]:51820".parse().unwrap());
    kept.pending().unwrap().write();
    assert!(kept.pending().is_none());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut again = LastGood::open(path.clone()).unwrap();
    assert_eq!(again.addresses(), kept.addresses());
    again.retain(|node| node == one);
    again.pending().unwrap().write();
    assert_eq!(LastGood::open(path).unwrap().addresses().len(), 1);
}

#[test]
fn damaged_lines_are_left_out() {
    let path = folder().join("last-good");
    let node = NodeId::from_bytes([1; 16]);
    let text = format!("nonsense\n{node} 192.0.2.1:1\n{node}\n\u{0} \u{0}\n");
    std::fs::write(&path, text).unwrap();
    assert_eq!(LastGood::open(path.clone()).unwrap().addresses().len(), 1);
    std::fs::write(&path, [0xff; 100]).unwrap();
    assert!(LastGood::open(path).unwrap().addresses().is_empty());
}
