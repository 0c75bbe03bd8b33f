use super::*;
use crate::core::fixture::network;

fn taken(range: &str, by: Owner) -> Taken {
    let range = range.parse().unwrap();
    Taken { range, by }
}

fn route(range: &str) -> Taken {
    let interface = "eth0".to_owned();
    taken(range, Owner::Route { interface })
}

fn address(range: &str) -> Taken {
    let interface = "eth0".to_owned();
    taken(range, Owner::Address { interface })
}

fn options(taken: impl IntoIterator<Item = Taken>) -> Vec<&'static str> {
    let found = find(&AddressPlan::default(), taken);
    found.iter().map(|one| one.option).collect()
}

#[test]
fn each_range_of_the_cluster_is_found_with_the_option_that_chooses_another() {
    assert_eq!(options([route("100.72.4.0/24")]), ["--mesh"]);
    assert_eq!(options([route("100.64.0.0/10")]), ["--mesh"]);
    assert_eq!(options([address("10.130.0.7/24")]), ["--containers"]);
    assert_eq!(options([route("10.144.3.0/24")]), ["--swarm-pool"]);
    assert_eq!(options([address("10.145.0.1/24")]), ["--swarm-gateway"]);
}

#[test]
fn what_leaves_the_ranges_alone_is_no_collision() {
    let free = [
        route("0.0.0.0/0"),
        route("0.0.0.0/1"),
        route("10.0.0.0/16"),
        route("192.168.0.0/16"),
        // The address is outside, whatever its network would hold.
        address("10.0.0.7/8"),
    ];
    assert_eq!(options(free), [""; 0]);
}

#[test]
fn a_network_of_the_engine_is_told_once_and_by_name_whatever_its_bridge_has() {
    let mut theirs = network(false);
    theirs.subnets = vec!["10.130.0.0/16".parse().unwrap()];
    let mut ours = network(true);
    ours.subnets = vec!["10.128.1.0/24".parse().unwrap()];
    let mut overlay = network(false);
    overlay.swarm_scope = true;
    overlay.subnets = vec!["10.144.0.0/24".parse().unwrap()];
    let networks = BTreeMap::from([
        ("theirs".to_owned(), theirs),
        (NETWORK_TEMPLATE.to_owned(), ours),
        ("overlay".to_owned(), overlay),
    ]);
    let plan = AddressPlan::default();
    let of_host = find(&plan, [address("10.130.0.1/16"), route("10.130.0.0/16")]);
    let all = once(of_host.into_iter().chain(of_networks(&plan, &networks)));
    let [one] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(one.mend(), "docker network rm theirs");
    assert_eq!(
        one.to_string(),
        "range 10.128.0.0/12 of the containers is in use: network `theirs` of the container engine \
         has 10.130.0.0/16"
    );
}
