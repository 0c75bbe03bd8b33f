use super::*;

pub(in crate::core) fn eth(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
}

pub(in crate::core) fn ip4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    [&head[..], &source, &destination, payload].concat()
}

fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    let mut source = [0; 16];
    source[..2].copy_from_slice(&[0xfd, 0]);
    let mut destination = source;
    (source[15], destination[15]) = (1, 2);
    [&head[..], &source, &destination, payload].concat()
}

pub(in crate::core) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let head = [source, destination, length, 0]
        .map(u16::to_be_bytes)
        .concat();
    [&head[..], payload].concat()
}

pub(in crate::core) fn vxlan(inner: &[u8]) -> Vec<u8> {
    udp(
        50_000,
        4789,
        &[&[8, 0, 0, 0, 0, 1, 2, 0][..], inner].concat(),
    )
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn check(kind: LinkKind, frame: &[u8], expected: &[&str]) {
    let mut layers = Vec::new();
    read(kind, frame, &mut |layer| layers.push(format!("{layer:?}")));
    assert_eq!(layers, expected);
}

const OUTER: &str = "Ip { source: 10.0.0.1, destination: 10.0.0.2, depth: 0 }";
const INNER: &str = "Ip { source: 10.0.0.2, destination: 10.0.0.1, depth: 1 }";

#[test]
fn plain_headers_are_read() {
    let packet = ip4(A, B, 17, &udp(1, 2, b"x"));
    let udp_seen = "Udp { source: 1, destination: 2 }";
    check(
        LinkKind::Ethernet,
        &eth(0x0800, &packet),
        &[OUTER, udp_seen],
    );
    check(LinkKind::Ip, &packet, &[OUTER, udp_seen]);
    let tagged = [&[2; 12][..], &[0x81, 0, 0, 7, 8, 0], &packet].concat();
    check(LinkKind::Ethernet, &tagged, &[OUTER, udp_seen]);
    let tcp = ip4(A, B, 6, &[0, 80, 0, 81]);
    check(
        LinkKind::Ip,
        &tcp,
        &[OUTER, "Tcp { source: 80, destination: 81 }"],
    );
    let arp = [
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2][..],
        &A,
        &[0; 6],
        &B,
    ]
    .concat();
    let arp_seen = "Arp { source: 10.0.0.1, destination: 10.0.0.2 }";
    check(LinkKind::Ethernet, &eth(0x0806, &arp), &[arp_seen]);
}

#[test]
fn ipv6_extensions_are_passed_over() {
    let outer = "Ip { source: fd00::1, destination: fd00::2, depth: 0 }";
    let seen = "Udp { source: 1, destination: 2 }";
    let datagram = udp(1, 2, b"");
    check(LinkKind::Ip, &ip6(17, &datagram), &[outer, seen]);
    let hop_by_hop = [
        &[44, 0, 0, 0, 0, 0, 0, 0][..],
        &[17, 0, 0, 0, 0, 0, 0, 0],
        &datagram,
    ]
    .concat();
    check(LinkKind::Ip, &ip6(0, &hop_by_hop), &[outer, seen]);
    let later_fragment = [&[17, 0, 0, 8, 0, 0, 0, 0][..], &datagram].concat();
    check(LinkKind::Ip, &ip6(44, &later_fragment), &[outer]);
}

#[test]
fn inner_headers_of_each_encapsulation_are_read() {
    let inner = ip4(B, A, 6, &[0, 80, 0, 81]);
    let tcp = "Tcp { source: 80, destination: 81 }";
    let vxlan_seen = [
        "Udp { source: 50000, destination: 4789 }",
        "Vxlan { vni: 258 }",
    ];
    let frame = eth(0x0800, &ip4(A, B, 17, &vxlan(&eth(0x0800, &inner))));
    check(
        LinkKind::Ethernet,
        &frame,
        &[OUTER, vxlan_seen[0], vxlan_seen[1], INNER, tcp],
    );
    check(LinkKind::Ip, &ip4(A, B, 4, &inner), &[OUTER, INNER, tcp]);
    let gre = [&[0x20, 0, 8, 0, 1, 2, 3, 4][..], &inner].concat();
    check(LinkKind::Ip, &ip4(A, B, 47, &gre), &[OUTER, INNER, tcp]);
    let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &inner].concat();
    check(
        LinkKind::Ip,
        &ip4(A, B, 1, &unreachable),
        &[OUTER, INNER, tcp],
    );
    let echo = [&[8, 0, 0, 0, 0, 0, 0, 0][..], &inner].concat();
    check(LinkKind::Ip, &ip4(A, B, 1, &echo), &[OUTER]);
}

#[test]
fn messages_of_wireguard_are_told_by_their_shape() {
    let check = |kind: u8, length: usize, expected: Option<WireGuard>| {
        let mut payload = vec![7; length];
        payload[..4].copy_from_slice(&[kind, 0, 0, 0]);
        let mut seen = None;
        read(
            LinkKind::Ip,
            &ip4(A, B, 17, &udp(51_820, 40_000, &payload)),
            &mut |layer| {
                if let Layer::WireGuard(message) = layer {
                    seen = Some(message);
                }
            },
        );
        assert_eq!(seen, expected, "type {kind} of {length} bytes");
    };
    check(1, 148, Some(WireGuard::Initiation));
    check(1, 147, None);
    check(2, 92, Some(WireGuard::Response));
    check(3, 64, Some(WireGuard::Cookie));
    check(4, 32, Some(WireGuard::Data));
    check(4, 1456, Some(WireGuard::Data));
    check(4, 33, None);
    check(4, 16, None);
    check(5, 148, None);
}

#[test]
fn endless_nesting_ends() {
    let mut packet = ip4(A, B, 17, b"");
    for _ in 0..100 {
        packet = ip4(A, B, 4, &packet);
    }
    let mut layers = 0;
    read(LinkKind::Ip, &packet, &mut |_| layers += 1);
    assert_eq!(layers, usize::from(DEPTH_MAX) + 1);
}

#[test]
fn no_bytes_make_it_panic() {
    // Every prefix of a deep frame, and every byte of it changed in several ways.
    let deep = eth(
        0x0800,
        &ip4(
            A,
            B,
            17,
            &vxlan(&eth(0x86dd, &ip6(0, &[58, 0, 0, 0, 0, 0, 0, 0]))),
        ),
    );
    for kind in [LinkKind::Ethernet, LinkKind::Ip] {
        for end in 0..=deep.len() {
            read(kind, &deep[..end], &mut |_| ());
        }
        for at in 0..deep.len() {
            for byte in 0..=u8::MAX {
                let mut damaged = deep.clone();
                damaged[at] = byte;
                read(kind, &damaged, &mut |_| ());
                read(kind, &damaged[at..], &mut |_| ());
            }
        }
    }
}
