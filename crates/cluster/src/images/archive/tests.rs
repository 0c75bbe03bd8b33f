use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tar::{Builder, Header};

use super::super::manifest::OCI_INDEX;
use super::*;

fn sum(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref().try_into().unwrap())
}

fn header(name: &str, kind: EntryType, length: usize) -> Header {
    let mut header = Header::new_ustar();
    // As written, where `set_path` would refuse what a stranger can send.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(u64::try_from(length).unwrap());
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// Writes a tar file of regular files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        builder
            .append(&header(name, EntryType::Regular, bytes.len()), *bytes)
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    tar(&[("hello", b"#!/bin/sh")])
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| sum(layer)).collect();
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string()
        .into_bytes()
}

fn legacy() -> Vec<u8> {
    let (layer, config) = (layer(), config(&[&layer()]));
    let list = json!([{ "Config": "c.json", "RepoTags": ["hello:1", "hello"], "Layers": ["l/layer.tar"] }]);
    tar(&[
        ("c.json", &config),
        ("l/VERSION", b"1.0"),
        ("l/layer.tar", &layer),
        ("manifest.json", list.to_string().as_bytes()),
    ])
}

struct Store {
    folder: tempfile::TempDir,
    blobs: Blobs,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("images")).unwrap();
        Self { folder, blobs }
    }

    fn import(&self, archive: &[u8]) -> Result<Vec<Imported>, ArchiveError> {
        import_docker_archive(&self.blobs, archive)
    }

    fn count(&self, directory: &str) -> usize {
        let path = self.folder.path().join("images").join(directory);
        std::fs::read_dir(path).unwrap().count()
    }

    fn refuses(&self, archive: &[u8], words: &str) {
        let error = self.import(archive).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(self.count("partial"), 0);
        assert!(self.blobs.names().is_empty());
    }
}

#[test]
fn a_legacy_archive_gives_the_same_digest_each_time() {
    let (one, two) = (Store::new(), Store::new());
    let images = one.import(&legacy()).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(two.import(&legacy()).unwrap(), images);
    assert_eq!(one.import(&legacy()).unwrap(), images);
    for name in ["hello:1", "hello"] {
        assert_eq!(
            one.blobs.resolve(&name.parse().unwrap()),
            Some(images[0].digest)
        );
    }
    let bytes = one
        .blobs
        .read_small(images[0].digest, MANIFEST_BYTES_MAX)
        .unwrap()
        .unwrap();
    let Some(Document::Manifest { config, layers, .. }) = Document::read(&bytes) else {
        panic!("no manifest");
    };
    assert_eq!(config.media_type, OCI_CONFIG);
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0].digest, sum(&layer()));
    assert_eq!(layers[0].media_type, OCI_LAYER);
    assert_eq!(one.blobs.size(layers[0].digest), Some(layers[0].size));
    assert_eq!((one.count("blobs"), one.count("partial")), (3, 0));
}

#[test]
fn a_layer_that_is_a_link_to_another_is_followed() {
    let store = Store::new();
    let (layer, config) = (layer(), config(&[&layer(), &layer()]));
    let list = json!([{ "Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    let mut builder = Builder::new(Vec::new());
    let mut link = header("b/layer.tar", EntryType::Symlink, 0);
    link.set_link_name("../a/layer.tar").unwrap();
    link.set_cksum();
    builder.append(&link, &[][..]).unwrap();
    let list = list.to_string();
    for (name, bytes) in [
        ("a/layer.tar", &layer[..]),
        ("c.json", &config),
        ("manifest.json", list.as_bytes()),
    ] {
        builder
            .append(&header(name, EntryType::Regular, bytes.len()), bytes)
            .unwrap();
    }
    let images = store.import(&builder.into_inner().unwrap()).unwrap();
    assert!(images[0].names.is_empty());
    assert_eq!(store.count("blobs"), 3);
}

#[test]
fn an_oci_layout_keeps_its_own_digest() {
    let store = Store::new();
    let (layer, config) = (layer(), config(&[&layer()]));
    let describe = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": sum(bytes), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, &config), "layers": [describe(OCI_LAYER, &layer)],
    })
    .to_string();
    // Of another platform, left out as `docker save` does.
    let absent = json!({ "mediaType": OCI_MANIFEST, "digest": sum(b"absent"), "size": 6 });
    let index = json!({
        "schemaVersion": 2, "mediaType": crate::images::manifest::OCI_INDEX,
        "manifests": [absent, describe(OCI_MANIFEST, manifest.as_bytes())],
    })
    .to_string();
    let layout = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": crate::images::manifest::OCI_INDEX, "digest": sum(index.as_bytes()), "size": index.len(),
        "annotations": { "io.containerd.image.name": "docker.io/library/hello:2" },
    }] })
    .to_string();
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", sum(bytes).hex());
    let list =
        json!([{ "Config": path(&config), "RepoTags": ["hello:3"], "Layers": [path(&layer)] }])
            .to_string();
    let paths = [
        path(&layer),
        path(&config),
        path(manifest.as_bytes()),
        path(index.as_bytes()),
    ];
    let files: [(&str, &[u8]); 7] = [
        (&paths[0], &layer),
        (&paths[1], &config),
        (&paths[2], manifest.as_bytes()),
        (&paths[3], index.as_bytes()),
        ("index.json", layout.as_bytes()),
        ("manifest.json", list.as_bytes()),
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
    ];
    let images = store.import(&tar(&files)).unwrap();
    assert_eq!(images[0].digest, sum(index.as_bytes()));
    for name in ["hello:2", "hello:3"] {
        assert_eq!(
            store.blobs.resolve(&name.parse().unwrap()),
            Some(images[0].digest)
        );
    }
    assert_eq!((store.count("blobs"), store.count("partial")), (4, 0));
    let mut forged = files;
    forged[0].1 = b"other bytes";
    let other = Store::new();
    other.refuses(&tar(&forged), "expected blob");
    other.refuses(&tar(&files[1..]), "lacks a blob");
}

