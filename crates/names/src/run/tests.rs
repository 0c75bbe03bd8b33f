use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::core::zone::tests::{facts, task, view};

/// A resolver on a port of loopback, and what it listens to.
struct Scene {
    address: SocketAddr,
    counters: Arc<Counters>,
    zone: watch::Sender<Arc<Zone>>,
    upstreams: watch::Sender<Vec<SocketAddr>>,
    tasks: JoinSet<()>,
}

fn zone(tasks: u8) -> Arc<Zone> {
    let tasks = (0..tasks).map(|host| (1, task(&format!("10.128.1.{}", host + 2), "web", true)));
    Arc::new(Zone::build(&view(), &facts(tasks), &BTreeSet::new()))
}

impl Scene {
    async fn start(sources: &[&str]) -> Self {
        let (zone, zone_out) = watch::channel(zone(3));
        let (upstreams, upstreams_out) = watch::channel(Vec::new());
        let config = ResolverConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
            upstreams: upstreams_out,
        };
        let resolver = Resolver::start(config, zone_out).await.unwrap();
        let (address, counters) = (resolver.address(), resolver.counters());
        let mut tasks = JoinSet::new();
        tasks.spawn(resolver.run());
        Self {
            address,
            counters,
            zone,
            upstreams,
            tasks,
        }
    }

    /// Starts a resolver that answers with what `answer` makes of a question; returns its address.
    async fn upstream(&mut self, answer: fn(Vec<u8>) -> Option<Vec<u8>>) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        self.tasks.spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                if let Some(answer) = answer(buffer[..length].to_vec()) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        self.tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut question = vec![0; usize::from(length)];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answered(&question, 100);
                tcp::write(&mut stream, &answer).await.unwrap();
            }
        });
        address
    }

    /// Asks by UDP; `None` if nothing comes within `within`.
    async fn ask(&self, question: &[u8], within: Duration) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(question, self.address).await.unwrap();
        let mut buffer = [0; 2_000];
        let length = timeout(within, socket.recv(&mut buffer))
            .await
            .ok()?
            .unwrap();
        Some(buffer[..length].to_vec())
    }
}

const LONG: Duration = Duration::from_secs(20);
const LOOPBACK: &[&str] = &["127.0.0.0/8"];

fn question(name: &str) -> Vec<u8> {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// Answers a question with `count` addresses.
fn answered(question: &[u8], count: u8) -> Vec<u8> {
    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record};
    let mut message = Message::from_vec(question).unwrap();
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    for host in 0..count {
        let data = RData::A(A::new(192, 0, 2, host));
        message.add_answer(Record::from_rdata(name.clone(), 60, data));
    }
    message.to_vec().unwrap()
}

fn truncated(question: &[u8]) -> Vec<u8> {
    let mut answer = answered(question, 0);
    answer[2] |= 0x02;
    answer
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0x0f
}

fn answers(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[6], answer[7]])
}

/// Asks with `dig`, somebody else's resolver; `None` if it is not installed.
async fn dig(scene: &Scene, words: &str) -> Option<String> {
    let port = scene.address.port().to_string();
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let run = move || {
        let mut command = Command::new("dig");
        command
            .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10"])
            .args(words);
        command.output()
    };
    if let Ok(output) = tokio::task::spawn_blocking(run).await.unwrap() {
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    eprintln!("skipped: dig is missing");
    None
}

#[tokio::test]
async fn dig_understands_the_answers() {
    let mut scene = Scene::start(LOOPBACK).await;
    let Some(short) = dig(&scene, "+short web.shop.home.internal A").await else {
        return;
    };
    let mut lines: Vec<&str> = short.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["10.128.1.2", "10.128.1.3", "10.128.1.4"]);
    let checks = [
        (
            "web.shop.home.internal AAAA",
            &["NOERROR", "ANSWER: 0", "SOA"][..],
        ),
        (
            "no.shop.home.internal A",
            &["NXDOMAIN", "home.internal.", "SOA"],
        ),
        (
            "+tcp atlas.node.home.internal A",
            &["NOERROR", "100.72.0.2", " aa "],
        ),
        (
            "home.internal SOA",
            &["NOERROR", "ANSWER: 1", "hostmaster.home.internal."],
        ),
        ("-x 100.72.0.2", &["NOERROR", "atlas.node.home.internal."]),
        ("version.bind CH TXT", &["REFUSED"]),
        ("home.internal AXFR", &["Transfer failed"]),
        ("+edns=1 +noednsnegotiation home.internal A", &["BADVERS"]),
        ("web A", &["NXDOMAIN"]),
        ("example.org A", &["SERVFAIL"]),
    ];
    for (words, expected) in checks {
        let said = dig(&scene, words).await.unwrap();
        for word in expected {
            assert!(said.contains(word), "dig {words} lacks {word}:\n{said}");
        }
        assert!(
            !said.contains("malformed") && !said.contains("WARNING: Message"),
            "{said}"
        );
    }
    scene.zone.send_replace(zone(200));
    let said = dig(&scene, "+noedns +ignore web.shop.home.internal A")
        .await
        .unwrap();
    assert!(said.contains(" tc "), "{said}");
    let said = dig(&scene, "+noedns web.shop.home.internal A")
        .await
        .unwrap();
    assert!(
        said.contains("Truncated, retrying in TCP") && said.contains("ANSWER: 200"),
        "{said}"
    );
    let upstream = scene
        .upstream(|question| Some(answered(&question, 2)))
        .await;
    scene.upstreams.send_replace(vec![upstream]);
    let said = dig(&scene, "+short example.org A").await.unwrap();
    assert_eq!(said, "192.0.2.0\n192.0.2.1\n");
}

