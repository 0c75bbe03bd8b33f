//! A node whose public port is flooded: with initiations that are well made, with garbage, and with
//! what was recorded of its own peers, from a thousand addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bastide_api::{DiscoveryKey, NodeId, Secret, UnixTime, WireGuardKey};
use bastide_linux::batch::{BATCH_MAX, Outgoing, Slots};
use bastide_linux::capture::Tap;
use bastide_linux::namespace::{self, Namespace};
use bastide_linux::netlink::{self, Route, VethEnd};
use bastide_linux::udp;
use bastide_mesh::core::wireguard::{Entropy, Machine, MachineOptions, Roaming, Tai64N, message};
use bastide_mesh::{Mesh, MeshConfig, PeerSpec};
use ipnet::{IpNet, Ipv4Net};

use crate::rig::*;

const PORT: u16 = 51820;
/// The flooded node. Of two nodes the one with the lower id begins the handshake: here its peers.
const NODE: u8 = 9;
/// Where the flood comes from: a /22 that is routed to the attacker.
const SOURCES: u32 = 1 << 10;
/// Datagrams of the flood in a second: thirty times what the node answers without a cookie.
const RATE: u32 = 15_000;
const FLOODED: Duration = Duration::from_secs(6);
/// What a flood may add to the memory of the whole process (bytes). All that a stranger makes a node
/// keep is a bucket for each of 8,192 addresses.
const GROWTH_MAX: u64 = 16 << 20;
/// Questions of a legitimate peer that may be lost: the flood and the peers share one queue of the
/// kernel's, and this machine's processors.
const LOST_MAX: f64 = 0.2;

/// A switch, with a host for each name: 198.18.0.<place>.
struct Wire(Namespace);

impl Wire {
    fn new() -> Self {
        let (host, ()) = Namespace::new_network(|| ()).unwrap();
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        socket.add_bridge("net").unwrap();
        let bridge = socket.link("net").unwrap().unwrap().index;
        socket.set_up(bridge).unwrap();
        Self(host)
    }

    fn host(&self, place: u8) -> Namespace {
        let (host, ()) = Namespace::new_network(|| ()).unwrap();
        let mut socket = netlink::Socket::open_in(&self.0).unwrap();
        let bridge = socket.link("net").unwrap().unwrap().index;
        let name = format!("p{place}");
        let (mut near, mut far) = (VethEnd::new(&name), VethEnd::new("up0"));
        near.master = Some(bridge);
        far.network = Some(host.as_fd());
        socket.add_veth(&near, &far).unwrap();
        set_up(&host, "up0", &[&format!("198.18.0.{place}/24")]);
        host
    }
}

fn outer(place: u8) -> SocketAddr {
    SocketAddr::from(([198, 18, 0, place], PORT))
}

fn inner(place: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, place)
}

fn id(place: u8) -> NodeId {
    NodeId::from_bytes([place; 16])
}

fn public_key(secret: [u8; 32]) -> [u8; 32] {
    use aws_lc_rs::agreement::{PrivateKey, X25519};
    let key = PrivateKey::from_private_key(&X25519, &secret).unwrap();
    let public = key.compute_public_key().unwrap();
    public.as_ref().try_into().unwrap()
}

fn spec(place: u8) -> PeerSpec {
    PeerSpec {
        node: id(place),
        wireguard: WireGuardKey::from_bytes(public_key([place; 32])),
        discovery: DiscoveryKey::from_bytes(public_key([place + 100; 32])),
        allowed: vec![Ipv4Net::new(inner(place), 32).unwrap()],
        candidates: vec![outer(place)],
        relay: false,
    }
}

/// A node of a mesh.
struct Member {
    host: Namespace,
    mesh: Mesh,
    place: u8,
}

impl Member {
    fn start(wire: &Wire, place: u8, interface: &str) -> Self {
        let host = wire.host(place);
        let config = MeshConfig {
            interface: interface.to_owned(),
            port: PORT,
            private_key: Secret::new([place; 32]),
            discovery_key: Secret::new([place + 100; 32]),
            node: id(place),
            mtu: 1420,
            state: std::env::temp_dir().join(unique("flood")),
            public: vec![outer(place)],
            exclude: vec!["10.99.0.0/16".parse().unwrap()],
        };
        let mesh = namespace::within(&[&host], || block_on(Mesh::start(config))).unwrap();
        let mesh = mesh.unwrap();
        set_up(&host, interface, &[&format!("{}/32", inner(place))]);
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        let link = socket.link(interface).unwrap().unwrap().index;
        let net: IpNet = "10.99.0.0/16".parse().unwrap();
        socket.replace_route(&Route::on_link(net, link)).unwrap();
        Self { host, mesh, place }
    }

