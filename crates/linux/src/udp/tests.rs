use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::batch::Outgoing;

fn wait_readable(socket: &UdpSocket) {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut fds, Some(&limit)).unwrap(),
        1,
        "a datagram comes within 5 s"
    );
}

/// Receives until so many datagrams have come.
fn receive(socket: &UdpSocket, slots: &mut Slots, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    while all.len() < count {
        wait_readable(socket);
        batch.clear();
        socket.receive(slots, BATCH_MAX, &mut batch).unwrap();
        for one in &batch {
            all.push((slots.bytes(one.slot, one.range.clone()).to_vec(), one.from));
        }
    }
    all
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[test]
fn batches_arrive_in_order_with_their_sender() {
    let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
    let mut slots = Slots::new(BATCH_MAX, 16, 2000, 32);
    let outgoing: Vec<_> = (0..BATCH_MAX)
        .map(|slot| {
            slots.slot(slot)[16..16 + 100 + slot].fill(u8::try_from(slot).unwrap());
            Outgoing {
                slot,
                range: 16..16 + 100 + slot,
                to: loopback(b.port()),
                local: None,
            }
        })
        .collect();
    let report = a.send(&slots, &outgoing);
    assert_eq!((report.sent, report.refused), (BATCH_MAX, 0));
    let mut into = Slots::new(BATCH_MAX, 16, 2000, 32);
    for (index, (bytes, from)) in receive(&b, &mut into, BATCH_MAX).into_iter().enumerate() {
        assert_eq!(bytes, vec![u8::try_from(index).unwrap(); 100 + index]);
        assert_eq!(from, loopback(a.port()), "IPv4 is told as such");
    }
}

#[test]
fn one_datagram_that_is_refused_does_not_hold_the_others() {
    let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
    let mut slots = Slots::new(4, 0, 65_535, 0);
    let to = loopback(b.port());
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let outgoing =
        [(0, 10, to), (1, 65_530, to), (2, 10, nowhere), (3, 11, to)].map(|(slot, len, to)| {
            Outgoing {
                slot,
                range: 0..len,
                to,
                local: None,
            }
        });
    let report = a.send(&slots, &outgoing);
    assert_eq!((report.sent, report.refused), (2, 2));
    let lens: Vec<_> = receive(&b, &mut slots, 2)
        .iter()
        .map(|(bytes, _)| bytes.len())
        .collect();
    assert_eq!(lens, [10, 11]);
}

#[test]
fn a_datagram_longer_than_its_slot_is_dropped_and_the_next_one_comes() {
    let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
    let mut small = Slots::new(4, 16, 48, 0);
    a.send_to(loopback(b.port()), None, &[1; 5000]).unwrap();
    a.send_to(loopback(b.port()), None, &[2; 48]).unwrap();
    assert_eq!(receive(&b, &mut small, 1)[0].0, [2; 48]);
}

#[test]
fn nothing_to_receive_is_no_error_and_no_wait() {
    let socket = UdpSocket::bind(0).unwrap();
    let mut slots = Slots::new(4, 0, 100, 0);
    let mut received = Vec::new();
    let begun = Instant::now();
    socket
        .receive(&mut slots, BATCH_MAX, &mut received)
        .unwrap();
    assert!(received.is_empty() && begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn ipv6_is_spoken_on_the_same_port() {
    let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, b.port()));
    if a.send_to(to, None, b"six").is_err() {
        skip("IPv6 on the loopback device");
        return;
    }
    let mut slots = Slots::new(4, 0, 100, 0);
    let (bytes, from) = receive(&b, &mut slots, 1).remove(0);
    assert_eq!(bytes, b"six");
    assert_eq!(from, SocketAddr::from((Ipv6Addr::LOCALHOST, a.port())));
}

#[test]
fn a_port_that_is_taken_is_refused_by_name() {
    let first = UdpSocket::bind(0).unwrap();
    let error = UdpSocket::bind(first.port()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("could not bind UDP port {}", first.port())
    );
}

#[test]
fn a_socket_of_ipv4_alone_refuses_ipv6_and_works() {
    let (a, b) = (
        UdpSocket::bind_v4(0).unwrap(),
        UdpSocket::bind_v4(0).unwrap(),
    );
    let mut slots = Slots::new(4, 0, 100, 0);
    let outgoing = [
        Outgoing {
            slot: 0,
            range: 0..3,
            to: SocketAddr::from((Ipv6Addr::LOCALHOST, b.port())),
            local: None,
        },
        Outgoing {
            slot: 1,
            range: 0..4,
            to: loopback(b.port()),
            local: None,
        },
    ];
    let report = a.send(&slots, &outgoing);
    assert_eq!((report.sent, report.refused), (1, 1));
    let (bytes, from) = receive(&b, &mut slots, 1).remove(0);
    assert_eq!((bytes.len(), from), (4, loopback(a.port())));
    assert!(a.as_fd().try_clone_to_owned().is_ok());
}

fn skip(what: &str) {
    eprintln!("skipped: {what} is missing");
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for bind in [UdpSocket::bind, UdpSocket::bind_v4] {
        let (a, b) = (bind(0).unwrap(), bind(0).unwrap());
        let mut slots = Slots::new(4, 0, 100, 0);
        let asked = IpAddr::from([127, 0, 0, 77]);
        a.send_to(SocketAddr::new(asked, b.port()), None, b"who?")
            .unwrap();
        wait_readable(&b);
        let mut received = Vec::new();
        b.receive(&mut slots, BATCH_MAX, &mut received).unwrap();
        assert_eq!(received[0].local, Some(asked));

        b.send_to(received[0].from, received[0].local, b"I")
            .unwrap();
        let outgoing = Outgoing {
            slot: 0,
            range: 0..4,
            to: received[0].from,
            local: received[0].local,
        };
        assert_eq!(b.send(&slots, &[outgoing]).sent, 1);
        for (_, from) in receive(&a, &mut slots, 2) {
            assert_eq!(from, SocketAddr::new(asked, b.port()));
        }
    }
}

#[test]
fn an_address_that_is_not_ours_any_more_is_left_out() {
    let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
    let mut slots = Slots::new(4, 0, 100, 0);
    let lost = Some(IpAddr::from([203, 0, 113, 1]));
    a.send_to(loopback(b.port()), lost, b"one").unwrap();
    let outgoing = [0, 1].map(|slot| Outgoing {
        slot,
        range: 0..3,
        to: loopback(b.port()),
        local: lost,
    });
    assert_eq!(a.send(&slots, &outgoing).sent, 2);
    for (_, from) in receive(&b, &mut slots, 3) {
        assert_eq!(from, loopback(a.port()));
    }
}

#[test]
fn trains_arrive_as_the_datagrams_that_they_were_made_of() {
    for offload in [Offload::Auto, Offload::Off] {
        let (a, b) = (UdpSocket::bind(0).unwrap(), UdpSocket::bind(0).unwrap());
        a.set_offload(offload);
        b.set_offload(offload);
        let mut slots = Slots::new(BATCH_MAX, 16, 2000, 32);
        // Runs of one size, a shorter one that ends a run, and a longer one that begins another.
        let lens: Vec<_> = (0..BATCH_MAX)
            .map(|at| if at % 10 == 9 { 700 } else { 1200 + at / 20 })
            .collect();
        let outgoing: Vec<_> = lens
            .iter()
            .enumerate()
            .map(|(slot, len)| {
                slots.slot(slot)[16..16 + len].fill(u8::try_from(slot).unwrap());
                Outgoing {
                    slot,
                    range: 16..16 + len,
                    to: loopback(b.port()),
                    local: None,
                }
            })
            .collect();
        assert_eq!(a.send(&slots, &outgoing).sent, BATCH_MAX);
        let mut into = Slots::new(8, 16, 65_535, 32);
        let got = receive(&b, &mut into, BATCH_MAX);
        for (index, ((bytes, _), len)) in got.into_iter().zip(lens).enumerate() {
            assert_eq!(bytes, vec![u8::try_from(index).unwrap(); len]);
        }
    }
}