#[tokio::test]
async fn a_source_outside_the_ranges_gets_no_answer() {
    let scene = Scene::start(&["10.128.0.0/12"]).await;
    let silence = Duration::from_millis(300);
    assert_eq!(
        scene
            .ask(&question("web.shop.home.internal."), silence)
            .await,
        None
    );
    assert_eq!(scene.counters.dropped.load(Ordering::Relaxed), 1);
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    let mut byte = [0];
    // The connection is closed without a word.
    assert_eq!(
        timeout(LONG, stream.read(&mut byte))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    assert_eq!(scene.counters.answered.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_silent_or_failing_upstream_is_passed_over() {
    let mut scene = Scene::start(LOOPBACK).await;
    let silent = scene.upstream(|_| None).await;
    let failing = scene
        .upstream(|question| {
            let mut answer = answered(&question, 0);
            answer[3] = 2;
            Some(answer)
        })
        .await;
    let good = scene
        .upstream(|question| Some(answered(&question, 1)))
        .await;
    scene.upstreams.send_replace(vec![silent, failing, good]);
    let answer = scene.ask(&question("example.org."), LONG).await.unwrap();
    assert_eq!((code(&answer), answers(&answer), answer[1]), (0, 1, 7));
    scene.upstreams.send_replace(vec![failing]);
    let answer = scene.ask(&question("example.org."), LONG).await.unwrap();
    assert_eq!((code(&answer), answer[1]), (2, 7));
    assert_eq!(scene.counters.forwarded.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn forged_answers_are_not_taken() {
    let mut scene = Scene::start(LOOPBACK).await;
    let forger = scene
        .upstream(|question| {
            let mut answer = answered(&question, 1);
            answer[0] ^= 0xff;
            Some(answer)
        })
        .await;
    scene.upstreams.send_replace(vec![forger]);
    let answer = scene.ask(&question("example.org."), LONG).await.unwrap();
    assert_eq!((code(&answer), answers(&answer)), (2, 0));
}

#[tokio::test]
async fn the_resolver_never_asks_itself_for_others() {
    let scene = Scene::start(LOOPBACK).await;
    scene.upstreams.send_replace(vec![scene.address]);
    let answer = scene.ask(&question("example.org."), LONG).await.unwrap();
    assert_eq!(code(&answer), 2);
    assert_eq!(scene.counters.forwarded.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_long_foreign_answer_comes_whole_over_tcp() {
    let mut scene = Scene::start(LOOPBACK).await;
    let upstream = scene.upstream(|question| Some(truncated(&question))).await;
    scene.upstreams.send_replace(vec![upstream]);
    let answer = scene.ask(&question("example.org."), LONG).await.unwrap();
    assert_eq!((answer[2] & 0x02, answers(&answer)), (2, 0));
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    for _ in 0..2 {
        tcp::write(&mut stream, &question("example.org."))
            .await
            .unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer[2] & 0x02, answers(&answer)), (0, 100));
    }
}

#[tokio::test]
async fn nonsense_over_tcp_ends_the_connection() {
    let scene = Scene::start(LOOPBACK).await;
    for nonsense in [&b"\xff\xff"[..], b"\x00\x00", b"\x00\x03abc"] {
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(ended.is_err() || rest.is_empty());
    }
    let answer = scene
        .ask(&question("web.shop.home.internal."), LONG)
        .await
        .unwrap();
    assert_eq!(answers(&answer), 3);
}

#[tokio::test]
async fn one_source_cannot_hold_all_connections() {
    let scene = Scene::start(LOOPBACK).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_PER_SOURCE_MAX {
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        tcp::write(&mut stream, &question("web.shop.home.internal."))
            .await
            .unwrap();
        assert!(0 < stream.read_u16().await.unwrap());
        held.push(stream);
    }
    let mut one_more = TcpStream::connect(scene.address).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(LONG, one_more.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(ended.is_err() || rest.is_empty());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(scene.address).await.unwrap();
    tcp::write(&mut other, &question("web.shop.home.internal."))
        .await
        .unwrap();
    assert!(0 < timeout(LONG, other.read_u16()).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_lookup_tells_known_names_from_others_and_from_failures() {
    let scene = Scene::start(LOOPBACK).await;
    let known = knows(scene.address, "atlas.node.home.internal").await;
    assert!(known.unwrap());
    let unknown = knows(scene.address, "nobody.node.home.internal").await;
    assert!(!unknown.unwrap());
    // Without a resolver of the host's own, the names of others fail.
    assert!(knows(scene.address, "example.org").await.is_err());
    assert!(knows(scene.address, "a..b").await.is_err());
}
