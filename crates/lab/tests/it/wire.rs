//! Links that are cut and healed, and what is seen on them.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bastide_lab::{Canary, Fault, Filters, Lab, Which};

use crate::support::{Root, SOON, THREE_SITES, can_run, run, sh};

fn reaches(lab: &Lab, from: &str, to: &str) -> bool {
    lab.output(from, sh(&format!("ping -c1 -W1 {to}")), b"")
        .unwrap()
        .status
        .success()
}

#[test]
fn a_cut_link_carries_nothing_and_its_ends_keep_all_they_have() {
    if !can_run(&["ping", "ip", "nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let look = |node| {
        run(
            &lab,
            node,
            "ip -4 -o address; ip route; ip -o link | cut -d'>' -f1",
        )
    };
    for (link, cut_off, other) in [
        ("cygnus/eth0", "cygnus", "boreas"),
        ("home-router/wan", "boreas", "cygnus"),
    ] {
        assert!(reaches(&lab, cut_off, "203.0.113.10"));
        let before = look(cut_off);
        lab.cut(link).unwrap();
        assert!(!reaches(&lab, cut_off, "203.0.113.10"), "{link} is cut");
        assert!(reaches(&lab, other, "203.0.113.10"), "only {link} is cut");
        assert_eq!(look(cut_off), before);
        lab.heal(link).unwrap();
        assert!(reaches(&lab, cut_off, "203.0.113.10"), "{link} is healed");
    }
    let error = lab.cut("cygnus/eth7").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no link is called `cygnus/eth7`: expected `node/interface`"
    );
}

fn socket(lab: &Lab, node: &str, address: &str) -> UdpSocket {
    let socket = lab
        .within(node, || UdpSocket::bind(address))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

#[test]
fn what_passed_is_counted_and_what_did_not_is_not() {
    if !can_run(&["nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let canary = Canary(std::array::from_fn(|at| {
        u8::try_from(at * 7 % 251).unwrap()
    }));
    let filters = Filters {
        canaries: vec![canary],
        inner: vec!["192.168.1.0/24".parse().unwrap()],
    };
    let pcap = root.0.join("wan.pcap");
    let lan = lab.capture("home-router", "lan", &filters).unwrap();
    let wan = lab
        .capture_to("home-router", "wan", &filters, &pcap)
        .unwrap();
    let elsewhere = lab.capture("edge-router", "wan", &filters).unwrap();
    let missing = lab.capture("atlas", "mesh0", &filters).unwrap_err();
    assert_eq!(missing.to_string(), "there is no interface `mesh0`");

    let atlas = socket(&lab, "atlas", "203.0.113.10:4789");
    let boreas = socket(&lab, "boreas", "192.168.1.10:5000");
    let to: SocketAddr = atlas.local_addr().unwrap();
    // The canary at an odd place of a large datagram; something with the shape of a WireGuard
    // initiation from atlas; a VXLAN frame to its port.
    let mut large = vec![1; 1200];
    large[777..777 + 32].copy_from_slice(&canary.0);
    boreas.send_to(&large, to).unwrap();
    let (_, mapped) = atlas.recv_from(&mut [0; 2000]).unwrap();
    let mut initiation = [5; 148];
    initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
    atlas.send_to(&initiation, mapped).unwrap();
    boreas.recv_from(&mut [0; 2000]).unwrap();
    let mut vxlan = [0; 60];
    vxlan[0] = 8;
    boreas.send_to(&vxlan, to).unwrap();
    atlas.recv_from(&mut [0; 2000]).unwrap();

    let seen = wan.wait_until(SOON, |counts| counts.vxlan == 1).unwrap();
    assert_eq!((seen.canary, seen.wireguard, seen.missed), (1, 1, 0));
    let [lan, wan, elsewhere] = [lan, wan, elsewhere].map(|capture| capture.finish().unwrap());
    assert_eq!((lan.canary, lan.wireguard, lan.vxlan), (1, 1, 1));
    assert!(
        3 <= lan.inner,
        "inside, addresses are the inner ones: {lan:?}"
    );
    assert_eq!(wan.inner, 0, "outside, they are translated: {wan:?}");
    assert_eq!(
        (elsewhere.canary, elsewhere.wireguard, elsewhere.vxlan),
        (0, 0, 0)
    );
    let file = std::fs::read(pcap).unwrap();
    assert!(
        file.len() as u64 == 24 + 16 * wan.frames + wan.bytes,
        "the file holds each frame"
    );
}

#[test]
fn waiting_for_what_does_not_come_ends() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let capture = lab.capture("atlas", "lo", &Filters::default()).unwrap();
    let limit = std::time::Duration::from_millis(20);
    let error = capture
        .wait_until(limit, |counts| counts.canary != 0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("it was not seen on the wire within 20 ms"),
        "{error}"
    );
}

#[test]
fn a_faulty_router_loses_what_it_is_told_to_one_way_and_says_nothing() {
    if !can_run(&["nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let atlas = socket(&lab, "atlas", "203.0.113.10:4000");
    let boreas = socket(&lab, "boreas", "192.168.1.10:4000");
    let to_atlas: SocketAddr = "203.0.113.10:4000".parse().unwrap();
    let mut bytes = [0; 2000];
    // Opens the router's NAT for what comes back.
    boreas.send_to(b"hello", to_atlas).unwrap();
    let (_, to_boreas) = atlas.recv_from(&mut bytes).unwrap();
    let fault = |which, to| lab.fault("home-router", &[Fault { which, to }]).unwrap();
    // Sends so many of this length to atlas; returns how many arrive when each has arrived or was
    // dropped.
    atlas
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let mut arrive = |count: u64, len: usize| {
        let deadline = Instant::now() + SOON;
        for _ in 0..count {
            boreas.send_to(&vec![0; len], to_atlas).unwrap();
        }
        let mut arrived = 0;
        while arrived + lab.dropped("home-router").unwrap() < count {
            while atlas.recv_from(&mut bytes).is_ok() {
                arrived += 1;
            }
            assert!(Instant::now() < deadline, "{arrived} of {count}");
        }
        arrived
    };
    fault(Which::LongerThan(1280), None);
    assert_eq!(arrive(3, 1252), 3);
    assert_eq!(arrive(3, 1253), 0);
    fault(Which::Percent(50), None);
    let arrived = arrive(200, 100);
    assert!((50..150).contains(&arrived), "{arrived} of 200");
    fault(Which::All, Some(to_atlas.ip()));
    assert_eq!(arrive(3, 100), 0);
    // The other way is whole.
    atlas.send_to(b"back", to_boreas).unwrap();
    assert_eq!(boreas.recv(&mut [0; 10]).unwrap(), 4);
    lab.fault("home-router", &[]).unwrap();
    assert_eq!(arrive(3, 1400), 3);
    assert!(lab.fault("nobody", &[]).is_err());
}
