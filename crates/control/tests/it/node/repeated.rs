//! A write whose answer is lost is repeated by the client, and done once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bastide_control::core::request::Operation;
use bastide_control::run::plane::Plane;
use serde_json::Map;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Returns the version that a secret is at.
async fn version(plane: &Plane, path: &str) -> Option<u64> {
    let found = plane.ask(Operation::Read, path, Map::new()).await.ok()?;
    found.data?.get("current_version")?.as_u64()
}

/// Carries connections to the API; the first one is cut when the secret is there and the server
/// answers, so that what was done is not heard. Counts connections.
async fn cutting_once(plane: Plane, to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(to).await.unwrap();
            if counted.fetch_add(1, Ordering::SeqCst) != 0 {
                let _ = copy_bidirectional(&mut client, &mut server).await;
                continue;
            }
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let asking = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let mut piece = [0; 16 * 1024];
            loop {
                let length = from_server.read(&mut piece).await.unwrap_or(0);
                if length == 0 || version(&plane, "secret/metadata/x").await.is_some() {
                    break;
                }
                to_client.write_all(&piece[..length]).await.unwrap();
            }
            asking.abort();
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_repeated_and_done_once() {
    let site = Site::start().await;
    let plane = site.server.plane().clone();
    let (address, connections) = cutting_once(plane.clone(), site.api).await;
    let token = Secret::new(site.root.clone());
    let trust = Trust::Ca(site.begun.ca.clone());
    let client = Client::new(vec![address], trust, None, Some(token)).unwrap();
    let body = || Some(json!({ "data": { "x": 1 } }));
    let answer = soon(client.call("POST", "/v1/secret/data/x", body())).await;
    assert_eq!(answer.unwrap()["version"], 1, "the answer of the first");
    assert_eq!(connections.load(Ordering::SeqCst), 2, "it was sent twice");
    assert_eq!(version(&plane, "secret/metadata/x").await, Some(1));
    // The control: two requests of the client are two writes.
    let answer = client.call("POST", "/v1/secret/data/x", body()).await;
    assert_eq!(answer.unwrap()["version"], 2);
}
