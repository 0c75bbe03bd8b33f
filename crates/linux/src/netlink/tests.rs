use super::*;
use crate::test_support::is_root;

fn inside(work: impl FnOnce(&mut Socket) + Send) {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    work(&mut Socket::open_in(&network).unwrap());
}

#[test]
fn a_pair_is_made_straight_into_two_namespaces() {
    inside(|near| {
        let (other, ()) = Namespace::new_network(|| ()).unwrap();
        let far_end = VethEnd {
            network: Some(other.as_fd()),
            index: Some(LinkIndex(77)),
            mtu: Some(1400),
            ..VethEnd::new("eth0")
        };
        let near_end = VethEnd {
            index: Some(LinkIndex(9)),
            ..VethEnd::new("eth0")
        };
        near.add_veth(&near_end, &far_end).unwrap();
        let mut far = Socket::open_in(&other).unwrap();
        far.set_up(LinkIndex(77)).unwrap();
        let link = far.link("eth0").unwrap().unwrap();
        assert_eq!(
            (link.index, link.mtu, link.is_up),
            (LinkIndex(77), 1400, true)
        );
        assert!(link.is_running && near.link("eth0").unwrap().unwrap().is_running);
        assert_eq!(link.kind, LinkKind::Veth);
        near.delete_link("eth0").unwrap();
        assert_eq!(far.link("eth0").unwrap(), None);
        near.delete_link("eth0").unwrap();
    });
}

#[test]
fn a_port_is_put_into_its_bridge_as_it_is_made() {
    inside(|socket| {
        let bridge = LinkIndex(10);
        let port = VethEnd {
            master: Some(bridge),
            ..VethEnd::new("p1")
        };
        let requests = [
            Request::add_bridge("lan", Some(bridge)),
            Request::add_veth(&port, &VethEnd::new("far")),
        ];
        socket.apply_all(&requests).unwrap();
        let port = socket.link("p1").unwrap().unwrap();
        assert_eq!(port.master, Some(bridge));
        let far = socket.link("far").unwrap().unwrap().index;
        socket.set_up(far).unwrap();
        socket.apply(Request::set_master(port.index, None)).unwrap();
        assert_eq!(socket.link("p1").unwrap().unwrap().master, None);
        assert!(
            socket.link("far").unwrap().unwrap().is_running,
            "no carrier is lost"
        );
    });
}

#[test]
fn a_route_keeps_its_mtu_and_source() {
    inside(|socket| {
        socket
            .add_veth(&VethEnd::new("a"), &VethEnd::new("b"))
            .unwrap();
        let dev = socket.link("a").unwrap().unwrap().index;
        let far = socket.link("b").unwrap().unwrap().index;
        socket.set_up(far).unwrap();
        let subnet: ipnet::IpNet = "10.1.0.1/24".parse().unwrap();
        socket.add_address(dev, subnet).unwrap();
        socket.add_address(dev, subnet).unwrap();
        assert!(
            socket
                .addresses()
                .unwrap()
                .iter()
                .any(|a| a.net == subnet && a.is_global)
        );
        let route = Route {
            to: "10.2.0.0/16".parse().unwrap(),
            dev: Some(dev),
            via: Some("10.1.0.2".parse().unwrap()),
            mtu: Some(1280),
            src: Some("10.1.0.1".parse().unwrap()),
        };
        socket.replace_route(&route).unwrap();
        socket
            .replace_route(&Route {
                mtu: Some(1300),
                ..route
            })
            .unwrap();
        let routes = socket.routes().unwrap();
        assert!(
            routes.contains(&Route {
                mtu: Some(1300),
                ..route
            }),
            "{routes:?}"
        );
        assert!(!routes.contains(&route), "the first was replaced");
        let to_only = Route {
            dev: None,
            via: None,
            mtu: None,
            src: None,
            ..route
        };
        socket.delete_route(&to_only).unwrap();
        assert!(!socket.routes().unwrap().iter().any(|r| r.to == route.to));
        socket.delete_route(&to_only).unwrap();
        let default = Route::via("0.0.0.0/0".parse().unwrap(), "10.1.0.2".parse().unwrap());
        socket.replace_route(&default).unwrap();
        assert!(
            socket
                .routes()
                .unwrap()
                .iter()
                .any(|r| r.to == default.to && r.via == default.via)
        );
        socket.delete_address(dev, subnet).unwrap();
        socket.delete_address(dev, subnet).unwrap();
    });
}

