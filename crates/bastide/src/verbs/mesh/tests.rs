use bastide_api::paths::{
    CandidateOrigin, CandidateStory, NatMapping, NotDirect, PathChange, PathEvent, PathReason,
    RelayState, RelayStory,
};
use bastide_api::{NodeId, Revision};

use super::*;

fn node(byte: u8, name: &str) -> NodeStatus {
    NodeStatus {
        id: NodeId::from_bytes([byte; 16]),
        name: name.parse().unwrap(),
        site: "home".parse().unwrap(),
        address: [100, 72, 0, byte].into(),
        controller: false,
        path: None,
        tags: std::collections::BTreeSet::new(),
        events: Vec::new(),
        swarm: false,
        alive: true,
    }
}

fn status() -> Status {
    Status {
        node: NodeId::from_bytes([2; 16]),
        cluster: "demo".parse().unwrap(),
        revision: Revision(3),
        controller: true,
        nodes: vec![node(1, "atlas"), node(2, "boreas"), node(3, "cygnus")],
        stacks: Vec::new(),
        joins: Vec::new(),
        troubles: Vec::new(),
    }
}

#[test]
fn the_story_says_what_was_tried_what_is_used_and_why() {
    let status = status();
    let relayed = PathKind::Relayed {
        via: status.nodes[0].id,
    };
    let to = "198.51.100.3:51820".parse().unwrap();
    let story = PathStory {
        peer: status.nodes[2].id,
        fact: PathFact {
            kind: relayed,
            rtt_us: Some(40_250),
            mtu: Some(1216),
            loss_percent: 12,
        },
        since_ms: 7300,
        not_direct: Some(NotDirect::NoAnswer),
        nat: NatMapping::Same,
        device_mtu: 1420,
        is_active: true,
        candidates: vec![CandidateStory {
            address: to,
            origin: CandidateOrigin::Told,
            asked: 12,
            answered_ms: Some(150_000),
            rtt_us: Some(9900),
        }],
        relays: vec![RelayStory {
            relay: status.nodes[0].id,
            to_relay_us: 20_000,
            rtt_us: Some(40_250),
            state: RelayState::Bound,
        }],
        events: vec![
            PathEvent {
                ago_ms: 7300,
                change: PathChange::Way {
                    from: PathKind::Direct { to },
                    to: relayed,
                },
                reason: PathReason::NoAnswer,
            },
            PathEvent {
                ago_ms: 6000,
                change: PathChange::Mtu {
                    from: 1420,
                    to: 1216,
                },
                reason: PathReason::LargeLost,
            },
        ],
    };
    assert_eq!(
        tell(&status, &status.nodes[1], &status.nodes[2], &story),
        "\
boreas reaches cygnus relayed by atlas: round trip 40.2 ms, packets up to 1216 bytes, 12 % lost
since 7 s ago
not direct: no address of the node answers; is UDP blocked?
the path swallows longer packets than 1216 bytes (the mesh's own MTU is 1420): routes to cygnus say so
NAT of boreas: none, or one that keeps its port

addresses that were tried:
ADDRESS             KNOWN FROM  ASKED     ANSWERED   LATENCY
198.51.100.3:51820  its call    12 times  2 min ago  9.9 ms

relays that were considered:
RELAY  STATE     TO IT    TO THE PEER
atlas  forwards  20.0 ms  40.2 ms      <- used

what happened:
  7 s ago: direct 198.51.100.3:51820 -> relayed by atlas: the one before did not answer
  6 s ago: packets of 1420 -> 1216 bytes: longer ones vanish on the way
"
    );
}

#[test]
fn a_node_is_found_by_its_name_and_by_its_id() {
    let status = status();
    let id = status.nodes[2].id.to_string();
    assert_eq!(find(&status, "cygnus").unwrap().id, status.nodes[2].id);
    assert_eq!(find(&status, &id).unwrap().id, status.nodes[2].id);
    assert!(find(&status, "delos").is_err());
}
