//! What of a node can be reached, and from where.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
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

#[test]
fn only_two_ports_of_a_node_face_the_world() {
    if !can_run(&["dockerd", "docker", "iptables"]) {
        return;
    }
    let mut site = Site::three_and("ports", STRANGER);
    site.start_engines(&["atlas", "boreas"]);
    let (_ticket, _up) = site.up();
    site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    let mesh = IpAddr::from(site.node("atlas", "atlas").unwrap().address);
    let atlas: IpAddr = ATLAS.parse().unwrap();

    // By what is bound.
    let tcp: BTreeSet<_> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| bound(&site, "atlas", table))
        .collect();
    let is_known = |port| tcp.iter().any(|socket| socket.port() == port);
    assert!(
        [ports::CHANNEL, ports::API, ports::SWARM_MANAGER]
            .into_iter()
            .all(is_known),
        "all that listens is seen: {tcp:?}"
    );
    let open_udp: Vec<_> = ["udp", "udp6"]
        .iter()
        .flat_map(|table| bound(&site, "atlas", table))
        .filter(|socket| socket.ip().is_unspecified() || socket.ip() == atlas)
        // The kernel's own, made by an engine that begins a Swarm; see below.
        .filter(|socket| socket.port() != ports::SWARM_VXLAN)
        .collect();
    assert_eq!(
        open_udp,
        [at(Ipv6Addr::UNSPECIFIED, ports::MESH)],
        "no other socket takes datagrams from the world"
    );

    // By what answers, over both versions of IP.
    let tried: BTreeSet<u16> = tcp.iter().map(SocketAddr::port).chain(TRIED).collect();
    let (free, _held) = site
        .lab()
        .within("atlas", || {
            let free = TcpListener::bind(at(Ipv6Addr::UNSPECIFIED, FREE)).unwrap();
            // Sockets that a careless engine might open: the filter holds even then.
            let held = [ports::SWARM_MANAGER, ports::SWARM_GOSSIP]
                .map(|port| TcpListener::bind(at(atlas, port)).unwrap());
            (free, held)
        })
        .unwrap();
    let answers = site
        .lab()
        .within("stranger", || {
            answering(tried.iter().chain([&FREE]).map(|port| at(atlas, *port)))
        })
        .unwrap();
    assert_eq!(
        answers,
        BTreeSet::from([at(atlas, ports::CHANNEL), at(atlas, FREE)])
    );
    let local = site.run("atlas", "ip -6 -o address show dev eth0 scope link");
    let local = local.split_whitespace().nth(3).unwrap();
    let local: Ipv6Addr = local.split('/').next().unwrap().parse().unwrap();
    let scope = site.run("stranger", "cat /sys/class/net/eth0/ifindex");
    let scope = scope.trim().parse().unwrap();
    let answers = site
        .lab()
        .within("stranger", || {
            let ports = tried.iter().chain([&FREE]);
            answering(ports.map(|port| std::net::SocketAddrV6::new(local, *port, 0, scope).into()))
        })
        .unwrap();
    let answers: Vec<_> = answers.iter().map(SocketAddr::port).collect();
    assert_eq!(answers, [FREE]);
    // Whoever names a mesh address without being a member is not heard.
    site.run("stranger", &format!("ip route add {mesh} via {ATLAS}"));
    let answers = site
        .lab()
        .within("stranger", || {
            answering(tried.iter().map(|port| at(mesh, *port)))
        })
        .unwrap();
    assert_eq!(answers, BTreeSet::new());
    let members = site
        .lab()
        .within("boreas", || answering([at(mesh, ports::API)]))
        .unwrap();
    assert_eq!(members.len(), 1, "a member is heard");

    // Datagrams for Swarm's ports do not arrive, whoever listens. On boreas: on atlas the kernel
    // itself has the port of VXLAN.
    let boreas = IpAddr::from([192, 168, 1, 10]);
    let swarm = [ports::SWARM_VXLAN, ports::SWARM_GOSSIP];
    let (listening, heard) = site
        .lab()
        .within("boreas", || {
            let listening = swarm.map(|port| udp(at(boreas, port)));
            (listening, udp(at(boreas, FREE)))
        })
        .unwrap();
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
    drop(free);
}