#[test]
fn what_is_unreachable_does_not_go_the_default_way_and_a_better_route_wins() {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    crate::namespace::within(&[&network], || {
        let socket = &mut Socket::open().unwrap();
        socket
            .add_veth(&VethEnd::new("a"), &VethEnd::new("b"))
            .unwrap();
        for end in ["a", "b"] {
            let index = socket.link(end).unwrap().unwrap().index;
            socket.set_up(index).unwrap();
        }
        let dev = socket.link("a").unwrap().unwrap().index;
        let own: ipnet::IpNet = "10.1.0.1/24".parse().unwrap();
        socket.add_address(dev, own).unwrap();
        let default = Route::via("0.0.0.0/0".parse().unwrap(), "10.1.0.2".parse().unwrap());
        socket.replace_route(&default).unwrap();
        let reaches = || {
            let asked = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            asked.connect("10.2.0.9:9").map_err(|error| error.kind())
        };
        assert_eq!(reaches(), Ok(()), "the default way");
        let range = "10.2.0.0/16".parse().unwrap();
        assert!(socket.add_unreachable(range).unwrap());
        assert!(
            !socket.add_unreachable(range).unwrap(),
            "it is there already"
        );
        assert_eq!(reaches(), Err(std::io::ErrorKind::HostUnreachable));
        let better = Route::on_link(range, dev);
        socket.replace_route(&better).unwrap();
        assert_eq!(reaches(), Ok(()), "the better one");
        socket.delete_unreachable(range).unwrap();
        socket.delete_unreachable(range).unwrap();
        assert!(socket.routes().unwrap().iter().any(|it| it.to == range));
        socket.delete_route(&better).unwrap();
        assert_eq!(reaches(), Ok(()), "the default way again");
    })
    .unwrap();
}

#[test]
fn a_refusal_names_the_object_and_the_kernels_reason() {
    inside(|socket| {
        let route = Route::via("10.9.0.0/16".parse().unwrap(), "10.8.0.1".parse().unwrap());
        let error = socket.replace_route(&route).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("could not set route `10.9.0.0/16`: the kernel said"),
            "{text}"
        );
        assert_eq!(error.errno(), Some(libc::ENETUNREACH));
    });
}

#[test]
fn requests_beyond_one_batch_are_all_done() {
    inside(|socket| {
        socket.add_bridge("lan").unwrap();
        let dev = socket.link("lan").unwrap().unwrap().index;
        let addresses = (0..200).map(|n| format!("10.0.{n}.1/24").parse().unwrap());
        let requests: Vec<_> = addresses
            .map(|net| Request::add_address(dev, net))
            .collect();
        socket.apply_all(&requests).unwrap();
        let on_lan = socket.addresses().unwrap().into_iter();
        assert_eq!(
            on_lan
                .filter(|a| a.link == dev && a.net.addr().is_ipv4())
                .count(),
            200
        );
    });
}

#[test]
fn changes_are_told() {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    let mut changes = Changes::open_in(&network).unwrap();
    assert_eq!(changes.poll().unwrap(), None);
    let mut socket = Socket::open_in(&network).unwrap();
    let lo = socket.link("lo").unwrap().unwrap().index;
    socket.set_up(lo).unwrap();
    let mut seen = Vec::new();
    while let Some(more) = changes.poll().unwrap() {
        seen.extend(more);
    }
    assert!(
        seen.contains(&Change::Link) && seen.contains(&Change::Address),
        "{seen:?}"
    );
}

#[tokio::test]
async fn changes_can_be_awaited() {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| ()).unwrap();
    let mut changes = Changes::open_in(&network).unwrap().into_async().unwrap();
    let mut socket = Socket::open_in(&network).unwrap();
    let lo = socket.link("lo").unwrap().unwrap().index;
    socket.set_up(lo).unwrap();
    assert!(!changes.next().await.unwrap().is_empty());
}
