use bastide_api::v1::TaskFact;
use bastide_api::{
    AddressPlan, Arch, ClusterId, ClusterRecord, Controller, DiscoveryKey, NodeRecord, Revision,
    SwarmSettings, UnixTime, WireGuardKey,
};

use super::*;

fn id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 16])
}

fn view() -> View {
    let plan = AddressPlan::default();
    let node = |byte: u8, name: &str| {
        let (address, containers) = plan.slot(u32::from(byte)).unwrap();
        NodeRecord {
            id: id(byte),
            name: name.parse().unwrap(),
            site: "home".parse().unwrap(),
            arch: Arch::Amd64,
            address,
            containers,
            wireguard: WireGuardKey::from_bytes([byte; 32]),
            discovery: DiscoveryKey::from_bytes([byte; 32]),
            public: Vec::new(),
            routes: Vec::new(),
            tags: std::collections::BTreeSet::new(),
            expires: UnixTime::EPOCH,
        }
    };
    View {
        revision: Revision(1),
        nodes: [node(1, "zeta"), node(2, "alpha")]
            .map(|node| (node.id, node))
            .into(),
        stacks: BTreeMap::from([("hello".parse().unwrap(), String::new())]),
        joins: BTreeMap::new(),
        cluster: ClusterRecord {
            id: ClusterId::from_bytes([9; 16]),
            name: "test".parse().unwrap(),
            plan,
            controllers: vec![Controller {
                node: id(1),
                channel: Vec::new(),
            }],
            swarm: SwarmSettings::default(),
        },
    }
}

fn task(address: [u8; 4]) -> TaskFact {
    let service = Some(("hello".parse().unwrap(), "web".parse().unwrap()));
    TaskFact {
        address: address.into(),
        service,
        name: None,
        healthy: true,
    }
}

fn draw(facts: &BTreeMap<NodeId, NodeFacts>, paths: &BTreeMap<NodeId, PathFact>) -> Status {
    draw_departed(facts, paths, None)
}

fn draw_departed(
    facts: &BTreeMap<NodeId, NodeFacts>,
    paths: &BTreeMap<NodeId, PathFact>,
    departed: Option<&str>,
) -> Status {
    let wanted = BTreeMap::from([(("hello".parse().unwrap(), "web".parse().unwrap()), 2)]);
    let (me, view) = (id(1), &view());
    status(&Sources {
        me,
        view,
        facts,
        paths,
        events: &BTreeMap::new(),
        wanted: &wanted,
        controller: true,
        refused: None,
        departed,
        standing: Standing::Member,
    })
}

#[test]
fn an_older_store_is_told_with_what_to_do() {
    let facts = BTreeMap::new();
    let told = draw_departed(&facts, &BTreeMap::new(), Some("revision 5 is older than 9"));
    assert!(told.troubles[0].contains("revision 5 is older than 9"));
    assert!(told.troubles[0].contains("`bastide accept-restored`"));
}

#[test]
fn tasks_of_a_node_without_a_path_do_not_count_as_healthy() {
    let facts = |tasks| NodeFacts {
        tasks,
        ..NodeFacts::default()
    };
    let facts = BTreeMap::from([
        (id(1), facts(vec![task([10, 128, 1, 2])])),
        (id(2), facts(vec![task([10, 128, 2, 2])])),
    ]);
    let direct = PathKind::Direct {
        to: "198.51.100.1:51820".parse().unwrap(),
    };
    let reached = BTreeMap::from([(
        id(2),
        PathFact {
            kind: direct,
            rtt_us: None,
            mtu: None,
            loss_percent: 0,
        },
    )]);
    let whole = draw(&facts, &reached);
    assert_eq!(whole.stacks[0].services[0].healthy, 2);
    assert_eq!(whole.troubles, Vec::<String>::new());
    let names: Vec<_> = whole.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["alpha", "zeta"]);
    let cut = draw(&facts, &BTreeMap::new());
    assert_eq!(cut.stacks[0].services[0].healthy, 1);
    assert!(cut.troubles[0].contains("`alpha`") && cut.troubles[0].contains("node remove"));
}

#[test]
fn a_node_cannot_speak_for_the_subnet_of_another() {
    let facts = BTreeMap::from([(
        id(1),
        NodeFacts {
            tasks: vec![task([10, 128, 2, 2])],
            ..NodeFacts::default()
        },
    )]);
    assert_eq!(
        draw(&facts, &BTreeMap::new()).stacks[0].services[0].tasks,
        []
    );
}
