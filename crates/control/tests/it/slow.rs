//! Clients that never finish what they begin to say, in numbers, at the API's door.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::Secret;
use bastide_control::run::dev;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::skipped;
use crate::wire::{ROOT, ask};

const CLIENTS: usize = 10_000;
/// Places that one source may have at the API.
const SOURCE_MAX: usize = 2_048;
/// Descriptors: both ends are in this process.
const DESCRIPTORS: u64 = 14_000;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// The same, and what a busy machine adds.
const HEAD_ENDS: Duration = Duration::from_secs(25);
/// What the places of one source may take, in KiB.
const MEMORY_KIB_MAX: usize = 96 << 10;

fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse().unwrap()
}

async fn connect(to: SocketAddr, from: [u8; 4]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_clients_hold_up_nobody_and_are_ended() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    if allowed.is_some_and(|most| most < DESCRIPTORS) {
        skipped("a limit of 14,000 open files");
        return;
    }
    let most = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let dev = dev::start(any, Some(Secret::new("root".to_owned())))
        .await
        .unwrap();
    let before = memory();
    let mut slow = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = connect(dev.address, [127, 0, 0, 2]).await.unwrap();
        // It may have been turned away by now.
        let _ = client
            .write_all(b"GET /v1/sys/mounts HTTP/1.1\r\nhost: x\r\nx-")
            .await;
        slow.push(client);
    }

    // Everybody else is served meanwhile.
    let begun = Instant::now();
    for _ in 0..20 {
        let (status, _, body) = ask(dev.address, "GET /v1/sys/mounts", ROOT, "").await;
        assert_eq!(status, 200, "{body}");
    }
    let served = begun.elapsed();
    let grown = memory().saturating_sub(before);
    println!("20 requests beside {CLIENTS} slow clients: {served:?}, {grown} KiB more");
    assert!(served < HEAD, "{served:?}: the slow had to end first");
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB");

    // So many as have a place hold it, for as long as a head may take; then they are ended too.
    let mut held = 0;
    let mut bytes = [0; 512];
    for client in &mut slow {
        let read = tokio::time::timeout(Duration::from_millis(1), client.read(&mut bytes));
        held += usize::from(read.await.is_err());
    }
    assert!(0 < held && held <= SOURCE_MAX, "{held} of one source");
    for client in &mut slow {
        let end = async { while client.read(&mut bytes).await.is_ok_and(|len| 0 < len) {} };
        let left = HEAD_ENDS.saturating_sub(begun.elapsed()) + Duration::from_millis(1);
        assert!(tokio::time::timeout(left, end).await.is_ok(), "one goes on");
    }
    dev.server.stop().await;
}
