//! Routers that swallow long datagrams without a word.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bastide_api::v1::PathKind;
use bastide_linux::namespace::{self, Namespace};
use bastide_linux::netlink::{self, Route, VethEnd};
use bastide_linux::{nft, sysctl};
use ipnet::{IpNet, Ipv4Net};
use std::os::fd::AsFd;

use crate::nodes::{INTERFACE, Internet, Peer, RESTRICTED, address, id, introduce};
use crate::rig::*;

/// A container's network behind the peer, and the container.
const CONTAINERS: &str = "10.98.2.0/24";
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 98, 2, 2);

/// Lets a router drop what is longer than this, as IP packets, both ways.
fn swallow(router: &Namespace, longest: usize) {
    let rules = format!(
        "table inet hole
        delete table inet hole
        table inet hole {{
            chain forward {{
                type filter hook forward priority -10;
                meta length > {longest} counter drop
            }}
        }}"
    );
    nft::apply_in(router, &rules).unwrap();
}

/// How many packets it has dropped.
fn swallowed(router: &Namespace) -> u64 {
    let text = namespace::within(&[router], || nft::list("inet hole").unwrap().unwrap()).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets").unwrap();
    words[at + 1].parse().unwrap()
}

/// Sends a datagram that is so long as an IP packet, past the mesh; tells whether it arrived.
fn arrives(from: &Namespace, to: &Namespace, address: IpAddr, length: usize) -> bool {
    let server = namespace::within(&[to], || UdpSocket::bind((address, 0)).unwrap()).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let to = server.local_addr().unwrap();
    let (any, headers) = match address {
        IpAddr::V4(_) => ("0.0.0.0:0", 28),
        IpAddr::V6(_) => ("[::]:0", 48),
    };
    let client = namespace::within(&[from], || UdpSocket::bind(any).unwrap()).unwrap();
    client.send_to(&vec![0; length - headers], to).unwrap();
    server.recv(&mut [0; 2000]).is_ok()
}

fn run(host: &Namespace, words: &[&str]) {
    let status = namespace::within(&[host], || {
        Command::new(words[0]).args(&words[1..]).status()
    });
    assert!(status.unwrap().unwrap().success(), "{words:?}");
}

/// Puts each datagram on the wire alone: a train would look like one long packet to the router's
/// rule, because nothing cuts it up between these hosts.
fn no_trains(host: &Namespace) {
    run(host, &["ip", "link", "set", "up0", "gso_max_segs", "1"]);
}

/// Gives the routes to a peer, and to what is behind it, the MTU of its path, as the agent does.
fn follow(peer: &Peer, other: u8, behind: &[Ipv4Net]) {
    let mtu = peer.mesh.paths()[&id(other)].mtu;
    let mut socket = netlink::Socket::open_in(&peer.host).unwrap();
    let link = socket.link(INTERFACE).unwrap().unwrap().index;
    let own: Ipv4Net = address(other).into();
    for to in std::iter::once(&own).chain(behind) {
        let mut route = Route::on_link(IpNet::V4(*to), link);
        route.mtu = mtu.map(u32::from);
        socket.replace_route(&route).unwrap();
    }
}

