//! Nodes that find each other through real NATs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bastide_api::paths::{NatMapping, NotDirect};
use bastide_api::v1::PathKind;
use bastide_api::{DiscoveryKey, NodeId, Secret, WireGuardKey};
use bastide_linux::namespace::{self, Namespace};
use bastide_linux::netlink::{self, Route, VethEnd};
use bastide_linux::{nft, sysctl};
use bastide_mesh::{Mesh, MeshConfig, PeerSpec};
use ipnet::{IpNet, Ipv4Net};

use crate::rig::*;

const PORT: u16 = 51820;
pub const INTERFACE: &str = "bst0";

/// Endpoint-independent mapping; only those that were sent to come in.
pub const RESTRICTED: &str = "table ip nat {
    chain prerouting { type nat hook prerouting priority -100; }
    chain postrouting { type nat hook postrouting priority 100; oif \"wan\" masquerade; }
}
table ip guard {
    chain input { type filter hook input priority 0; iif \"wan\" ct state new drop; }
}";

/// Another port for each destination.
const SYMMETRIC: &str = "table ip nat {
    chain prerouting { type nat hook prerouting priority -100; }
    chain postrouting { type nat hook postrouting priority 100; oif \"wan\" masquerade fully-random; }
}
table ip guard {
    chain input { type filter hook input priority 0; iif \"wan\" ct state new drop; }
}";

/// A bridge that stands for the internet, 203.0.113.0/24.
pub struct Internet(Namespace);

impl Internet {
    pub fn new() -> Self {
        let (host, ()) = Namespace::new_network(|| ()).unwrap();
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        socket.add_bridge("net").unwrap();
        Self(host)
    }

    /// Connects a host's interface.
    fn connect(&self, host: &Namespace, interface: &str, address: &str) {
        let mut socket = netlink::Socket::open_in(&self.0).unwrap();
        let bridge = socket.link("net").unwrap().unwrap().index;
        let name = format!("p{}", address.rsplit('.').next().unwrap().replace('/', "m"));
        let (mut near, mut far) = (VethEnd::new(&name), VethEnd::new(interface));
        near.master = Some(bridge);
        far.network = Some(host.as_fd());
        socket.add_veth(&near, &far).unwrap();
        set_up(host, interface, &[address]);
    }

    /// A host with a public address.
    pub fn host(&self, place: u8) -> Namespace {
        let (host, ()) = Namespace::new_network(|| ()).unwrap();
        self.connect(&host, "up0", &format!("203.0.113.{place}/24"));
        host
    }

    /// A host behind a NAT of its own; the NAT comes with it.
    pub fn host_behind(&self, place: u8, rules: &str) -> (Namespace, Namespace) {
        let (router, ()) =
            Namespace::new_network(|| sysctl::write("net/ipv4/ip_forward", "1").unwrap()).unwrap();
        let (host, ()) = Namespace::new_network(|| ()).unwrap();
        self.connect(&router, "wan", &format!("203.0.113.{place}/24"));
        let (near, mut far) = (VethEnd::new("lan"), VethEnd::new("up0"));
        far.network = Some(host.as_fd());
        let mut socket = netlink::Socket::open_in(&router).unwrap();
        socket.add_veth(&near, &far).unwrap();
        set_up(&router, "lan", &[&format!("192.168.{place}.1/24")]);
        set_up(&host, "up0", &[&format!("192.168.{place}.2/24")]);
        let gateway = Ipv4Addr::new(192, 168, place, 1).into();
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        let everywhere = "0.0.0.0/0".parse().unwrap();
        socket
            .replace_route(&Route::via(everywhere, gateway))
            .unwrap();
        nft::apply_in(&router, rules).unwrap();
        (host, router)
    }
}

/// A node in a namespace.
pub struct Peer {
    pub host: Namespace,
    pub mesh: Mesh,
    place: u8,
    is_public: bool,
}

fn folder(label: &str) -> PathBuf {
    std::env::temp_dir().join(unique(label))
}

pub fn address(place: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, place)
}

pub fn id(place: u8) -> NodeId {
    NodeId::from_bytes([place; 16])
}

fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    use aws_lc_rs::agreement::{PrivateKey, X25519};
    let key = PrivateKey::from_private_key(&X25519, secret).unwrap();
    key.compute_public_key()
        .unwrap()
        .as_ref()
        .try_into()
        .unwrap()
}

impl Peer {
    pub fn start(host: Namespace, place: u8, is_public: bool) -> Self {
        let public = SocketAddr::from(([203, 0, 113, place], PORT));
        let config = MeshConfig {
            interface: INTERFACE.to_owned(),
            port: PORT,
            private_key: Secret::new([place; 32]),
            discovery_key: Secret::new([place + 100; 32]),
            node: id(place),
            mtu: 1420,
            state: folder("mesh"),
            public: if is_public { vec![public] } else { Vec::new() },
            exclude: vec!["10.99.0.0/16".parse().unwrap()],
        };
        let mesh = namespace::within(&[&host], || block_on(Mesh::start(config))).unwrap();
        let mesh = mesh.unwrap();
        set_up(&host, INTERFACE, &[&format!("{}/32", address(place))]);
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        let link = socket.link(INTERFACE).unwrap().unwrap().index;
        let net: IpNet = "10.99.0.0/16".parse().unwrap();
        socket.replace_route(&Route::on_link(net, link)).unwrap();
        Self {
            host,
            mesh,
            place,
            is_public,
        }
    }