#[test]
fn a_container_reaches_names_and_containers_and_nothing_else() {
    if !can_run(&["dockerd", "docker", "iptables"]) || idle().is_none() {
        return;
    }
    let mut site = Site::three_and("cage", STRANGER);
    site.start_engines(&["atlas", "boreas"]);
    let (_ticket, _up) = site.up();
    site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    let inside = Container::run(&site, "boreas");
    let beside = Container::run(&site, "boreas");
    let across = Container::run(&site, "atlas");
    let mesh = |host| IpAddr::from(site.node("boreas", host).unwrap().address);
    let (own, other) = (mesh("boreas"), mesh("atlas"));
    let [a, b, c, _] = inside.address.octets();
    let gateway = IpAddr::from([a, b, c, 1]);

    // Names and containers, here and there.
    assert!(inside.within(|| resolves("atlas.node.test.internal")));
    assert!(!inside.within(|| resolves("nobody.node.test.internal")));
    let [beside_listens, across_listens] = [&beside, &across]
        .map(|one| one.within(|| TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, FREE)).unwrap()));
    let reached = inside.within(|| {
        answering([
            at(DNS, ports::DNS),
            at(beside.address, FREE),
            at(across.address, FREE),
        ])
    });
    assert_eq!(reached.len(), 3, "{reached:?}");
    drop((beside_listens, across_listens));

    // Nothing else, though something listens everywhere.
    let hosts = ["boreas", "atlas", "stranger"];
    let listening = hosts.map(|host| {
        site.lab()
            .within(host, || {
                let tcp = TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, FREE)).unwrap();
                (tcp, udp(at(Ipv4Addr::UNSPECIFIED, FREE)))
            })
            .unwrap()
    });
    let places = [
        own,
        other,
        gateway,
        "192.168.1.10".parse().unwrap(),
        "192.168.1.1".parse().unwrap(),
        "172.17.0.1".parse().unwrap(),
        ATLAS.parse().unwrap(),
        STRANGER_ADDRESS.into(),
    ];
    let tried: [u16; 8] = [
        FREE,
        22,
        ports::CHANNEL,
        ports::API,
        ports::IMAGES,
        ports::SWARM_MANAGER,
        ports::SWARM_GOSSIP,
        ports::DNS,
    ];
    let targets: Vec<_> = places
        .into_iter()
        .flat_map(|ip| tried.map(|port| at(ip, port)))
        .collect();
    let host_reaches = site
        .lab()
        .within("boreas", || {
            answering([
                at(ATLAS.parse::<IpAddr>().unwrap(), FREE),
                at(STRANGER_ADDRESS, FREE),
            ])
        })
        .unwrap();
    assert_eq!(host_reaches.len(), 2, "the host itself reaches them");
    let reached = inside.within(|| answering(targets));
    assert_eq!(reached, BTreeSet::new());
    inside.within(|| {
        let socket = udp(at(Ipv4Addr::UNSPECIFIED, 0));
        for ip in places {
            // Where there is no way, the kernel may say so at once.
            let _ = socket.send_to(b"x", at(ip, FREE));
        }
    });
    // What the host itself sends takes the same way later, and arrives.
    site.lab()
        .within("boreas", || {
            let socket = udp(at(Ipv4Addr::UNSPECIFIED, 0));
            for ip in [own, ATLAS.parse().unwrap(), STRANGER_ADDRESS.into()] {
                socket.send_to(b"host", at(ip, FREE)).unwrap();
            }
        })
        .unwrap();
    for (host, (_, socket)) in hosts.iter().zip(&listening) {
        let mut first = [0; 16];
        let length = socket.recv(&mut first).unwrap();
        assert_eq!(&first[..length], b"host", "{host}");
    }
}
