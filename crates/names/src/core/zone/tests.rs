use bastide_api::{
    AddressPlan, Arch, ClusterId, ClusterRecord, DiscoveryKey, NodeName, Revision, UnixTime,
    WireGuardKey,
};

use super::*;

pub fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn node(number: u8, name: &str) -> NodeRecord {
    let (address, containers) = AddressPlan::default().slot(u32::from(number)).unwrap();
    NodeRecord {
        id: node_id(number),
        name: name.parse::<NodeName>().unwrap(),
        site: "home".parse().unwrap(),
        arch: Arch::Amd64,
        address,
        containers,
        wireguard: WireGuardKey::from_bytes([number; 32]),
        discovery: DiscoveryKey::from_bytes([number; 32]),
        public: Vec::new(),
        routes: Vec::new(),
        tags: std::collections::BTreeSet::new(),
        expires: UnixTime::from_millis(u64::MAX),
    }
}

/// A cluster `home` of three nodes with the stack `shop` (services `web`, `db`).
pub fn view() -> View {
    let mut cluster: serde_json::Value = serde_json::json!({
        "id": ClusterId::from_bytes([9; 16]),
        "name": "home",
        "plan": AddressPlan::default(),
        "controllers": [],
    });
    // Settings of other areas take their defaults.
    cluster["swarm"] = serde_json::Value::Null;
    cluster.as_object_mut().unwrap().remove("swarm");
    let cluster: ClusterRecord = serde_json::from_value(cluster).unwrap();
    let nodes = [node(1, "atlas"), node(2, "borea"), node(3, "ceres")];
    let stack = r#"{"name":"shop","services":{"web":{"image":"x"},"db":{}},"notes":[]}"#;
    View {
        revision: Revision(7),
        cluster,
        nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
        stacks: BTreeMap::from([("shop".parse().unwrap(), stack.to_owned())]),
        joins: BTreeMap::new(),
    }
}

pub fn task(address: &str, service: &str, healthy: bool) -> TaskFact {
    TaskFact {
        address: address.parse().unwrap(),
        service: Some(("shop".parse().unwrap(), service.parse().unwrap())),
        name: None,
        healthy,
    }
}

pub fn facts(tasks: impl IntoIterator<Item = (u8, TaskFact)>) -> BTreeMap<NodeId, NodeFacts> {
    let mut facts = BTreeMap::<NodeId, NodeFacts>::new();
    for (number, task) in tasks {
        facts.entry(node_id(number)).or_default().tasks.push(task);
    }
    facts
}

fn zone(tasks: impl IntoIterator<Item = (u8, TaskFact)>) -> Zone {
    Zone::build(&view(), &facts(tasks), &BTreeSet::new())
}

fn look(zone: &Zone, name: &str) -> Lookup {
    let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    match zone.resolve(&labels, 1) {
        Lookup::Addresses {
            mut addresses,
            unhealthy,
        } => {
            addresses.sort();
            Lookup::Addresses {
                addresses,
                unhealthy,
            }
        }
        other => other,
    }
}

fn found(addresses: &[&str], unhealthy: bool) -> Lookup {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Lookup::Addresses {
        addresses,
        unhealthy,
    }
}

#[test]
fn a_service_is_its_healthy_tasks_on_all_nodes() {
    let zone = zone([
        (1, task("10.128.1.2", "web", true)),
        (2, task("10.128.2.2", "web", true)),
        (3, task("10.128.3.2", "web", false)),
    ]);
    let name = "web.shop.home.internal";
    assert_eq!(
        look(&zone, name),
        found(&["10.128.1.2", "10.128.2.2"], false)
    );
    assert_eq!(zone.unhealthy().count(), 0);
}

#[test]
fn a_service_without_a_healthy_task_answers_with_all_and_says_so() {
    let zone = zone([
        (1, task("10.128.1.2", "web", false)),
        (2, task("10.128.2.2", "web", false)),
    ]);
    let name = "web.shop.home.internal";
    assert_eq!(
        look(&zone, name),
        found(&["10.128.1.2", "10.128.2.2"], true)
    );
    assert_eq!(zone.unhealthy().collect::<Vec<_>>(), ["web.shop"]);
}

#[test]
fn tasks_of_dead_nodes_are_left_out_and_nodes_keep_their_names() {
    let facts = facts([
        (1, task("10.128.1.2", "web", true)),
        (2, task("10.128.2.2", "web", true)),
    ]);
    let dead = BTreeSet::from([node_id(2)]);
    let zone = Zone::build(&view(), &facts, &dead);
    assert_eq!(
        look(&zone, "web.shop.home.internal"),
        found(&["10.128.1.2"], false)
    );
    assert_eq!(
        look(&zone, "borea.node.home.internal"),
        found(&["100.72.0.3"], false)
    );
}