    fn know(&self, places: &[u8]) {
        let others = places.iter().filter(|place| **place != self.place);
        self.mesh
            .set_peers(others.map(|place| spec(*place)).collect());
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

struct Random(u64);

impl Random {
    /// `xorshift64` (G. Marsaglia, 2003): a flood need not be unpredictable.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Entropy for Random {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = self.next().to_le_bytes()[3];
        }
    }
}

/// Initiations as somebody makes them who knows the node's public key and is not its peer: each
/// costs the node two agreements on a key before it knows.
fn initiations(to: WireGuardKey) -> Vec<Vec<u8>> {
    let now = Instant::now();
    let one = |seed: u8| {
        let options = MachineOptions {
            wall: UnixTime::from_millis(1_790_000_000_000),
            timestamp_floor: Tai64N::ZERO,
            roaming: Roaming::Off,
            mtu: 1420,
        };
        let random = Random(u64::from(seed) * 7919);
        let mut machine = Machine::new(now, options, Box::new(random));
        machine.set_private_key(now, Some(Secret::new([seed; 32])));
        machine.add_peer(to).unwrap();
        machine.set_endpoint(now, &to, Some(outer(NODE))).unwrap();
        machine.start_handshake(now, &to).unwrap();
        machine.poll_transmit().unwrap().datagram
    };
    (150..250).map(one).collect()
}

fn garbage() -> Vec<Vec<u8>> {
    let mut random = Random(99);
    let heads: [&[u8]; 8] = [
        &[],
        &[1, 0, 0, 0],
        &[2, 0, 0, 0],
        &[3, 0, 0, 0],
        &[4, 0, 0, 0],
        &[0xb5, b'b', b'd', 1],
        // A discovery message of a member's, as far as it can be made without a key.
        &[
            0xb5, b'b', b'd', 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        ],
        &[0xb5, b'b', b'd', 2],
    ];
    let lens = [0, 1, 32, 64, 92, 148, 400, 1400];
    let one = |number: usize| {
        let mut bytes = vec![0; lens[number % lens.len()]];
        random.fill(&mut bytes);
        let head = heads[number / lens.len() % heads.len()];
        let len = head.len().min(bytes.len());
        bytes[..len].copy_from_slice(&head[..len]);
        bytes
    };
    (0..64).map(one).collect()
}

/// The UDP payloads of what passes an interface.
fn record(tap: &Tap) -> Vec<Vec<u8>> {
    let mut frame = vec![0; 2048];
    let mut payloads = Vec::new();
    while let Some(received) = tap.receive(&mut frame).unwrap() {
        let bytes = &frame[..received.stored];
        // Ethernet, IPv4 without options, UDP to the port of the mesh.
        // A train of datagrams passes a cable as one: no stranger could send it on like that.
        let is_mesh = (43..1500).contains(&bytes.len())
            && bytes[12..14] == [8, 0]
            && bytes[23] == 17
            && bytes[36..38] == PORT.to_be_bytes();
        if is_mesh {
            payloads.push(bytes[42..].to_vec());
        }
    }
    payloads
}

/// What a flood has sent, and what came back.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    sent_bytes: u64,
    answers: u64,
    answer_bytes: u64,
    longest: usize,
    cookies: u64,
}

