//! The packet filter, asked with real packets: who can reach what.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bastide_cluster::firewall::{self, Frames, HostChange, Rules};
use bastide_linux::nft;

use crate::ready;
use crate::wire::Net;

const REFUSAL: Duration = Duration::from_millis(300);

/// A node (`host`) with two containers, another node with one, a machine in the world, and all
/// ports of interest listened on.
struct Scene {
    host: Net,
    one: Net,
    _two: Net,
    peer: Net,
    remote: Net,
    world: Net,
    _listeners: Vec<TcpListener>,
}

const HOST: Ipv4Addr = Ipv4Addr::new(100, 72, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(100, 72, 0, 2);
const DNS: Ipv4Addr = Ipv4Addr::new(100, 72, 0, 53);
const ONE: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 3);
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 128, 1, 2);
const HOST_UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const PORTS: [u16; 6] = [22, 53, 80, 2377, 7946, 8200];

fn rules(slot: u8) -> Rules {
    Rules {
        mesh_interface: "bst0".to_owned(),
        plan: bastide_api::AddressPlan::default(),
        containers: format!("10.128.{slot}.0/24").parse().unwrap(),
        routes: Vec::new(),
        frames: Frames::DerivedMac,
    }
}

fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Gives `host` the container bridge.
fn bridge(host: &Net, gateway: &str) {
    host.run("ip link add bst-containers type bridge");
    host.run(&format!("ip addr add {gateway}/24 dev bst-containers"));
    host.run("ip link set bst-containers up");
    host.run("sysctl -qw net.ipv4.conf.bst-containers.forwarding=1");
}

/// Puts a container on the bridge of `host`, as an engine would.
fn container(host: &Net, port: &str, address: Ipv4Addr, gateway: &str) -> Net {
    let container = Net::new();
    host.wire(port, &container, "eth0");
    host.run(&format!("ip link set {port} master bst-containers"));
    container.run(&format!("ip link set eth0 address {}", mac(address)));
    container.run(&format!("ip addr add {address}/24 dev eth0"));
    container.run(&format!("ip route add default via {gateway}"));
    container
}

fn node(slot: u8, address: Ipv4Addr) -> Net {
    let node = Net::new();
    for HostChange { path, value } in firewall::host_changes("lo") {
        if !path.contains("/lo/") {
            node.inside(|| std::fs::write(format!("/proc/sys/{path}"), value))
                .unwrap();
        }
    }
    bridge(&node, &format!("10.128.{slot}.1"));
    node.run(&format!("ip addr add {address}/32 dev lo"));
    node.run(&format!("ip addr add {DNS}/32 dev lo"));
    node
}

fn mesh(node: &Net, address: Ipv4Addr, peer_containers: &str, peer: Ipv4Addr) {
    for HostChange { path, value } in firewall::host_changes("bst0") {
        node.inside(|| std::fs::write(format!("/proc/sys/{path}"), value))
            .unwrap();
    }
    node.run(&format!(
        "ip route add 100.72.0.0/16 dev bst0 src {address}"
    ));
    node.run(&format!(
        "ip route add {peer_containers} via {peer} dev bst0 onlink"
    ));
}

impl Scene {
    fn new() -> Self {
        let (host, peer, world) = (node(0, HOST), node(1, PEER), Net::new());
        host.wire("bst0", &peer, "bst0");
        mesh(&host, HOST, "10.128.1.0/24", PEER);
        mesh(&peer, PEER, "10.128.0.0/24", HOST);
        host.wire("eth0", &world, "eth0");
        host.run(&format!("ip addr add {HOST_UPLINK}/24 dev eth0"));
        host.run("sysctl -qw net.ipv4.conf.eth0.forwarding=1");
        world.run(&format!("ip addr add {WORLD}/24 dev eth0"));
        for inner in ["100.72.0.0/16", "10.128.0.0/12"] {
            world.run(&format!("ip route add {inner} via {HOST_UPLINK}"));
        }
        let one = container(&host, "c1", ONE, "10.128.0.1");
        let two = container(&host, "c2", TWO, "10.128.0.1");
        let remote = container(&peer, "c1", REMOTE, "10.128.1.1");
        let mut listeners = Vec::new();
        for net in [&host, &one, &two, &peer, &remote, &world] {
            for port in PORTS {
                listeners.push(net.inside(|| TcpListener::bind(("0.0.0.0", port)).unwrap()));
            }
        }
        Self {
            host,
            one,
            _two: two,
            peer,
            remote,
            world,
            _listeners: listeners,
        }
    }

