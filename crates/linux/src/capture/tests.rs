use std::net::UdpSocket;

use super::*;
use crate::netlink::Socket;
use crate::test_support::is_root;

#[test]
fn a_datagram_is_seen_and_a_missing_interface_is_named() {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    let mut socket = Socket::open_in(&network).unwrap();
    let lo = socket.link("lo").unwrap().unwrap().index;
    socket.set_up(lo).unwrap();
    let error = Tap::open_in(&network, "eth9").unwrap_err();
    assert_eq!(error.to_string(), "there is no interface `eth9`");
    let mut tap = Tap::open_in(&network, "lo").unwrap();
    assert_eq!(tap.framing(), Framing::Ethernet);
    let mut buffer = [0; 2048];
    assert_eq!(tap.receive(&mut buffer).unwrap(), None);
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .send_to(b"canary", socket.local_addr().unwrap())
            .unwrap();
    };
    namespace::within(&[&network], send).unwrap();
    let frame = tap.receive(&mut buffer).unwrap().unwrap();
    assert_eq!(frame.length, 14 + 20 + 8 + 6);
    assert!(buffer[..frame.stored].ends_with(b"canary"));
    assert_eq!(tap.dropped().unwrap(), 0);
}