/// Sends from all of its addresses until it is stopped, at [`RATE`].
fn flood(host: &Namespace, load: Vec<Vec<u8>>, stop: &Arc<AtomicBool>) -> JoinHandle<Tally> {
    let socket = namespace::within(&[host], || udp::UdpSocket::bind(PORT).unwrap()).unwrap();
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut slots = Slots::new(BATCH_MAX, 0, 1500, 0);
        let mut back = Slots::new(BATCH_MAX, 0, 1500, 0);
        let (mut tally, mut received) = (Tally::default(), Vec::new());
        let mut random = Random(7);
        let (begun, mut batches) = (Instant::now(), 0u32);
        while !stop.load(Ordering::Relaxed) {
            let mut outgoing = Vec::with_capacity(BATCH_MAX);
            for slot in 0..BATCH_MAX {
                let place = usize::try_from(random.next() % load.len() as u64).unwrap();
                let bytes = &load[place];
                slots.slot(slot)[..bytes.len()].copy_from_slice(bytes);
                let from = u32::try_from(random.next() % u64::from(SOURCES)).unwrap();
                let from = Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 96, 0).to_bits() + from);
                outgoing.push(Outgoing {
                    slot,
                    range: 0..bytes.len(),
                    to: outer(NODE),
                    local: Some(IpAddr::V4(from)),
                });
                tally.sent_bytes += bytes.len() as u64;
            }
            tally.sent += socket.send(&slots, &outgoing).sent as u64;
            received.clear();
            socket.receive(&mut back, BATCH_MAX, &mut received).unwrap();
            for answer in &received {
                let len = answer.range.len();
                tally.answers += 1;
                tally.answer_bytes += len as u64;
                tally.longest = tally.longest.max(len);
                tally.cookies += u64::from(len == message::COOKIE_LEN);
            }
            batches += 1;
            let due = begun + Duration::from_secs(1) * (batches * 64) / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        tally
    })
}

/// A value of `/proc/self/status`, in bytes.
fn memory(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim_matches([':', '\t', ' ']);
    number
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// The processor time that the device's thread has used.
fn processor_time(interface: &str) -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == format!("mesh-{interface}") {
            let schedstat = read("schedstat");
            let ran = schedstat.split(' ').next().unwrap();
            return Duration::from_nanos(ran.parse().unwrap());
        }
    }
    panic!("the device has no thread");
}