#[test]
fn a_node_is_believed_only_inside_its_own_subnet_and_about_services_of_the_view() {
    let zone = zone([
        (1, task("10.128.2.9", "web", true)),
        (1, task("100.72.0.1", "web", true)),
        (1, task("10.128.1.0", "web", true)),
        (1, task("10.128.1.255", "web", true)),
        (1, task("8.8.8.8", "web", true)),
        (1, task("10.128.1.5", "admin", true)),
        (9, task("10.128.9.5", "web", true)),
    ]);
    assert_eq!(look(&zone, "web.shop.home.internal"), Lookup::NoAddress);
    assert_eq!(look(&zone, "admin.shop.home.internal"), Lookup::NoSuchName);
    assert_eq!(zone.name_of("10.128.2.9".parse().unwrap()), None);
}

#[test]
fn standalone_containers_stand_below_their_node() {
    let container = |address: &str, name: &str| TaskFact {
        address: address.parse().unwrap(),
        service: None,
        name: Some(name.to_owned()),
        healthy: true,
    };
    let zone = zone([
        (1, container("10.128.1.7", "Probe")),
        (1, container("10.128.1.8", "no_label")),
        (1, container("10.128.1.9", "a.b")),
    ]);
    assert_eq!(
        look(&zone, "probe.atlas.node.home.internal"),
        found(&["10.128.1.7"], false)
    );
    assert_eq!(
        look(&zone, "no_label.atlas.node.home.internal"),
        Lookup::NoSuchName
    );
    assert_eq!(
        look(&zone, "b.atlas.node.home.internal"),
        Lookup::NoSuchName
    );
    let name = zone.name_of("10.128.1.7".parse().unwrap());
    assert_eq!(name, Some("probe.atlas.node.home.internal"));
}

#[test]
fn names_exist_without_addresses_where_longer_names_do() {
    let zone = zone([]);
    assert_eq!(look(&zone, "web.shop.home.internal"), Lookup::NoAddress);
    assert_eq!(look(&zone, "shop.home.internal"), Lookup::NoAddress);
    assert_eq!(look(&zone, "node.home.internal"), Lookup::NoAddress);
    assert_eq!(look(&zone, "home.internal"), found(&["100.72.0.53"], false));
    assert_eq!(
        look(&zone, "nothing.shop.home.internal"),
        Lookup::NoSuchName
    );
    assert_eq!(look(&zone, "a.web.shop.home.internal"), Lookup::NoSuchName);
    assert_eq!(look(&zone, "other.internal"), Lookup::Foreign);
    assert_eq!(look(&zone, "internal"), Lookup::Foreign);
    assert_eq!(look(&zone, "homes.internal"), Lookup::Foreign);
}

#[test]
fn a_stack_named_node_cannot_answer_for_a_node() {
    let mut view = view();
    let stack = r#"{"services":{"atlas":{}}}"#;
    view.stacks
        .insert("node".parse().unwrap(), stack.to_owned());
    let mut forged = task("10.128.2.2", "atlas", true);
    forged.service = Some(("node".parse().unwrap(), "atlas".parse().unwrap()));
    let zone = Zone::build(&view, &facts([(2, forged)]), &BTreeSet::new());
    assert_eq!(
        look(&zone, "atlas.node.home.internal"),
        found(&["100.72.0.2"], false)
    );
}

#[test]
fn a_stack_that_cannot_be_read_takes_no_other_down() {
    let mut view = view();
    view.stacks
        .insert("broken".parse().unwrap(), "not json".to_owned());
    let zone = Zone::build(
        &view,
        &facts([(1, task("10.128.1.2", "web", true))]),
        &BTreeSet::new(),
    );
    assert_eq!(
        look(&zone, "web.shop.home.internal"),
        found(&["10.128.1.2"], false)
    );
}

#[test]
fn every_task_comes_first_under_some_seed_and_none_is_lost() {
    let tasks = (2..10).map(|host| (1, task(&format!("10.128.1.{host}"), "web", true)));
    let zone = zone(tasks);
    let labels = ["web", "shop", "home", "internal"].map(str::to_owned);
    let mut first = BTreeMap::<Ipv4Addr, u32>::new();
    for seed in 0..800 {
        let Lookup::Addresses { addresses, .. } = zone.resolve(&labels, seed) else {
            panic!("no addresses");
        };
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 8);
        *first.entry(addresses[0]).or_default() += 1;
    }
    // 100 each if all are alike; 50 lies five standard deviations below.
    assert_eq!(first.len(), 8);
    assert!(first.values().all(|count| 50 < *count), "{first:?}");
}

#[test]
fn one_node_cannot_fill_the_zone() {
    let flood = (0..TASKS_PER_NODE_MAX * 2).map(|_| (1, task("10.128.1.2", "web", true)));
    let last = [(1, task("10.128.1.3", "web", true))];
    let zone = zone(flood.chain(last));
    assert_eq!(
        look(&zone, "web.shop.home.internal"),
        found(&["10.128.1.2"], false)
    );
}