    fn close(&self) {
        self.host
            .inside(|| nft::apply(&firewall::ruleset(&rules(0))))
            .unwrap();
        self.peer
            .inside(|| nft::apply(&firewall::ruleset(&rules(1))))
            .unwrap();
    }
}

fn reaches(from: &Net, to: Ipv4Addr, port: u16) -> bool {
    let to = SocketAddr::from((to, port));
    match from.inside(|| TcpStream::connect_timeout(&to, REFUSAL)) {
        Ok(_) => true,
        Err(error) => {
            // A refusal would mean that the packet arrived where nobody listened.
            assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
            false
        }
    }
}

const TOOLS: &[&str] = &["ip", "nft", "sysctl"];

#[test]
fn a_container_reaches_its_resolver_and_other_containers_and_nothing_else() {
    if !ready(TOOLS) {
        return;
    }
    let scene = Scene::new();
    let forbidden = [
        (HOST, 22),
        (HOST, 53),
        (HOST, 2377),
        (HOST, 7946),
        (HOST, 8200),
        (HOST_UPLINK, 22),
        (Ipv4Addr::new(10, 128, 0, 1), 22),
        (DNS, 22),
        (PEER, 22),
        (PEER, 8200),
        (WORLD, 80),
    ];
    // The control: without the rules the same packets arrive. The world has a route back.
    for (to, port) in forbidden {
        assert!(reaches(&scene.one, to, port), "{to}:{port} without rules");
    }
    scene.close();
    for (to, port) in forbidden {
        assert!(!reaches(&scene.one, to, port), "{to}:{port}");
    }
    for (to, port) in [(DNS, 53), (TWO, 80), (TWO, 22), (REMOTE, 80)] {
        assert!(reaches(&scene.one, to, port), "{to}:{port}");
    }
}

#[test]
fn from_the_mesh_a_node_reaches_all_and_a_container_only_containers() {
    if !ready(TOOLS) {
        return;
    }
    let scene = Scene::new();
    scene.close();
    for (to, port) in [
        (HOST, 22),
        (HOST, 2377),
        (HOST, 7946),
        (HOST, 8200),
        (ONE, 80),
    ] {
        assert!(reaches(&scene.peer, to, port), "{to}:{port}");
    }
    assert!(reaches(&scene.remote, ONE, 80));
    for port in PORTS {
        assert!(!reaches(&scene.remote, HOST, port), "{port}");
    }
    // A peer's packets for what is behind us go nowhere: it routed them here on purpose.
    scene.peer.run(&format!(
        "ip route add 203.0.113.0/24 via {HOST} dev bst0 onlink"
    ));
    assert!(!reaches(&scene.peer, WORLD, 80));
    assert!(!reaches(&scene.peer, HOST_UPLINK, 22));
}

#[test]
fn the_world_reaches_neither_mesh_addresses_nor_containers_nor_swarm() {
    if !ready(TOOLS) {
        return;
    }
    let scene = Scene::new();
    let forbidden = [
        (HOST, 8200),
        (DNS, 53),
        (ONE, 80),
        (HOST_UPLINK, 2377),
        (HOST_UPLINK, 7946),
    ];
    for (to, port) in forbidden {
        assert!(reaches(&scene.world, to, port), "{to}:{port} without rules");
    }
    scene.close();
    for (to, port) in forbidden {
        assert!(!reaches(&scene.world, to, port), "{to}:{port}");
    }
    assert!(
        reaches(&scene.world, HOST_UPLINK, 22),
        "the host's own services are its own"
    );
    assert!(reaches(&scene.host, ONE, 80));
    assert!(reaches(&scene.host, WORLD, 80));
    assert!(reaches(&scene.host, HOST, 2377), "the host reaches itself");
}