/// Asks 50 times a second and counts what is answered within a second.
fn ask_for(from: &Namespace, to: &Namespace, place: u8, time: Duration) -> (u32, u32) {
    let bind = |host: &Namespace, address: Ipv4Addr| {
        namespace::within(&[host], || UdpSocket::bind((address, 0)).unwrap()).unwrap()
    };
    let (client, server) = (bind(from, Ipv4Addr::UNSPECIFIED), bind(to, inner(place)));
    let target = server.local_addr().unwrap();
    for socket in [&client, &server] {
        socket.set_nonblocking(true).unwrap();
    }
    let (begun, mut asked, mut answered) = (Instant::now(), 0, 0);
    let mut bytes = [0; 64];
    while begun.elapsed() < time + Duration::from_secs(1) {
        let due = begun + Duration::from_millis(20) * asked;
        if begun.elapsed() < time && due <= Instant::now() {
            client.send_to(&asked.to_be_bytes(), target).unwrap();
            asked += 1;
        }
        while let Ok((len, back)) = server.recv_from(&mut bytes) {
            let _ = server.send_to(&bytes[..len], back);
        }
        while client.recv(&mut bytes).is_ok() {
            answered += 1;
        }
        if asked == answered && begun.elapsed() >= time {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (asked, answered)
}

fn throughput(from: &Member, to: &Member) -> f64 {
    let begun = Instant::now();
    megabyte_both_ways(&from.host, &to.host, IpAddr::V4(inner(to.place)));
    16.0 / begun.elapsed().as_secs_f64()
}

fn per_second(count: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64()
}

/// The attacker, whose addresses are local to it, and to whom the node's answers find the way.
fn attacker(wire: &Wire, node: &Member) -> Namespace {
    let attacker = wire.host(66);
    for (host, route) in [
        (&attacker, "add local 198.51.96.0/22 dev lo"),
        (&node.host, "add 198.51.96.0/22 via 198.18.0.66"),
    ] {
        let mut ip = Command::new("ip");
        ip.arg("route").args(route.split(' '));
        let status = namespace::within(&[host], || ip.status().unwrap()).unwrap();
        assert!(status.success(), "ip route {route}");
    }
    attacker
}

/// What the flood is made of: a third each of what was recorded, initiations and garbage.
fn mixed(mut recorded: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let kinds = [1, 2, 4].map(|kind| {
        let mut all = recorded.iter();
        all.any(|it| it.starts_with(&[kind, 0, 0, 0]))
    });
    assert_eq!(
        kinds, [true; 3],
        "initiation, response and data were recorded"
    );
    // Of the data some hundred are enough.
    recorded.truncate(300);
    let count = recorded.len();
    let made = [initiations(spec(NODE).wireguard), garbage()];
    let made = made.iter().flat_map(|kind| kind.iter().cycle().take(count));
    recorded.extend(made.cloned());
    recorded
}

#[test]
fn a_flood_takes_neither_connections_nor_memory_and_new_peers_still_come_in() {
    if !can_run(&["ip"]) {
        return;
    }
    let wire = Wire::new();
    let node = Member::start(&wire, NODE, "flooded");
    let peer = Member::start(&wire, 2, "peer");
    let late = Member::start(&wire, 3, "late");
    let attacker = attacker(&wire, &node);
    let tap = Tap::open_in(&node.host, "up0").unwrap();
    node.know(&[NODE, 2, 3]);
    peer.know(&[NODE, 2]);
    let (quiet_asked, quiet_answered) = {
        echo(&peer.host, &node.host, IpAddr::V4(inner(NODE)));
        ask_for(&peer.host, &node.host, NODE, Duration::from_secs(1))
    };
    assert_eq!(
        quiet_asked, quiet_answered,
        "nothing is lost without a flood"
    );
    let before = throughput(&peer, &node);
    let load = mixed(record(&tap));
    drop(tap);

    let report = |name: &str| (memory("VmRSS"), memory("VmHWM"), processor_time(name));
    let (rss, _, used) = report("flooded");
    let dropped = node.mesh.report().unwrap().counters.received_discarded;
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = flood(&attacker, load, &stop);
    let begun = Instant::now();
    let (asked, answered) = ask_for(&peer.host, &node.host, NODE, FLOODED / 2);
    // One that was never here before: its handshake needs a cookie now, and a second try with it.
    let door = Tap::open_in(&late.host, "up0").unwrap();
    late.know(&[NODE, 3]);
    let joined = echo(&late.host, &node.host, IpAddr::V4(inner(NODE)));
    let got = record(&door);
    let is_cookie = |it: &Vec<u8>| it.starts_with(&[3, 0, 0, 0]) && it.len() == message::COOKIE_LEN;
    assert!(
        got.iter().any(is_cookie),
        "the new peer came in by a cookie"
    );
    drop(door);
    let during = throughput(&peer, &node);
    wait_for("the flood lasted", || begun.elapsed() >= FLOODED);
    let flooded = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let tally = flooding.join().unwrap();
    let (rss_after, peak, used_after) = report("flooded");
    let discarded = node.mesh.report().unwrap().counters.received_discarded - dropped;

    let rate = per_second(tally.sent, flooded);
    let lost = 1.0 - f64::from(answered) / f64::from(asked);
    let busy = used_after.saturating_sub(used).as_secs_f64() / flooded.as_secs_f64();
    eprintln!(
        "flood: {} datagrams in {flooded:.1?} ({rate:.0}/s, {:.1} Mb/s), {discarded} counted as dropped; \
         {} answers ({} cookies), {} bytes for {}, longest {}",
        tally.sent,
        per_second(tally.sent_bytes / 125, flooded) / 1000.0,
        tally.answers,
        tally.cookies,
        tally.answer_bytes,
        tally.sent_bytes,
        tally.longest,
    );
    eprintln!(
        "peer: {answered} of {asked} answered ({:.1} % lost), TCP {during:.1} Mb/s of {before:.1}; \
         new peer after {joined:.1?}; device's thread {:.0} % of a core; RSS {} KiB before, {} after, \
         {} at most",
        lost * 100.0,
        busy * 100.0,
        rss >> 10,
        rss_after >> 10,
        peak >> 10,
    );
    assert!(
        rate > f64::from(RATE) / 3.0,
        "the flood was no flood: {rate:.0}/s"
    );
    assert!(tally.cookies > 0, "the node was never under load");
    assert!(lost <= LOST_MAX, "{asked} asked, {answered} answered");
    assert!(
        tally.longest <= message::RESPONSE_LEN,
        "an answer of {} bytes",
        tally.longest
    );
    assert!(tally.answers <= tally.sent && tally.answer_bytes < tally.sent_bytes / 2);
    assert!(
        rss_after.saturating_sub(rss) < GROWTH_MAX,
        "{rss} bytes, then {rss_after}"
    );
    // Nothing of what was replayed moved the peers, and all is as it was.
    echo(&peer.host, &node.host, IpAddr::V4(inner(NODE)));
    let to = bastide_api::v1::PathKind::Direct { to: outer(2) };
    assert_eq!(node.mesh.paths()[&id(2)].kind, to);
    for member in [&node, &peer, &late] {
        block_on(member.mesh.stop());
    }
}