/// Follows two peers' paths until it is dropped.
struct Following {
    is_over: Arc<AtomicBool>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// A container behind a peer: its own namespace, routed.
fn container(peer: &Peer) -> Namespace {
    let (inside, ()) = Namespace::new_network(|| ()).unwrap();
    let (near, mut far) = (VethEnd::new("ct0"), VethEnd::new("eth0"));
    far.network = Some(inside.as_fd());
    let mut socket = netlink::Socket::open_in(&peer.host).unwrap();
    socket.add_veth(&near, &far).unwrap();
    set_up(&peer.host, "ct0", &["10.98.2.1/24"]);
    set_up(&inside, "eth0", &["10.98.2.2/24"]);
    // As Bastide's bridge: the MTU of the mesh.
    run(&peer.host, &["ip", "link", "set", "ct0", "mtu", "1420"]);
    run(&inside, &["ip", "link", "set", "eth0", "mtu", "1420"]);
    let mut socket = netlink::Socket::open_in(&inside).unwrap();
    let everywhere = "0.0.0.0/0".parse().unwrap();
    let gateway = Ipv4Addr::new(10, 98, 2, 1).into();
    socket
        .replace_route(&Route::via(everywhere, gateway))
        .unwrap();
    namespace::within(&[&peer.host], || {
        sysctl::write("net/ipv4/ip_forward", "1").unwrap();
    })
    .unwrap();
    inside
}

#[test]
fn tcp_goes_on_over_a_router_that_swallows_long_datagrams() {
    if !can_run(&["nft", "ip"]) {
        return;
    }
    let internet = Internet::new();
    let open = Peer::start(internet.host(1), 1, true);
    let (host, router) = internet.host_behind(2, RESTRICTED);
    let home = Peer::start(host, 2, false);
    no_trains(&open.host);
    no_trains(&home.host);
    let containers: Ipv4Net = CONTAINERS.parse().unwrap();
    let inside = container(&home);
    let mut behind_home = home.spec();
    behind_home.allowed.push(containers);
    introduce(&[&open, &home]);
    open.mesh.set_peers(vec![behind_home]);
    home.reach(&open);
    let (at_open, at_home) = (IpAddr::V4(address(1)), IpAddr::V4(address(2)));
    let outside: IpAddr = Ipv4Addr::new(203, 0, 113, 1).into();

    for (longest, carried) in [(1492, 1420), (1400, 1328), (1280, 1216), (1500, 1420)] {
        swallow(&router, longest);
        let before = swallowed(&router);
        // The rule does what it is there for, and nothing else.
        assert!(arrives(&home.host, &open.host, outside, longest));
        if longest < 1500 {
            assert!(!arrives(&home.host, &open.host, outside, longest + 1));
            assert!(swallowed(&router) > before);
        }
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let is_over = Arc::new(AtomicBool::new(false));
            let following = Following {
                is_over: Arc::clone(&is_over),
            };
            let (open, home) = (&open, &home);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    follow(open, 2, &[containers]);
                    follow(home, 1, &[]);
                    std::thread::sleep(Duration::from_millis(250));
                }
            });
            // Begun while nobody knows yet what the router does.
            megabyte_both_ways(&home.host, &open.host, at_open);
            eprintln!(
                "{longest}: a megabyte both ways after {:?}",
                begun.elapsed()
            );
            if longest == 1500 {
                // What was too long is tried again each minute: not waited for here.
                drop(following);
                return;
            }
            wait_for("both ends know what gets through", || {
                open.reach(home);
                open.mesh.paths()[&id(2)].mtu == Some(carried)
                    && home.mesh.paths()[&id(1)].mtu == Some(carried)
            });
            megabyte_both_ways(&open.host, &home.host, at_home);
            megabyte_both_ways(&inside, &open.host, at_open);
            megabyte_both_ways(&open.host, &inside, CONTAINER.into());
            // Everything goes by the path that was there from the beginning.
            assert!(matches!(home.kind(open), PathKind::Direct { .. }));
            let before = swallowed(&router);
            megabyte_both_ways(&inside, &open.host, at_open);
            let questions = swallowed(&router) - before;
            assert!(questions <= 30, "{questions} datagrams were too long");
            drop(following);
        });
    }
}

/// A host or router that needs no time to see whether an address of IPv6 is its alone.
fn host_v6() -> Namespace {
    let settings = [
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ];
    let set = || settings.map(|(name, value)| sysctl::write(name, value).unwrap());
    Namespace::new_network(set).unwrap().0
}

#[test]
fn a_line_of_1492_bytes_is_in_the_way_over_ipv6_and_tcp_goes_on() {
    if !can_run(&["nft", "ip"]) {
        return;
    }
    let router = host_v6();
    let mut hosts = Vec::new();
    for place in [1, 2] {
        let host = host_v6();
        let cable = format!("to{place}");
        let (near, mut far) = (VethEnd::new(&cable), VethEnd::new("up0"));
        far.network = Some(host.as_fd());
        let mut socket = netlink::Socket::open_in(&router).unwrap();
        socket.add_veth(&near, &far).unwrap();
        set_up(&router, &cable, &[&format!("2001:db8:{place}::1/64")]);
        set_up(&host, "up0", &[&format!("2001:db8:{place}::2/64")]);
        let mut socket = netlink::Socket::open_in(&host).unwrap();
        let gateway = format!("2001:db8:{place}::1").parse().unwrap();
        let everywhere = "::/0".parse().unwrap();
        socket
            .replace_route(&Route::via(everywhere, gateway))
            .unwrap();
        no_trains(&host);
        hosts.push(host);
    }
    swallow(&router, 1492);
    let outside = "2001:db8:2::2".parse().unwrap();
    assert!(arrives(&hosts[0], &hosts[1], outside, 1492));
    assert!(!arrives(&hosts[0], &hosts[1], outside, 1493));
    let two = Peer::start(hosts.pop().unwrap(), 2, false);
    let one = Peer::start(hosts.pop().unwrap(), 1, false);
    for peer in [&one, &two] {
        wait_for("an address", || !peer.mesh.endpoints().borrow().is_empty());
    }
    introduce(&[&one, &two]);
    one.reach(&two);
    wait_for("both ends know what gets through", || {
        one.reach(&two);
        one.mesh.paths()[&id(2)].mtu == Some(1408) && two.mesh.paths()[&id(1)].mtu == Some(1408)
    });
    follow(&one, 2, &[]);
    follow(&two, 1, &[]);
    megabyte_both_ways(&one.host, &two.host, IpAddr::V4(address(2)));
    assert!(swallowed(&router) > 0);
}