    pub fn spec(&self) -> PeerSpec {
        PeerSpec {
            node: id(self.place),
            wireguard: WireGuardKey::from_bytes(public_key(&[self.place; 32])),
            discovery: DiscoveryKey::from_bytes(public_key(&[self.place + 100; 32])),
            allowed: vec![Ipv4Net::new(address(self.place), 32).unwrap()],
            candidates: self.mesh.endpoints().borrow().clone(),
            relay: self.is_public,
        }
    }

    pub fn kind(&self, to: &Peer) -> PathKind {
        self.mesh.paths()[&id(to.place)].kind
    }

    /// Sends a packet and gets one back; returns how long that took.
    pub fn reach(&self, to: &Peer) -> Duration {
        echo(&self.host, &to.host, IpAddr::V4(address(to.place)))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Tells each node the others; returns when.
pub fn introduce(peers: &[&Peer]) -> Instant {
    let specs: Vec<PeerSpec> = peers.iter().map(|peer| peer.spec()).collect();
    let begun = Instant::now();
    for peer in peers {
        peer.mesh.set_peers(specs.clone());
    }
    begun
}

#[test]
fn nodes_behind_nats_reach_each_other_directly_or_through_a_relay() {
    if !can_run(&["nft"]) {
        return;
    }
    let internet = Internet::new();
    let open = Peer::start(internet.host(1), 1, true);
    let other = Peer::start(internet.host(4), 4, true);
    let (host, _restricted) = internet.host_behind(2, RESTRICTED);
    let home = Peer::start(host, 2, false);
    let (host, _symmetric) = internet.host_behind(3, SYMMETRIC);
    let office = Peer::start(host, 3, false);
    let (host, _second) = internet.host_behind(5, RESTRICTED);
    let flat = Peer::start(host, 5, false);
    let all = [&open, &other, &home, &office, &flat];

    // How long it takes is asserted in virtual time; here the bound is for a busy machine.
    // Relayed first: what waits for it sees the whole way from nothing to an answer.
    let begun = introduce(&all);
    home.reach(&office);
    let relayed_after = begun.elapsed();
    home.reach(&open);
    office.reach(&open);
    office.reach(&home);
    eprintln!("relayed: answered {relayed_after:?} after set_peers");
    assert!(relayed_after < Duration::from_secs(2), "{relayed_after:?}");

    wait_for("two homes are direct", || {
        let kinds = [home.kind(&flat), flat.kind(&home)];
        kinds
            .iter()
            .all(|kind| matches!(kind, PathKind::Direct { .. }))
    });
    eprintln!("home to home: direct {:?} after set_peers", begun.elapsed());
    for (from, to) in [(&open, &home), (&home, &open), (&office, &open)] {
        assert!(matches!(from.kind(to), PathKind::Direct { .. }));
    }
    for (from, to) in [(&home, &office), (&office, &home)] {
        let kind = from.kind(to);
        let relays = [open.place, other.place].map(|at| PathKind::Relayed { via: id(at) });
        assert!(relays.contains(&kind), "{kind:?}");
    }
    let report = office.mesh.report().unwrap();
    assert_eq!(report.nat, NatMapping::Varies);
    wait_for("it is known why", || {
        let report = office.mesh.report().unwrap();
        report.peers[&id(home.place)].why == Some(NotDirect::OwnNatVaries)
    });
    assert!(report.peers[&id(home.place)].received_bytes > 0);
    let forwarded = [&open, &other].map(|it| it.mesh.report().unwrap().relay.packets);
    assert!(forwarded.iter().any(|packets| *packets > 0));
    megabyte_both_ways(&home.host, &office.host, IpAddr::V4(address(office.place)));
    for peer in all {
        block_on(peer.mesh.stop());
    }
    assert!(home.mesh.paths().is_empty());
}

#[test]
fn a_public_peer_answers_soon_after_it_is_known() {
    if !can_run(&["nft"]) {
        return;
    }
    let internet = Internet::new();
    let open = Peer::start(internet.host(1), 1, true);
    let (host, _router) = internet.host_behind(2, SYMMETRIC);
    let home = Peer::start(host, 2, false);
    let begun = introduce(&[&open, &home]);
    home.reach(&open);
    let after = begun.elapsed();
    eprintln!("direct: answered {after:?} after set_peers");
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[test]
fn a_node_that_gets_another_address_is_followed() {
    if !can_run(&["nft"]) {
        return;
    }
    let internet = Internet::new();
    let open = Peer::start(internet.host(1), 1, true);
    let roaming = Peer::start(internet.host(7), 7, false);
    introduce(&[&open, &roaming]);
    roaming.reach(&open);
    let mut socket = netlink::Socket::open_in(&roaming.host).unwrap();
    let link = socket.link("up0").unwrap().unwrap().index;
    let begun = Instant::now();
    let (old, new) = ("203.0.113.7/24", "203.0.113.77/24");
    socket.delete_address(link, old.parse().unwrap()).unwrap();
    socket.add_address(link, new.parse().unwrap()).unwrap();
    let to = SocketAddr::from(([203, 0, 113, 77], PORT));
    wait_for("the new address is used", || {
        open.kind(&roaming) == PathKind::Direct { to }
    });
    eprintln!("address change: followed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3));
    open.reach(&roaming);
    let endpoints = roaming.mesh.endpoints().borrow().clone();
    assert_eq!(endpoints, [to]);
}
