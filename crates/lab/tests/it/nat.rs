//! The NAT kinds, probed as RFC 4787 names their behaviour: mapping, filtering, ports kept.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bastide_lab::Lab;

use crate::support::{Root, SOON, can_run};

fn file(nat: &str) -> String {
    format!(
        "lab: nat-{nat}\n\
         nodes:\n\
         \x20 internet: {{ kind: switch }}\n\
         \x20 server:\n\
         \x20   kind: host\n\
         \x20   interfaces:\n\
         \x20     eth0: {{ link: internet, address: 203.0.113.10/24, more_addresses: [203.0.113.11/24] }}\n\
         \x20 gate:\n\
         \x20   kind: router\n\
         \x20   nat: {nat}\n\
         \x20   wan: wan\n\
         \x20   interfaces:\n\
         \x20     wan: {{ link: internet, address: 203.0.113.20/24 }}\n\
         \x20     lan: {{ link: lan, address: 192.168.1.1/24 }}\n\
         \x20 lan: {{ kind: switch }}\n\
         \x20 client:\n\
         \x20   kind: host\n\
         \x20   interfaces:\n\
         \x20     eth0: {{ link: lan, address: 192.168.1.10/24 }}\n\
         \x20   routes: {{ default: 192.168.1.1 }}\n"
    )
}

fn socket(lab: &Lab, node: &str, address: &str) -> UdpSocket {
    let socket = lab
        .within(node, || UdpSocket::bind(address))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn send(from: &UdpSocket, to: SocketAddr, text: &str) {
    from.send_to(text.as_bytes(), to).unwrap();
}

fn receive(at: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 64];
    let (length, from) = at.recv_from(&mut buffer).unwrap();
    (
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        from,
    )
}

fn receive_nothing(at: &UdpSocket) {
    at.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(
        at.recv_from(&mut [0; 64]).is_err(),
        "a datagram arrived that was filtered"
    );
    at.set_read_timeout(Some(SOON)).unwrap();
}

/// Sends from a fresh client socket to two ports of one address and one of another, and returns
/// the ports from which the three saw it.
fn mapping(lab: &Lab) -> [u16; 3] {
    let client = socket(lab, "client", "192.168.1.10:40000");
    [
        "203.0.113.10:1000",
        "203.0.113.10:1001",
        "203.0.113.11:1000",
    ]
    .map(|address| {
        let server = socket(lab, "server", address);
        send(&client, address.parse().unwrap(), "map");
        let (_, from) = receive(&server);
        assert_eq!(from.ip().to_string(), "203.0.113.20");
        from.port()
    })
}

/// Only the very address and port that was sent to may answer.
fn filtering(lab: &Lab) {
    let client = socket(lab, "client", "192.168.1.10:41000");
    let asked = socket(lab, "server", "203.0.113.10:2000");
    let other_port = socket(lab, "server", "203.0.113.10:2001");
    let other_address = socket(lab, "server", "203.0.113.11:2000");
    send(&client, asked.local_addr().unwrap(), "ask");
    let (_, mapped) = receive(&asked);
    send(&other_port, mapped, "other port");
    send(&other_address, mapped, "other address");
    // The wires keep the order: when this one has arrived, the others would have.
    send(&asked, mapped, "answer");
    assert_eq!(receive(&client).0, "answer");
    receive_nothing(&client);
}

/// A packet that came too early from outside does not cost the client its port.
fn simultaneous_open(lab: &Lab) -> bool {
    let client = socket(lab, "client", "192.168.1.10:42000");
    let server = socket(lab, "server", "203.0.113.10:3000");
    send(&server, "203.0.113.20:42000".parse().unwrap(), "too early");
    send(&client, server.local_addr().unwrap(), "open");
    receive(&server).1.port() == 42_000
}

#[test]
fn a_port_restricted_nat_maps_by_source_alone_and_keeps_the_port() {
    if !can_run(&["nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(&file("port-restricted"));
    assert_eq!(mapping(&lab), [40_000; 3]);
    filtering(&lab);
    assert!(simultaneous_open(&lab));
    lab.down().unwrap();
}

#[test]
fn a_symmetric_nat_gives_each_destination_another_port() {
    if !can_run(&["nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(&file("symmetric"));
    let [a, b, c] = mapping(&lab);
    assert!(a != b && b != c && a != c, "{a} {b} {c}");
    filtering(&lab);
    lab.down().unwrap();
}

#[test]
fn nothing_outside_reaches_in_by_naming_an_inner_address() {
    if !can_run(&["nft"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(&file("port-restricted"));
    crate::support::run(
        &lab,
        "server",
        "ip route add 192.168.1.0/24 via 203.0.113.20",
    );
    let client = socket(&lab, "client", "192.168.1.10:43000");
    let server = socket(&lab, "server", "203.0.113.10:4000");
    send(&server, client.local_addr().unwrap(), "walk in");
    send(&client, server.local_addr().unwrap(), "ask");
    let (_, mapped) = receive(&server);
    send(&server, mapped, "answer");
    assert_eq!(receive(&client).0, "answer");
    receive_nothing(&client);
}
