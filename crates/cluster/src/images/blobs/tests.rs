use std::os::unix::fs::PermissionsExt;

use super::*;

/// The sum of no bytes at all.
const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn bytes_are_kept_under_their_sum() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let digest = blobs.put(b"").unwrap();
    assert_eq!(digest.to_string(), EMPTY);
    let digest = blobs.put(b"hello").unwrap();
    assert_eq!(blobs.size(digest), Some(5));
    assert_eq!(blobs.read_small(digest, 5).unwrap().unwrap(), b"hello");
    assert_eq!(blobs.read_small(digest, 4).unwrap(), None);
    let again = Blobs::open(folder.path()).unwrap();
    assert!(again.has(digest));
}

#[test]
fn other_bytes_than_asked_for_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let expected: Digest = EMPTY.parse().unwrap();
    let mut partial = blobs.begin(10).unwrap();
    partial.write(b"forged").unwrap();
    let error = partial.finish().keep_as(&blobs, expected).unwrap_err();
    assert!(matches!(error, BlobError::Mismatch { .. }));
    assert!(!blobs.has(expected));
    assert_eq!(files(&folder.path().join("blobs")), 0);
    assert_eq!(files(&folder.path().join("partial")), 0);
}

#[test]
fn a_blob_that_grows_too_long_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut partial = blobs.begin(4).unwrap();
    partial.write(b"1234").unwrap();
    assert!(matches!(
        partial.write(b"5"),
        Err(BlobError::TooLong { max: 4 })
    ));
    drop(partial);
    assert_eq!(files(&folder.path().join("partial")), 0);
}

#[test]
fn what_an_interrupted_write_left_behind_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    std::mem::forget(blobs.begin(10).unwrap());
    assert_eq!(files(&folder.path().join("partial")), 1);
    Blobs::open(folder.path()).unwrap();
    assert_eq!(files(&folder.path().join("partial")), 0);
}

#[test]
fn only_the_owner_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    let blobs = Blobs::open(&root).unwrap();
    let digest = blobs.put(b"hello").unwrap();
    blobs.name(&"hello".parse().unwrap(), digest).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("blobs")), 0o700);
    assert_eq!(mode(&root.join("partial")), 0o700);
    assert_eq!(mode(&blobs.path(digest)), 0o600);
    assert_eq!(mode(&root.join("names.json")), 0o600);
}

#[test]
fn spellings_of_one_name_mean_one_image_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let digest = blobs.put(b"manifest").unwrap();
    blobs.name(&"hello".parse().unwrap(), digest).unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    for name in [
        "hello",
        "hello:latest",
        "docker.io/library/hello",
        "library/hello",
    ] {
        assert_eq!(
            blobs.resolve(&name.parse().unwrap()),
            Some(digest),
            "{name}"
        );
    }
    for name in ["hello:1", "other/hello", "registry.example/hello"] {
        assert_eq!(blobs.resolve(&name.parse().unwrap()), None, "{name}");
    }
    let by_digest = format!("anything@{digest}").parse().unwrap();
    assert_eq!(blobs.resolve(&by_digest), Some(digest));
    let unknown = format!("hello@{EMPTY}").parse().unwrap();
    assert_eq!(blobs.resolve(&unknown), None);
    assert_eq!(blobs.names(), [("hello:latest".to_owned(), digest)]);
}

#[test]
fn the_stored_table_of_names_keeps_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    blobs
        .name(&"hello:1".parse().unwrap(), EMPTY.parse().unwrap())
        .unwrap();
    let text = fs::read_to_string(folder.path().join("names.json")).unwrap();
    assert_eq!(
        text,
        format!("{{\"format\":1,\"names\":{{\"hello:1\":\"{EMPTY}\"}}}}")
    );
    fs::write(
        folder.path().join("names.json"),
        text.replace("\"format\":1", "\"format\":2"),
    )
    .unwrap();
    let error = Blobs::open(folder.path()).unwrap_err();
    assert!(matches!(error, BlobError::Names { source: None, .. }));
}