#[test]
fn a_container_cannot_speak_in_the_name_of_another() {
    if !ready(TOOLS) {
        return;
    }
    let scene = Scene::new();
    scene.close();
    assert!(reaches(&scene.one, REMOTE, 80));
    let forge = |address: &str, mac_of: Ipv4Addr| {
        let one = &scene.one;
        one.run("ip addr flush dev eth0");
        one.run(&format!("ip link set eth0 address {}", mac(mac_of)));
        one.run(&format!("ip addr add {address}/24 dev eth0"));
        // Refused where the forged address is the gateway's own; the neighbour needs no route.
        one.output("ip route replace default via 10.128.0.1 dev eth0 onlink");
        one.output("ip neigh flush all");
        scene.host.output("ip neigh flush all");
    };
    // A free address of the own subnet, without the hardware address that goes with it.
    forge("10.128.0.9", ONE);
    assert!(!reaches(&scene.one, TWO, 80));
    assert!(!reaches(&scene.one, REMOTE, 80));
    // The same with it is how an engine would have put it there.
    forge("10.128.0.9", Ipv4Addr::new(10, 128, 0, 9));
    assert!(reaches(&scene.one, TWO, 80));
    // Another node's subnet.
    forge("10.128.1.9", Ipv4Addr::new(10, 128, 1, 9));
    assert!(!reaches(&scene.one, TWO, 80));
    // The gateway's own address: nobody may answer for it.
    forge("10.128.0.1", ONE);
    assert!(!reaches(&scene.one, TWO, 80));
}

#[test]
fn the_rules_replace_themselves_and_can_be_taken_away() {
    if !ready(TOOLS) {
        return;
    }
    let net = Net::new();
    for frames in [Frames::DerivedMac, Frames::Subnet] {
        for routes in [Vec::new(), vec!["192.168.7.0/24".parse().unwrap()]] {
            let rules = Rules {
                routes,
                frames,
                ..rules(0)
            };
            net.inside(|| nft::apply(&firewall::ruleset(&rules)))
                .unwrap();
        }
    }
    assert!(net.inside(|| nft::list("inet bastide")).unwrap().is_some());
    assert!(
        net.inside(|| nft::list("bridge bastide"))
            .unwrap()
            .is_some()
    );
    for _ in 0..2 {
        net.inside(|| nft::apply(&firewall::undo())).unwrap();
    }
    assert_eq!(
        net.inside(|| nft::list(""))
            .unwrap()
            .unwrap_or_default()
            .trim(),
        ""
    );
}

#[test]
fn an_approved_gateway_leads_nodes_to_its_subnet_and_containers_nowhere() {
    if !ready(TOOLS) {
        return;
    }
    let scene = Scene::new();
    scene.close();
    let subnet = "203.0.113.0/24";
    scene
        .peer
        .run(&format!("ip route add {subnet} via {HOST} dev bst0 onlink"));
    assert!(!reaches(&scene.peer, WORLD, 80), "before it is approved");
    // Who is behind the gateway has never heard of the mesh.
    scene.world.run("ip route del 100.72.0.0/16");
    let gateway = Rules {
        routes: vec![subnet.parse().unwrap()],
        ..rules(0)
    };
    scene
        .host
        .inside(|| nft::apply(&firewall::ruleset(&gateway)))
        .unwrap();
    assert!(reaches(&scene.peer, WORLD, 80), "once it is approved");
    assert!(
        !reaches(&scene.remote, WORLD, 80),
        "a container of another node"
    );
    assert!(
        !reaches(&scene.one, WORLD, 80),
        "a container of the gateway"
    );
    assert!(
        !reaches(&scene.world, PEER, 80),
        "the mesh, from behind the gateway"
    );
}
