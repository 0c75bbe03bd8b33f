use bastide_api::{
    AddressPlan, Arch, ClusterId, ClusterRecord, Controller, NodeRecord, Revision, SwarmSettings,
};

use super::*;

fn id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 16])
}

fn node(byte: u8, public: &[&str]) -> NodeRecord {
    let plan = AddressPlan::default();
    let (address, containers) = plan.slot(u32::from(byte)).unwrap();
    NodeRecord {
        id: id(byte),
        name: format!("node-{byte}").parse().unwrap(),
        site: "home".parse().unwrap(),
        arch: Arch::Amd64,
        address,
        containers,
        wireguard: WireGuardKey::from_bytes([byte; 32]),
        discovery: DiscoveryKey::from_bytes([byte; 32]),
        public: public.iter().map(|text| text.parse().unwrap()).collect(),
        routes: Vec::new(),
        tags: std::collections::BTreeSet::new(),
        expires: UnixTime::from_millis(1000),
    }
}

fn view(nodes: Vec<NodeRecord>) -> View {
    View {
        revision: Revision(1),
        cluster: ClusterRecord {
            id: ClusterId::from_bytes([9; 16]),
            name: "test".parse().unwrap(),
            plan: AddressPlan::default(),
            controllers: vec![Controller {
                node: id(1),
                channel: Vec::new(),
            }],
            swarm: SwarmSettings::default(),
        },
        nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
        stacks: BTreeMap::new(),
        joins: BTreeMap::new(),
    }
}

#[test]
fn every_other_member_is_a_peer_until_its_certificate_ends() {
    let view = view(vec![
        node(1, &["203.0.113.1:51820"]),
        node(2, &[]),
        node(3, &[]),
    ]);
    let at = |millis| {
        peers(
            &view,
            &BTreeMap::new(),
            id(2),
            UnixTime::from_millis(millis),
        )
    };
    let nodes: Vec<_> = at(999).iter().map(|peer| peer.node).collect();
    assert_eq!(nodes, [id(1), id(3)]);
    assert!(at(999)[0].relay && !at(999)[1].relay);
    assert_eq!(at(1000), []);
}

#[test]
fn reported_addresses_come_after_declared_ones_and_are_bounded() {
    let view = view(vec![node(1, &["203.0.113.1:51820"]), node(2, &[])]);
    let mut endpoints: Vec<SocketAddr> = vec!["203.0.113.1:51820".parse().unwrap()];
    endpoints.extend((0..100).map(|port| SocketAddr::from(([198, 51, 100, 1], port))));
    let facts = BTreeMap::from([(
        id(1),
        NodeFacts {
            endpoints,
            ..NodeFacts::default()
        },
    )]);
    let peers = peers(&view, &facts, id(2), UnixTime::EPOCH);
    assert_eq!(peers[0].candidates[0], "203.0.113.1:51820".parse().unwrap());
    assert_eq!(peers[0].candidates.len(), CANDIDATES_MAX);
}

#[test]
fn the_device_routes_the_mesh_and_the_subnets_of_others_only() {
    let mut gateway = node(3, &[]);
    gateway.routes = vec!["192.168.7.0/24".parse().unwrap()];
    let view = view(vec![node(1, &[]), node(2, &[]), gateway]);
    let device = device(&view, id(2)).unwrap();
    let shown: Vec<_> = device.routes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "10.128.1.0/24",
            "10.128.3.0/24",
            "100.72.0.0/16",
            "192.168.7.0/24"
        ]
    );
    assert_eq!(device.source, view.nodes[&id(2)].address);
    assert!(super::device(&view, id(4)).is_none());
}

#[test]
fn controllers_are_reached_at_their_mesh_addresses() {
    let view = view(vec![node(1, &[]), node(2, &[])]);
    assert_eq!(controllers(&view), ["100.72.0.2:8200".parse().unwrap()]);
    assert!(is_controller(&view, id(1)) && !is_controller(&view, id(2)));
}

#[test]
fn what_a_path_does_not_carry_is_not_sent_to_the_peer_nor_behind_it() {
    let mut far = node(2, &[]);
    far.routes = vec!["192.168.7.0/24".parse().unwrap()];
    let view = view(vec![node(1, &[]), far.clone(), node(3, &[])]);
    let fact = |mtu| PathFact {
        kind: bastide_api::v1::PathKind::None,
        rtt_us: None,
        mtu,
        loss_percent: 0,
    };
    let check = |mtu, expect: &[(Ipv4Net, u16)]| {
        let paths = BTreeMap::from([(id(2), fact(mtu)), (id(3), fact(Some(1420)))]);
        let limits = limits(&view, &paths, id(1));
        assert_eq!(limits, expect.iter().copied().collect());
    };
    let all = [far.address.into(), far.containers, far.routes[0]].map(|net| (net, 1216));
    check(Some(1216), &all);
    check(Some(1420), &[]);
    // Never above the device's own.
    check(Some(9000), &[]);
    check(None, &[]);
}
