use std::time::Duration;

use serde_json::json;

use super::super::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use super::*;

fn store() -> (tempfile::TempDir, Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    (folder, blobs)
}

/// Keeps an image of one layer; returns its manifest and all it consists of.
fn image(blobs: &Blobs, text: &str) -> (Digest, Vec<Digest>) {
    let config = blobs.put(format!("config of {text}").as_bytes()).unwrap();
    let layer = blobs.put(format!("layer of {text}").as_bytes()).unwrap();
    let point = |kind, digest: Digest| json!({"mediaType": kind, "digest": digest, "size": blobs.size(digest)});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": point(OCI_CONFIG, config),
        "layers": [point(OCI_LAYER, layer)],
    });
    let manifest = blobs.put(manifest.to_string().as_bytes()).unwrap();
    (manifest, vec![manifest, config, layer])
}

/// A moment after all that was kept so far.
fn later(folder: &tempfile::TempDir) -> UnixTime {
    let blobs = fs::read_dir(folder.path().join("blobs")).unwrap();
    let times = blobs.map(|entry| modified(&entry.unwrap().metadata().unwrap()));
    times.max().unwrap().plus(Duration::from_secs(1))
}

#[test]
fn what_a_deployed_image_consists_of_stays_and_the_rest_goes() {
    let (folder, blobs) = store();
    let (kept, parts) = image(&blobs, "one");
    let (gone, others) = image(&blobs, "two");
    blobs.name(&"one".parse().unwrap(), kept).unwrap();
    blobs.name(&"two".parse().unwrap(), gone).unwrap();
    let swept = sweep(&blobs, &BTreeSet::from([kept]), later(&folder)).unwrap();
    assert_eq!(swept.blobs, 3);
    assert!(swept.bytes > 0);
    assert!(parts.iter().all(|digest| blobs.has(*digest)));
    assert!(!others.iter().any(|digest| blobs.has(*digest)));
    assert_eq!(blobs.resolve(&"one".parse().unwrap()), Some(kept));
    assert_eq!(blobs.resolve(&"two".parse().unwrap()), None);
    let again = Blobs::open(folder.path()).unwrap();
    assert_eq!(again.names().len(), 1, "on disk too");
}

#[test]
fn an_index_keeps_the_images_that_it_names_and_that_are_here() {
    let (folder, blobs) = store();
    let (here, parts) = image(&blobs, "one");
    let point = |digest: String| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
    let absent = format!("sha256:{}", "ab".repeat(32));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [point(here.to_string()), point(absent)],
    });
    let index = blobs.put(index.to_string().as_bytes()).unwrap();
    let swept = sweep(&blobs, &BTreeSet::from([index]), later(&folder)).unwrap();
    assert_eq!(swept, Swept::default());
    assert!(parts.iter().all(|digest| blobs.has(*digest)));
}

#[test]
fn what_was_kept_lately_stays_even_if_it_had_been_here_before() {
    let (folder, blobs) = store();
    let (_, parts) = image(&blobs, "one");
    let long_ago = rustix::fs::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: long_ago,
        last_modification: long_ago,
    };
    for digest in &parts {
        let path = folder.path().join("blobs").join(digest.hex());
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
    }
    let before = UnixTime::from_millis(3_600_000);
    // The same image is about to be deployed again.
    image(&blobs, "one");
    let swept = sweep(&blobs, &BTreeSet::new(), before).unwrap();
    assert_eq!(swept, Swept::default());
    let swept = sweep(&blobs, &BTreeSet::new(), later(&folder)).unwrap();
    assert_eq!(swept.blobs, 3);
}

#[test]
fn what_is_not_named_like_a_blob_is_left_alone() {
    let (folder, blobs) = store();
    blobs.put(b"x").unwrap();
    let stranger = folder.path().join("blobs/readme");
    fs::write(&stranger, "mine").unwrap();
    sweep(&blobs, &BTreeSet::new(), later(&folder)).unwrap();
    assert!(stranger.exists());
}
