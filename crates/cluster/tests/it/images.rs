//! A real engine pulls from the registry on its loopback, and saves what ours imports.

use std::net::TcpListener;
use std::sync::Arc;

use bastide_cluster::images::{self, Blobs, Fetcher, Imported, Peers};
use bastide_stack::Digest;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::hosts::Host;
use crate::{alone, ready};

const GREETING: &[u8] = b"carried without a registry\n";

fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(bytes.len()).unwrap());
    header.set_mode(0o644);
    builder.append_data(&mut header, name, bytes).unwrap();
}

fn sum(bytes: &[u8]) -> Digest {
    use aws_lc_rs::digest::{SHA256, digest};
    Digest::from_sha256(digest(&SHA256, bytes).as_ref().try_into().unwrap())
}

/// Writes what `docker save hello:1` would, for an image of one file.
fn archive() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    file(&mut layer, "greeting", GREETING);
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": bastide_api::Arch::HERE, "os": "linux", "config": { "Cmd": ["/greeting"] },
        "rootfs": { "type": "layers", "diff_ids": [sum(&layer)] },
    });
    let list = serde_json::json!([
        { "Config": "c.json", "RepoTags": ["hello:1"], "Layers": ["l/layer.tar"] }
    ]);
    let mut archive = tar::Builder::new(Vec::new());
    file(&mut archive, "c.json", config.to_string().as_bytes());
    file(&mut archive, "l/layer.tar", &layer);
    file(&mut archive, "manifest.json", list.to_string().as_bytes());
    archive.into_inner().unwrap()
}

fn listen(address: &str) -> tokio::net::TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::net::TcpListener::from_std(listener).unwrap()
}

#[expect(
    clippy::await_holding_lock,
    reason = "engines run one at a time, whoever else waits"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_pulls_by_digest_what_only_a_peer_has_and_its_own_archive_imports() {
    if !ready(&["dockerd", "docker", "unshare", "nsenter"]) {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();

    let origin = Arc::new(Blobs::open(folder.path().join("origin")).unwrap());
    let images = images::import_docker_archive(&origin, &archive()[..]).unwrap();
    let [Imported { digest, names }] = images.as_slice() else {
        panic!("{images:?}");
    };
    let peer = listen("127.0.0.1:0");
    let (_, addresses) = watch::channel(vec![peer.local_addr().unwrap()]);
    tasks.spawn(images::serve_peers(peer, Arc::clone(&origin), None));

    let host = Host::start(folder.path(), "puller").await;
    let blobs = Arc::new(Blobs::open(folder.path().join("blobs")).unwrap());
    let fetcher = Fetcher::new(
        Arc::clone(&blobs),
        Peers {
            addresses,
            tls: None,
        },
    );
    // A socket stays in the network that it was made in: the host's loopback.
    let registry = host
        .net
        .inside(|| TcpListener::bind(images::LOOPBACK).unwrap());
    registry.set_nonblocking(true).unwrap();
    let registry = tokio::net::TcpListener::from_std(registry).unwrap();
    tasks.spawn(images::serve_loopback(registry, Arc::new(fetcher)));

    let reference = images::loopback_reference(&names[0], *digest).to_string();
    assert_eq!(reference, format!("127.0.0.1:5443/hello@{digest}"));
    let docker = |words: &str| block_in_place(|| host.docker(words));
    docker(&format!("pull {reference}")).unwrap();
    let known = docker(&format!(
        "image inspect --format {{{{.RepoDigests}}}} {reference}"
    ))
    .unwrap();
    assert_eq!(known, format!("[{reference}]"));
    assert!(blobs.has(*digest));
    docker(&format!("create --name probe {reference}")).unwrap();
    let copy = folder.path().join("copy");
    docker(&format!("cp probe:/greeting {}", copy.display())).unwrap();
    assert_eq!(std::fs::read(copy).unwrap(), GREETING);

    let absent = format!("127.0.0.1:5443/hello@{}", sum(b"absent"));
    let error = docker(&format!("pull {absent}")).unwrap_err();
    assert!(
        error.contains("not found") || error.contains("unknown"),
        "{error}"
    );

    docker(&format!("tag {reference} again:2")).unwrap();
    let saved = folder.path().join("saved.tar");
    docker(&format!("save -o {} again:2", saved.display())).unwrap();
    let third = Blobs::open(folder.path().join("third")).unwrap();
    let saved = std::fs::File::open(saved).unwrap();
    let images = images::import_docker_archive(&third, saved).unwrap();
    assert_eq!(images[0].names, ["again:2".parse().unwrap()]);
    let layer = block_in_place(|| host.docker("image inspect --format {{.RootFS.Layers}} again:2"));
    let layer: Digest = layer.unwrap().trim_matches(['[', ']']).parse().unwrap();
    assert!(third.has(layer) && origin.has(layer));
}
