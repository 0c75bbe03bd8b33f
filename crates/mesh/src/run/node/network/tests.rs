use bastide_linux::netlink::LinkIndex;

use super::*;

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index: LinkIndex(index),
        name: name.to_owned(),
        kind,
        is_up: true,
        is_running: true,
        is_loopback: name == "lo",
        is_point_to_point: false,
        mtu: 1500,
        queue_length: 1000,
        mac: Vec::new(),
        master: None,
    }
}

fn address(link: u32, net: &str) -> Address {
    Address {
        link: LinkIndex(link),
        net: net.parse().unwrap(),
        is_global: true,
        is_usable: true,
    }
}

#[test]
fn only_addresses_of_underlays_are_offered() {
    let mut links = vec![
        link(1, "lo", LinkKind::Hardware),
        link(2, "eth0", LinkKind::Hardware),
        link(3, "docker0", LinkKind::Bridge),
        link(4, "br-0123456789ab", LinkKind::Bridge),
        link(5, "br0", LinkKind::Bridge),
        link(6, "wg0", LinkKind::WireGuard),
        link(7, "tailscale0", LinkKind::Tun),
        link(8, "bst0", LinkKind::Other("dummy".to_owned())),
        link(9, "vethabc", LinkKind::Veth),
        link(10, "eth1", LinkKind::Hardware),
        link(11, "eth9", LinkKind::Veth),
    ];
    links[8].master = Some(LinkIndex(3));
    links[9].is_up = false;
    let mut addresses: Vec<_> = (1..=11)
        .map(|at| address(at, &format!("192.0.2.{at}/24")))
        .collect();
    addresses.push(address(2, "2001:db8::1/64"));
    let mut tentative = address(2, "2001:db8::2/64");
    tentative.is_usable = false;
    let mut local = address(2, "fe80::1/64");
    local.is_global = false;
    addresses.extend([tentative, local]);
    let own: Vec<String> = own_addresses(&links, &addresses, "bst0")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(own, ["192.0.2.2", "192.0.2.5", "192.0.2.11", "2001:db8::1"]);
}
