//! Strangers that hold connections to the door that faces the world, and say nothing or very little.

use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

/// More than one source may hold.
const HELD: usize = 600;
/// Connections of one source that the channel serves at a time.
const SOURCE_MAX: usize = 512;
/// How long a handshake may take, and what a busy machine adds.
const HANDSHAKE_ENDS: Duration = Duration::from_secs(20);

/// Both ends of all connections are in this process.
fn allow_descriptors() {
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();
}

/// Connects from an address of the loopback's that is not the nodes'.
async fn connect(to: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the other end closes; returns whether it did within `limit`.
async fn is_closed(stream: &mut TcpStream, limit: Duration) -> bool {
    let mut bytes = [0; 64];
    let end = async {
        // A reset is an end as well.
        while stream.read(&mut bytes).await.is_ok_and(|len| 0 < len) {}
    };
    tokio::time::timeout(limit, end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_and_slow_connections_are_bounded_and_hold_up_no_node() {
    allow_descriptors();
    let site = Site::start().await;
    let node = site.node("two").await;
    let (client, mut follower) = (node.client(), node.follower());
    let mut watch = client.watch(Revision(0)).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;

    // The beginning of a ClientHello, and then nothing.
    let begun = Instant::now();
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut stream = connect(site.channel, [127, 0, 0, 2]).await;
        // The server may have closed it by now.
        let _ = stream.write_all(&[22, 3, 1]).await;
        held.push(stream);
    }
    // The rest of one, a byte at a time.
    let mut slow = connect(site.channel, [127, 0, 0, 3]).await;
    let dripping = tokio::spawn(async move {
        let mut sent = 0;
        while slow.write_all(&[22]).await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sent
    });
    let mut closed = 0;
    for stream in &mut held {
        let limit = Duration::from_millis(if closed < HELD - SOURCE_MAX { 20 } else { 0 });
        closed += usize::from(is_closed(stream, limit).await);
    }
    let open = HELD - closed;
    assert!(open <= SOURCE_MAX, "{open} of one source are open");
    assert!(open > SOURCE_MAX / 2, "{open} of {HELD}: this was no flood");

    // Meanwhile members renew, machines join, and a watch tells of it.
    let before = Instant::now();
    soon(node.client().renew(&node.renewal())).await.unwrap();
    let renewed = before.elapsed();
    let third = soon(site.node("three")).await;
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, third.id()).then_some(())
    })
    .await;
    println!(
        "{open} half open: renewed in {renewed:?}, joined and told in {:?}",
        before.elapsed()
    );

    // What does not come to a handshake is ended.
    for stream in &mut held {
        let left = HANDSHAKE_ENDS.saturating_sub(begun.elapsed());
        assert!(
            is_closed(stream, left).await,
            "a connection outlives its handshake"
        );
    }
    let sent = tokio::time::timeout(HANDSHAKE_ENDS, dripping).await;
    assert!(sent.is_ok(), "a slow handshake goes on for ever");
    soon(node.client().renew(&RenewRequest::default()))
        .await
        .unwrap();
}
