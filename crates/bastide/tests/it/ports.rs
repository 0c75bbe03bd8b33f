//! What of a node can be reached, and from where.

use std::collections::BTreeSet;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
};
use std::thread;
use std::time::Duration;

use bastide_api::ports;

use crate::containers::{Container, idle};
use crate::site::{ATLAS, DNS, Site, can_run, resolves};

/// A host on the internet that belongs to nobody here.
const STRANGER: &str = "
  stranger:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.66/24 }
";
const STRANGER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// Ports that anybody would try.
const TRIED: [u16; 9] = [22, 53, 2375, 2376, 2377, 5443, 7946, 8200, 8443];
/// A port that nobody forbids: the positive control.
const FREE: u16 = 40_001;
/// How long a connection may take on one machine; one that is dropped takes all of it.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);

/// The sockets of one of the kernel's tables (`/proc/net/tcp` and so on) on a host: the local
/// addresses of those that listen (TCP) or are bound and not connected (UDP).
fn bound(site: &Site, host: &str, table: &str) -> BTreeSet<SocketAddr> {
    let text = site.run(host, &format!("cat /proc/net/{table}"));
    let state = if table.starts_with("tcp") { "0A" } else { "07" };
    let lines = text.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields[1].to_owned(), fields[3].to_owned())
    });
    lines
        .filter(|(_, is)| is == state)
        .map(|(local, _)| parse(&local))
        .collect()
}

/// Reads the kernel's form: words of the address in the machine's byte order, in hexadecimal.
fn parse(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').unwrap();
    let words = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(&address[at * 8..at * 8 + 8], 16).unwrap());
    let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(bytes),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap()),
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
}

/// Connects to all of these at once, from the calling thread's network; returns those that answer.
fn answering(targets: impl IntoIterator<Item = SocketAddr>) -> BTreeSet<SocketAddr> {
    thread::scope(|scope| {
        let attempts: Vec<_> = targets
            .into_iter()
            .map(|to| {
                scope.spawn(move || (to, TcpStream::connect_timeout(&to, ANSWER_WITHIN).is_ok()))
            })
            .collect();
        attempts
            .into_iter()
            .map(|attempt| attempt.join().unwrap())
            .filter_map(|(to, answers)| answers.then_some(to))
            .collect()
    })
}

fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

fn udp(bound: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(bound).unwrap();
    socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    socket
}

fn receives(socket: &UdpSocket) -> bool {
    socket.recv_from(&mut [0; 64]).is_ok()
}

/// Two nodes with engines in a Swarm, and a stranger.
fn two_nodes(lab: &str) -> Site {
    let mut site = Site::three_and(lab, STRANGER);
    site.start_engines(&["atlas", "boreas"]);
    site.up();
    site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    site
}

/// Which of these answer a host.
fn answering_to(
    site: &Site,
    host: &str,
    targets: impl IntoIterator<Item = SocketAddr> + Send,
) -> BTreeSet<SocketAddr> {
    site.lab().within(host, || answering(targets)).unwrap()
}

#[test]
fn only_two_ports_of_a_node_face_the_world() {
    if !can_run(&["dockerd", "docker", "iptables"]) {
        return;
    }
    let site = two_nodes("ports");
    let mesh = IpAddr::from(site.node("atlas", "atlas").unwrap().address);
    let atlas: IpAddr = ATLAS.parse().unwrap();
    let listening = bound_on_atlas(&site, atlas);

    let tried: BTreeSet<u16> = listening.into_iter().chain(TRIED).chain([FREE]).collect();
    let held = site.lab().within("atlas", || {
        let free = TcpListener::bind(at(Ipv6Addr::UNSPECIFIED, FREE)).unwrap();
        // Sockets that a careless engine might open: the filter holds even then.
        let careless = [ports::SWARM_MANAGER, ports::SWARM_GOSSIP]
            .map(|port| TcpListener::bind(at(atlas, port)).unwrap());
        (free, careless)
    });
    let _held = held.unwrap();
    let to = |ip: IpAddr| tried.iter().map(move |port| at(ip, *port));
    let answers = answering_to(&site, "stranger", to(atlas));
    assert_eq!(
        answers,
        BTreeSet::from([at(atlas, ports::CHANNEL), at(atlas, FREE)])
    );
    let (local, scope) = link_local(&site);
    let to_local = |port: &u16| SocketAddrV6::new(local, *port, 0, scope).into();
    let answers = answering_to(&site, "stranger", tried.iter().map(to_local));
    assert_eq!(answers, BTreeSet::from([to_local(&FREE)]));
    // Whoever names a mesh address without being a member is not heard.
    site.run("stranger", &format!("ip route add {mesh} via {ATLAS}"));
    assert_eq!(answering_to(&site, "stranger", to(mesh)), BTreeSet::new());
    let members = answering_to(&site, "boreas", [at(mesh, ports::API)]);
    assert_eq!(members.len(), 1, "a member is heard");

    no_datagram_reaches_swarms_ports(&site);
}

/// Checks what is bound on atlas, and returns the ports that listen.
fn bound_on_atlas(site: &Site, atlas: IpAddr) -> BTreeSet<u16> {
    let of = |tables: [&str; 2]| -> BTreeSet<_> {
        let tables = tables.into_iter();
        tables
            .flat_map(|table| bound(site, "atlas", table))
            .collect()
    };
    let listening: BTreeSet<_> = of(["tcp", "tcp6"]).iter().map(SocketAddr::port).collect();
    let known = BTreeSet::from([ports::CHANNEL, ports::API, ports::SWARM_MANAGER]);
    assert!(
        listening.is_superset(&known),
        "all that listens is seen: {listening:?}"
    );
    let open: Vec<_> = of(["udp", "udp6"])
        .into_iter()
        .filter(|socket| socket.ip().is_unspecified() || socket.ip() == atlas)
        // The kernel's own, made by an engine that begins a Swarm: nothing reaches it, see below.
        .filter(|socket| socket.port() != ports::SWARM_VXLAN)
        .collect();
    assert_eq!(
        open,
        [at(Ipv6Addr::UNSPECIFIED, ports::MESH)],
        "no other socket takes datagrams from the world"
    );
    listening
}

