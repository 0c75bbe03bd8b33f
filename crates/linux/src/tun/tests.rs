use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::namespace::{self, Kind, Namespace};
use crate::netlink;
use crate::test_support::is_root;

/// Runs `test` in a network namespace of its own.
fn in_namespace(test: impl FnOnce() + Send) {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    assert_eq!(network.kind(), Kind::Network);
    namespace::within(&[&network], test).unwrap();
}

fn set_up(tun: &Tun) {
    let mut socket = netlink::Socket::open().unwrap();
    let link = socket
        .link(tun.name())
        .unwrap()
        .expect("the device was just made");
    socket.set_up(link.index).unwrap();
    let address = Ipv4Addr::new(10, 99, 0, 1);
    socket
        .add_address(
            link.index,
            ipnet::IpNet::new(IpAddr::V4(address), 24).unwrap(),
        )
        .unwrap();
}

/// Reads packets until one of IPv4 and UDP comes, and returns it.
fn read_udp(tun: &Tun, slots: &mut Slots) -> Vec<u8> {
    loop {
        let mut fds = [PollFd::new(tun, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        assert_eq!(
            poll(&mut fds, Some(&limit)).unwrap(),
            1,
            "a packet comes within 5 s"
        );
        let mut packets = Vec::new();
        tun.read(slots, 0, &mut packets).unwrap();
        for packet in packets {
            let bytes = slots.bytes(packet.slot, packet.range);
            if bytes[0] >> 4 == 4 && bytes[9] == 17 {
                return bytes.to_vec();
            }
        }
    }
}

#[test]
fn packets_go_out_of_the_device_and_into_it() {
    in_namespace(|| {
        let tun = Tun::open("bstest%d").unwrap();
        assert_eq!(tun.name(), "bstest0");
        assert!(!tun.is_up().unwrap());
        tun.set_mtu(1380).unwrap();
        assert_eq!(tun.mtu().unwrap(), 1380);
        set_up(&tun);
        assert!(tun.is_up().unwrap());

        let socket = UdpSocket::bind("10.99.0.1:700").unwrap();
        socket.send_to(b"out", "10.99.0.2:800").unwrap();
        let mut slots = Slots::new(8, 16, 1500, 32);
        let mut packet = read_udp(&tun, &mut slots);
        assert_eq!(&packet[28..], b"out");

        // The answer: addresses and ports the other way round. UDP's checksum may be zero.
        let (source, destination) = (packet[12..16].to_vec(), packet[16..20].to_vec());
        packet[12..16].copy_from_slice(&destination);
        packet[16..20].copy_from_slice(&source);
        packet[20..24].copy_from_slice(&[800u16.to_be_bytes(), 700u16.to_be_bytes()].concat());
        packet[26..28].fill(0);
        packet[28..].copy_from_slice(b"in!");
        tun.write(&packet).unwrap();
        let mut answer = [0; 10];
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from.port()), (&b"in!"[..], 800));
    });
}

