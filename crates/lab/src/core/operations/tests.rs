use super::*;

fn plan() -> Plan {
    Plan::parse(include_str!("../../../../../examples/three-sites.yaml")).unwrap()
}

#[test]
fn only_hosts_leave_something_for_us_to_undo() {
    let left: Vec<_> = operations(&plan())
        .iter()
        .map(Operation::inverse)
        .filter(|inverse| *inverse != Inverse::Kernel)
        .collect();
    let group = |node: &str| Inverse::RemoveGroup {
        node: node.parse().unwrap(),
    };
    assert_eq!(left, [group("atlas"), group("boreas"), group("cygnus")]);
}

#[test]
fn settings_are_written_before_links_and_links_before_routes() {
    let operations = operations(&plan());
    let last = |found: fn(&Operation) -> bool| operations.iter().rposition(found).unwrap();
    let first = |found: fn(&Operation) -> bool| operations.iter().position(found).unwrap();
    let wire = |operation: &Operation| matches!(operation, Operation::Wire { .. });
    let route = |operation: &Operation| matches!(operation, Operation::Route { .. });
    let address = |operation: &Operation| matches!(operation, Operation::Address { .. });
    assert!(last(|operation| matches!(operation, Operation::Network { .. })) < first(wire));
    assert!(last(|operation| matches!(operation, Operation::Bridge { .. })) < first(wire));
    assert!(last(wire) < first(address));
    assert!(first(address) < first(route));
}

#[test]
fn hosts_do_not_forward_and_routers_do() {
    for operation in operations(&plan()) {
        if let Operation::Network { node, sysctls } = operation {
            let expected = if node.as_str().ends_with("router") {
                "1"
            } else {
                "0"
            };
            assert!(
                sysctls.contains(&("net/ipv4/ip_forward", expected)),
                "{node}"
            );
            assert!(sysctls.contains(&("net/ipv6/conf/default/accept_dad", "0")));
        }
    }
}

#[test]
fn a_link_is_found_at_the_port_that_was_made_for_it() {
    let plan = plan();
    for operation in operations(&plan) {
        if let Operation::Wire {
            port,
            bridge,
            node,
            interface,
            ..
        } = operation
        {
            assert_eq!(
                port_of(&plan, &End { node, interface }),
                Some((port, bridge))
            );
        }
    }
    let nobody = End {
        node: "nobody".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    assert_eq!(port_of(&plan, &nobody), None);
}