#[test]
fn paths_that_lead_out_of_the_archive_are_refused() {
    for name in ["../../escaped", "/escaped", "a/../../escaped"] {
        let store = Store::new();
        store.refuses(&tar(&[(name, b"x")]), "leads out of it");
        let outside: &Path = store.folder.path();
        assert!(!outside.join("escaped").exists());
        assert!(!outside.parent().unwrap().join("escaped").exists());
    }
    let store = Store::new();
    let list = json!([{ "Config": "../names.json", "Layers": [] }]).to_string();
    store.refuses(
        &tar(&[("manifest.json", list.as_bytes())]),
        "leads out of it",
    );
}

#[test]
fn links_out_of_the_archive_and_in_circles_lead_nowhere() {
    for (name, target) in [
        ("c.json", "/etc/passwd"),
        ("c.json", "../../etc/passwd"),
        ("c.json", "c.json"),
    ] {
        let store = Store::new();
        let mut builder = Builder::new(Vec::new());
        let mut link = header(name, EntryType::Symlink, 0);
        link.set_link_name(target).unwrap();
        link.set_cksum();
        builder.append(&link, &[][..]).unwrap();
        let list = json!([{ "Config": "c.json", "Layers": [] }]).to_string();
        let manifest = header("manifest.json", EntryType::Regular, list.len());
        builder.append(&manifest, list.as_bytes()).unwrap();
        store.refuses(&builder.into_inner().unwrap(), "`c.json` is missing");
    }
}

#[test]
fn layers_must_be_what_the_configuration_says() {
    let (layer, config) = (layer(), config(&[b"another layer"]));
    let list = json!([{ "Config": "c.json", "Layers": ["l.tar"] }]).to_string();
    let files: [(&str, &[u8]); 3] = [
        ("c.json", &config),
        ("l.tar", &layer),
        ("manifest.json", list.as_bytes()),
    ];
    Store::new().refuses(&tar(&files), "layer `l.tar` is not `sha256:");
    let list = json!([{ "Config": "c.json", "Layers": [] }]).to_string();
    let files: [(&str, &[u8]); 2] = [("c.json", &config), ("manifest.json", list.as_bytes())];
    Store::new().refuses(&tar(&files), "has 0 layers where its configuration has 1");
}

#[test]
fn an_archive_that_was_cut_off_is_refused() {
    let whole = legacy();
    for length in [1, 100, 600, 1_100, 2_600] {
        let store = Store::new();
        assert!(store.import(&whole[..length]).is_err(), "cut to {length}");
        assert_eq!(store.count("partial"), 0);
        assert!(store.blobs.names().is_empty());
    }
    Store::new().refuses(&[], "neither `manifest.json` nor `index.json`");
}

#[test]
fn a_bomb_of_entries_or_of_texts_is_refused() {
    let mut builder = Builder::new(Vec::new());
    let entry = header("d/", EntryType::Directory, 0);
    for _ in 0..=ENTRIES_MAX {
        builder.append(&entry, &[][..]).unwrap();
    }
    Store::new().refuses(&builder.into_inner().unwrap(), "more than 10000 entries");
    let long = vec![b' '; usize::try_from(MANIFEST_BYTES_MAX).unwrap() + 1];
    Store::new().refuses(&tar(&[("manifest.json", &long)]), "bytes in a manifest");
    let extension = header("x", EntryType::XHeader, 1 << 20);
    let mut builder = Builder::new(Vec::new());
    builder
        .append(&extension, &vec![b'x'; 1 << 20][..])
        .unwrap();
    Store::new().refuses(
        &builder.into_inner().unwrap(),
        "bytes in an extended header",
    );
}

#[test]
fn what_would_be_read_in_two_ways_is_refused() {
    let mut builder = Builder::new(Vec::new());
    let record = b"20 path=elsewhere/x\n";
    builder
        .append(&header("x", EntryType::XHeader, record.len()), &record[..])
        .unwrap();
    Store::new().refuses(&builder.into_inner().unwrap(), "extended header `path`");
    for kind in [
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::Block,
        EntryType::Fifo,
    ] {
        let mut builder = Builder::new(Vec::new());
        builder.append(&header("x", kind, 0), &[][..]).unwrap();
        Store::new().refuses(&builder.into_inner().unwrap(), "`x` is a ");
    }
}

/// Walked each time that it is named, the lowest index would be read 256³ times: for hours.
#[test]
fn an_index_that_names_the_next_one_256_times_is_walked_once() {
    let index = |digest: Digest, size: usize| {
        let one = json!({ "mediaType": OCI_INDEX, "digest": digest, "size": size });
        json!({ "schemaVersion": 2, "manifests": vec![one; MANIFESTS_MAX] }).to_string()
    };
    let mut documents = vec![index(sum(b"nothing"), 7)];
    for _ in 0..INDEX_DEPTH_MAX {
        let below = documents.last().unwrap();
        documents.push(index(sum(below.as_bytes()), below.len()));
    }
    let top = sum(documents.last().unwrap().as_bytes());
    let layout = json!({ "manifests": [{ "digest": top }] }).to_string();
    let names: Vec<String> = documents
        .iter()
        .map(|it| format!("blobs/sha256/{}", sum(it.as_bytes()).hex()))
        .collect();
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    for (name, document) in names.iter().zip(&documents) {
        files.push((name, document.as_bytes()));
    }
    files.push(("index.json", layout.as_bytes()));
    Store::new().refuses(&tar(&files), "lacks a blob");
}
