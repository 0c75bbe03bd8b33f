use super::super::fixture::node;
use super::*;

fn rules(routes: &[&str], frames: Frames) -> Rules {
    Rules {
        mesh_interface: "bst0".to_owned(),
        plan: AddressPlan::default(),
        containers: "10.128.3.0/24".parse().unwrap(),
        routes: routes.iter().map(|text| text.parse().unwrap()).collect(),
        frames,
    }
}

#[test]
fn the_text_replaces_both_tables_whatever_they_were() {
    let text = ruleset(&rules(&[], Frames::Subnet));
    assert!(text.starts_with(&undo()));
    for family in ["inet", "bridge"] {
        let add = format!("table {family} bastide\n");
        let delete = format!("delete {add}");
        assert!(undo().find(&add) < undo().find(&delete), "{text}");
    }
}

#[test]
fn a_gateways_routes_are_named_only_where_there_are_any() {
    let without = ruleset(&rules(&[], Frames::Subnet));
    let with = ruleset(&rules(
        &["192.168.7.0/24", "192.168.9.0/24"],
        Frames::Subnet,
    ));
    assert!(!without.contains("192.168"));
    assert!(
        with.contains("ip daddr { 192.168.7.0/24, 192.168.9.0/24 } accept"),
        "{with}"
    );
    assert!(with.contains("ip saddr { 192.168.7.0/24, 192.168.9.0/24 } ip daddr 100.72.0.0/16"));
}

#[test]
fn every_address_of_the_subnet_but_the_gateways_has_its_derived_sender() {
    let text = ruleset(&rules(&[], Frames::DerivedMac));
    assert!(text.contains("02:42:0a:80:03:02 . 10.128.3.2"));
    assert!(text.contains("02:42:0a:80:03:fe . 10.128.3.254"));
    assert!(!text.contains("02:42:0a:80:03:01"));
    assert_eq!(text.matches("02:42:").count(), 253);
}

#[test]
fn hardware_addresses_are_trusted_to_be_derived_only_before_docker_28() {
    let frames = |major| Rules::new(&AddressPlan::default(), &node(3), "bst0", major).frames;
    assert_eq!(frames(20), Frames::DerivedMac);
    assert_eq!(frames(27), Frames::DerivedMac);
    assert_eq!(frames(28), Frames::Subnet);
    assert_eq!(frames(0), Frames::Subnet);
}

#[test]
fn forwarding_is_not_asked_for_on_all_interfaces() {
    let changes = host_changes("bst0");
    assert!(
        changes
            .iter()
            .all(|change| change.path != "net/ipv4/ip_forward")
    );
    assert!(
        changes
            .iter()
            .any(|change| change.path == "net/ipv4/conf/bst0/forwarding")
    );
}