#[test]
fn a_second_holder_is_refused() {
    in_namespace(|| {
        let first = Tun::open("bstest0").unwrap();
        let second = Tun::open("bstest0").unwrap_err();
        assert_eq!(second.to_string(), "could not attach TUN device `bstest0`");
        drop(first);
        // A process that another test forks holds a copy of the descriptor until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while Tun::open("bstest0").is_err() {
            let is_late = deadline < std::time::Instant::now();
            assert!(!is_late, "and the name is free again");
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_kept_device_outlives_its_holder_with_addresses_and_routes_and_is_taken_up_again() {
    in_namespace(|| {
        let passing = Tun::open("bstest1").unwrap();
        drop(passing);
        let tun = Tun::open("bstest0").unwrap();
        tun.keep().unwrap();
        tun.set_mtu(1380).unwrap();
        set_up(&tun);
        let mut socket = netlink::Socket::open().unwrap();
        let link = socket.link("bstest0").unwrap().unwrap().index;
        let to = "10.98.0.0/16".parse().unwrap();
        socket
            .replace_route(&netlink::Route::on_link(to, link))
            .unwrap();
        let state = |socket: &mut netlink::Socket| {
            let addresses = socket.addresses().unwrap();
            let addresses = addresses.into_iter().filter(|one| one.link == link);
            (addresses.count(), socket.routes().unwrap())
        };
        let before = state(&mut socket);
        assert!(before.1.iter().any(|route| route.to == to));
        drop(tun);

        let until_gone = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while socket.link("bstest1").unwrap().is_some() {
            // A process that another test forks holds a copy of the descriptor until it executes.
            assert!(
                std::time::Instant::now() < until_gone,
                "not kept, not there"
            );
            std::thread::yield_now();
        }
        assert_eq!(state(&mut socket), before);
        // Nobody reads it, and nothing goes another way: it is dropped.
        let sender = UdpSocket::bind("10.99.0.1:0").unwrap();
        sender.send_to(b"lost", "10.98.0.2:800").unwrap();

        let again = loop {
            match Tun::open("bstest0") {
                Err(error) if error.is_busy() => std::thread::yield_now(),
                result => break result.unwrap(),
            }
        };
        assert_eq!(socket.link("bstest0").unwrap().unwrap().index, link);
        assert_eq!((state(&mut socket), again.mtu().unwrap()), (before, 1380));
        let mut slots = Slots::new(8, 16, 1500, 32);
        sender.send_to(b"heard", "10.98.0.2:800").unwrap();
        assert_eq!(&read_udp(&again, &mut slots)[28..], b"heard");
        socket.delete_link("bstest0").unwrap();
        assert!(socket.link("bstest0").unwrap().is_none());
    });
}

#[test]
fn the_queue_is_long_enough_for_a_gigabit() {
    in_namespace(|| {
        let tun = Tun::open("bstest0").unwrap();
        let mut socket = netlink::Socket::open().unwrap();
        let link = socket.link(tun.name()).unwrap().unwrap();
        assert_eq!(link.queue_length, 2000);
    });
}

#[test]
fn a_device_is_followed_into_another_namespace_and_to_another_name() {
    in_namespace(|| {
        let mut tun = Tun::open("bstest0").unwrap();
        let (elsewhere, ()) = Namespace::new_network(|| ()).unwrap();
        let moved = std::process::Command::new("ip")
            .args(["link", "set", "bstest0", "name", "bsmoved", "netns"])
            .arg(format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                elsewhere.as_fd().as_raw_fd()
            ))
            .status();
        if !moved.is_ok_and(|status| status.success()) {
            skip("iproute2");
            return;
        }
        assert!(tun.is_up().is_err());
        let watch = tun.follow().unwrap();
        assert_eq!((tun.name(), tun.is_up().unwrap()), ("bsmoved", false));
        let mut socket = netlink::Socket::open_in(&elsewhere).unwrap();
        let link = socket.link("bsmoved").unwrap().unwrap();
        socket.set_up(link.index).unwrap();
        assert!(watch.take());
        assert!(tun.is_up().unwrap());
    });
}

#[test]
fn a_deleted_interface_is_told_by_poll_and_read() {
    in_namespace(|| {
        let tun = Tun::open("bstest0").unwrap();
        let watch = LinkWatch::open().unwrap();
        assert!(!watch.take());
        let mut socket = netlink::Socket::open().unwrap();
        socket.delete_link(tun.name()).unwrap();
        assert!(watch.take());
        let mut fds = [PollFd::new(&tun, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(fds[0].revents().contains(PollFlags::ERR));
        let mut slots = Slots::new(1, 0, 1500, 0);
        let error = tun.read(&mut slots, 0, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    });
}

#[test]
fn a_name_that_no_interface_can_have_is_refused() {
    for name in ["", "sixteen-letters-", "a/b", "a b", ".", "..", "a\0b"] {
        let error = Tun::open(name).unwrap_err();
        assert!(matches!(error, TunError::Name { .. }), "{name}");
    }
}

fn skip(what: &str) {
    eprintln!("skipped: {what} is missing");
}
