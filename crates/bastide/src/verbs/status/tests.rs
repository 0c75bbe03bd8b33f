use bastide_api::paths::{PathChange, PathEvent, PathReason};
use bastide_api::status::{ServiceStatus, StackStatus, TaskStatus};
use bastide_api::v1::PathFact;
use bastide_api::{NodeId, Revision};

use super::*;

fn node(byte: u8, name: &str, kind: Option<PathKind>) -> NodeStatus {
    NodeStatus {
        id: NodeId::from_bytes([byte; 16]),
        name: name.parse().unwrap(),
        site: "home".parse().unwrap(),
        address: [100, 72, 0, byte].into(),
        tags: std::collections::BTreeSet::new(),
        controller: byte == 1,
        alive: kind != Some(PathKind::None),
        path: kind.map(|kind| PathFact {
            kind,
            rtt_us: Some(12_345),
            mtu: None,
            loss_percent: 0,
        }),
        events: Vec::new(),
        swarm: true,
    }
}

/// A node whose direct path was lost 12 s ago, after it had been found, and another two hours ago.
fn troubled(mut node: NodeStatus) -> NodeStatus {
    let direct = PathKind::Direct {
        to: "203.0.113.30:51820".parse().unwrap(),
    };
    let event = |ago_ms, from, to, reason| PathEvent {
        ago_ms,
        change: PathChange::Way { from, to },
        reason,
    };
    let relayed = node.path.as_ref().unwrap().kind;
    node.events = vec![
        event(7_200_000, direct, PathKind::None, PathReason::NoAnswer),
        event(7_100_000, PathKind::None, direct, PathReason::Answered),
        event(12_000, direct, relayed, PathReason::NoAnswer),
    ];
    node
}

#[test]
fn the_screen_names_paths_relays_services_and_troubles() {
    let relay = NodeId::from_bytes([1; 16]);
    let status = Status {
        node: NodeId::from_bytes([2; 16]),
        cluster: "demo".parse().unwrap(),
        revision: Revision(3),
        controller: true,
        nodes: vec![
            node(
                1,
                "atlas",
                Some(PathKind::Direct {
                    to: "203.0.113.10:51820".parse().unwrap(),
                }),
            ),
            node(2, "boreas", None),
            troubled(node(3, "cygnus", Some(PathKind::Relayed { via: relay }))),
        ],
        joins: Vec::new(),
        stacks: vec![StackStatus {
            name: "hello".parse().unwrap(),
            services: vec![ServiceStatus {
                name: "web".parse().unwrap(),
                wanted: 3,
                healthy: 1,
                tasks: vec![TaskStatus {
                    node: "atlas".parse().unwrap(),
                    address: [10, 128, 0, 2].into(),
                    healthy: true,
                    reachable: true,
                }],
            }],
        }],
        troubles: vec!["engine of `cygnus` does not answer: systemctl start docker".to_owned()],
    };
    assert_eq!(
        screen(&status),
        "\
cluster demo: 3 of 3 nodes reachable, control plane answers

NODE    SITE  ADDRESS     PATH                       LATENCY  SWARM
atlas*  home  100.72.0.1  direct 203.0.113.10:51820  12.3 ms  member
boreas  home  100.72.0.2  this node                  -        member
cygnus  home  100.72.0.3  relayed by atlas           12.3 ms  member

SERVICE    HEALTHY  ON
web.hello  1 of 3   atlas

what happened to paths lately (`bastide mesh why` tells more):
~ cygnus: 12 s ago: direct 203.0.113.30:51820 -> relayed by atlas: the one before did not answer

! engine of `cygnus` does not answer: systemctl start docker
"
    );
}