/// The address that atlas gave itself on the internet's wire, and the stranger's number of that wire.
fn link_local(site: &Site) -> (Ipv6Addr, u32) {
    let local = site.run("atlas", "ip -6 -o address show dev eth0 scope link");
    let local = local.split_whitespace().nth(3).unwrap();
    let scope = site.run("stranger", "cat /sys/class/net/eth0/ifindex");
    let local = local.split('/').next().unwrap();
    (local.parse().unwrap(), scope.trim().parse().unwrap())
}

/// Whoever listens. On boreas: on atlas the kernel itself has the port of VXLAN.
fn no_datagram_reaches_swarms_ports(site: &Site) {
    let boreas = IpAddr::from([192, 168, 1, 10]);
    let swarm = [ports::SWARM_VXLAN, ports::SWARM_GOSSIP];
    let listen = || {
        (
            swarm.map(|port| udp(at(boreas, port))),
            udp(at(boreas, FREE)),
        )
    };
    let (listening, heard) = site.lab().within("boreas", listen).unwrap();
    site.lab()
        .within("home-router", || {
            let socket = udp(at(Ipv4Addr::UNSPECIFIED, 0));
            for port in swarm.into_iter().chain([FREE]) {
                socket.send_to(b"x", at(boreas, port)).unwrap();
            }
        })
        .unwrap();
    // The wire keeps the order: when the last has arrived, the others would have.
    assert!(receives(&heard));
    assert!(!listening.iter().any(receives));
}

#[test]
fn a_container_reaches_names_and_containers_and_nothing_else() {
    if !can_run(&["dockerd", "docker", "iptables"]) || idle().is_none() {
        return;
    }
    let site = two_nodes("cage");
    let inside = Container::run(&site, "boreas");
    let beside = Container::run(&site, "boreas");
    let across = Container::run(&site, "atlas");

    assert!(inside.within(|| resolves("atlas.node.test.internal")));
    assert!(!inside.within(|| resolves("nobody.node.test.internal")));
    let listening = [&beside, &across]
        .map(|one| one.within(|| TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, FREE)).unwrap()));
    let containers = [
        at(DNS, ports::DNS),
        at(beside.address, FREE),
        at(across.address, FREE),
    ];
    let reached = inside.within(|| answering(containers));
    assert_eq!(reached, BTreeSet::from(containers));
    drop(listening);

    let mesh = |host| IpAddr::from(site.node("boreas", host).unwrap().address);
    let [a, b, c, _] = inside.address.octets();
    let gateway = IpAddr::from([a, b, c, 1]);
    let atlas: IpAddr = ATLAS.parse().unwrap();
    let hosts = [
        ("boreas", mesh("boreas")),
        ("atlas", atlas),
        ("stranger", STRANGER_ADDRESS.into()),
    ];
    let others = ["192.168.1.10", "192.168.1.1", "172.17.0.1"].map(|ip| ip.parse().unwrap());
    let others = others.into_iter().chain([mesh("atlas"), gateway]);
    nothing_is_reached(&site, &inside, hosts, others.collect());
}

/// Though something listens everywhere.
fn nothing_is_reached(
    site: &Site,
    inside: &Container,
    hosts: [(&str, IpAddr); 3],
    others: Vec<IpAddr>,
) {
    let listen = || {
        let tcp = TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, FREE)).unwrap();
        (tcp, udp(at(Ipv4Addr::UNSPECIFIED, FREE)))
    };
    let listening = hosts.map(|(host, _)| site.lab().within(host, listen).unwrap());
    let of_hosts = hosts.map(|(_, ip)| at(ip, FREE));
    assert_eq!(
        answering_to(site, "boreas", of_hosts),
        BTreeSet::from(of_hosts),
        "the host itself reaches them"
    );
    let tried = TRIED
        .into_iter()
        .chain([FREE, ports::CHANNEL, ports::API, ports::IMAGES]);
    let places: Vec<_> = others.into_iter().chain(hosts.map(|(_, ip)| ip)).collect();
    let targets: Vec<_> = tried
        .flat_map(|port| places.iter().map(move |ip| at(*ip, port)))
        .collect();
    assert_eq!(inside.within(|| answering(targets)), BTreeSet::new());
    inside.within(|| {
        let socket = udp(at(Ipv4Addr::UNSPECIFIED, 0));
        for ip in &places {
            // Where there is no way, the kernel may say so at once.
            let _ = socket.send_to(b"container", at(*ip, FREE));
        }
    });
    // What the host itself sends takes the same way later, and arrives first.
    site.lab()
        .within("boreas", || {
            let socket = udp(at(Ipv4Addr::UNSPECIFIED, 0));
            for to in of_hosts {
                socket.send_to(b"host", to).unwrap();
            }
        })
        .unwrap();
    for ((host, _), (_, socket)) in hosts.iter().zip(&listening) {
        let mut first = [0; 16];
        let length = socket.recv(&mut first).unwrap();
        assert_eq!(&first[..length], b"host", "{host}");
    }
}
