//! Every kind of NAT against every other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bastide_api::paths::{NatMapping, NotDirect};

use super::nat::Kind;
use super::world::{World, ms};
use crate::core::path::{DESTINATIONS_MAX, PER_SECOND_MAX};

const KINDS: [Kind; 4] = [
    Kind::Open,
    Kind::FullCone,
    Kind::PortRestricted,
    Kind::Symmetric,
];

/// Two relays, then one host of each kind: they are 2 and 3.
fn world(seed: u64, a: Kind, b: Kind) -> World {
    let mut world = World::new(seed);
    world.host(Kind::Open);
    world.host(Kind::Open);
    world.host(a);
    world.host(b);
    world
}

/// A NAT that gives each destination another port meets one that lets in only whom it knows.
fn can_punch(a: Kind, b: Kind) -> bool {
    let filters = |kind| matches!(kind, Kind::PortRestricted | Kind::Symmetric);
    !(a == Kind::Symmetric && filters(b) || b == Kind::Symmetric && filters(a))
}

fn most_in_a_second(times: &[Instant]) -> usize {
    let within = |first: &Instant| {
        let later = times.iter().filter(|at| **at >= *first);
        later
            .filter(|at| at.duration_since(*first) < Duration::from_secs(1))
            .count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

#[test]
fn each_pair_of_nats_is_direct_where_it_can_be_and_relayed_where_not() {
    for a in KINDS {
        for b in KINDS {
            for seed in 0..3 {
                let mut world = world(seed, a, b);
                world.tell_all();
                world.send_packet(2, 3);
                let first = world.run_until(ms(2000), |it| !it.arrivals(2, 3).is_empty());
                assert!(first, "{a:?} x {b:?}: no packet");
                let to_first = world.elapsed();
                world.run_until(ms(5000), |it| it.is_direct(2, 3) && it.is_direct(3, 2));
                let to_direct = world.elapsed();
                world.run_with_traffic(Duration::from_secs(30), 2, 3);

                let expect = can_punch(a, b);
                for (from, to) in [(2, 3), (3, 2)] {
                    assert_eq!(world.is_direct(from, to), expect, "{a:?} x {b:?}");
                    assert_eq!(world.is_relayed(from, to), !expect, "{a:?} x {b:?}");
                }
                // One way takes 20 ms. With an open end: ping, pong, initiation, response, packet.
                let limit = match (a, b) {
                    (Kind::Open, _) | (_, Kind::Open) => ms(150),
                    _ => ms(500),
                };
                assert!(to_first <= limit, "{a:?} x {b:?}: first after {to_first:?}");
                if expect {
                    assert!(
                        to_direct <= ms(700),
                        "{a:?} x {b:?}: direct after {to_direct:?}"
                    );
                }
                for (from, to) in [(2, 3), (3, 2)] {
                    // Questions within their budget, and an answer to each of the peer's.
                    let all = world.questions(from, to);
                    let times: Vec<_> = all.iter().map(|(at, _)| *at).collect();
                    assert!(most_in_a_second(&times) <= 2 * PER_SECOND_MAX);
                    let places: BTreeSet<_> = all.iter().map(|(_, to)| *to).collect();
                    assert!(places.len() <= DESTINATIONS_MAX);
                    // By a relay one question each second, direct one in three.
                    let most = if expect { 120 } else { 150 };
                    assert!(all.len() < most, "{a:?} x {b:?}: {} messages", all.len());
                }
                // No packet was lost by the change from relay to direct.
                assert_eq!(world.arrivals(2, 3).len(), 121, "{a:?} x {b:?}");
            }
        }
    }
}

#[test]
fn a_node_that_stays_relayed_says_why() {
    for (a, b, expect) in [
        (
            Kind::Symmetric,
            Kind::PortRestricted,
            NotDirect::OwnNatVaries,
        ),
        (
            Kind::PortRestricted,
            Kind::Symmetric,
            NotDirect::PeerNatVaries,
        ),
        (Kind::Symmetric, Kind::Symmetric, NotDirect::BothNatsVary),
    ] {
        let mut world = world(1, a, b);
        world.tell_all();
        world.run_for(Duration::from_secs(10));
        let peer = world.hosts[3].id;
        assert_eq!(world.hosts[2].node.finder().why(peer), Some(expect));
    }
    let mut world = world(1, Kind::PortRestricted, Kind::FullCone);
    world.tell_all();
    world.run_for(Duration::from_secs(10));
    let peer = world.hosts[3].id;
    assert_eq!(world.hosts[2].node.finder().why(peer), None);
}

#[test]
fn two_observers_tell_what_a_nat_does() {
    for (kind, expect) in [
        (Kind::Open, NatMapping::Same),
        (Kind::PortRestricted, NatMapping::Same),
        (Kind::Symmetric, NatMapping::Varies),
    ] {
        let mut world = world(1, kind, Kind::Open);
        world.tell_all();
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.hosts[2].node.finder().nat_mapping(), expect);
    }
}

#[test]
fn a_reflexive_address_is_published_once() {
    let mut world = world(1, Kind::PortRestricted, Kind::Open);
    world.tell_all();
    world.run_for(Duration::from_secs(1));
    let endpoints = world.hosts[2].node.finder().endpoints();
    assert_eq!(endpoints.len(), 2, "{endpoints:?}");
    assert_eq!(endpoints[0].ip().to_string(), "198.51.100.1");
    assert_eq!(endpoints[1], world.hosts[2].address);
}

#[test]
fn two_nodes_behind_one_nat_meet_on_their_own_network() {
    let mut world = World::new(1);
    world.host(Kind::Open);
    let a = world.host(Kind::PortRestricted);
    let b = world.host_behind(0);
    world.tell_all();
    world.send_packet(a, b);
    assert!(world.run_until(ms(300), |it| !it.arrivals(a, b).is_empty()));
    world.run_for(Duration::from_secs(5));
    let to = world.hosts[b].address;
    assert_eq!(world.kind(a, b), bastide_api::v1::PathKind::Direct { to });
}

#[test]
fn a_node_that_is_reachable_relays_without_being_declared() {
    // Both symmetric; the only third is behind a full cone, and nobody is public.
    let mut world = World::new(1);
    let relay = world.host(Kind::FullCone);
    let a = world.host(Kind::Symmetric);
    let b = world.host(Kind::Symmetric);
    // The relay's outside address is known from elsewhere: it opens its own mapping.
    let outside = std::net::SocketAddr::from(([198, 51, 100, 1], super::world::PORT));
    let inside = world.hosts[relay].address;
    let now = world.now;
    world.nats[0].outbound(
        now,
        inside,
        std::net::SocketAddr::from(([203, 0, 113, 99], 1)),
    );
    let mut records: Vec<_> = [relay, a, b].iter().map(|at| world.record(*at)).collect();
    records[0].candidates.push(outside);
    for host in [relay, a, b] {
        world.tell_these(host, &records);
    }
    world.send_packet(a, b);
    assert!(world.run_until(ms(700), |it| !it.arrivals(a, b).is_empty()));
    assert!(world.is_relayed(a, b));
}

#[test]
fn questions_to_a_dead_peer_stay_within_their_budget() {
    let mut world = world(1, Kind::Symmetric, Kind::PortRestricted);
    world.hosts[3].is_up = false;
    let mut peer = world.record(3);
    peer.candidates = (1..=200)
        .map(|port| std::net::SocketAddr::from(([198, 51, 100, 200], port)))
        .collect();
    let mut peers = vec![world.record(0), world.record(1), peer.clone()];
    world.tell_these(2, &peers);
    world.run_for(Duration::from_secs(20));
    // Others every second: no way round the budget.
    for round in 0..20u16 {
        peers[2].candidates = (1..=16)
            .map(|port| std::net::SocketAddr::from(([198, 51, 100, 201], round * 16 + port)))
            .collect();
        world.tell_these(2, &peers);
        world.run_for(Duration::from_secs(1));
    }
    let all = world.questions(2, 3);
    let times: Vec<_> = all.iter().map(|(at, _)| *at).collect();
    assert!(most_in_a_second(&times) <= PER_SECOND_MAX);
    let places: BTreeSet<_> = all.iter().map(|(_, to)| *to).collect();
    assert!(places.len() <= DESTINATIONS_MAX, "{}", places.len());
    // The NAT holds one mapping for each, and those for the relays.
    assert!(world.nats[0].mappings() <= DESTINATIONS_MAX + 2);
    assert_eq!(world.kind(2, 3), bastide_api::v1::PathKind::None);
}

#[test]
fn an_idle_network_is_quiet_and_stays_reachable() {
    let mut world = world(1, Kind::PortRestricted, Kind::PortRestricted);
    world.tell_all();
    world.run_for(Duration::from_secs(30));
    assert!(world.is_direct(2, 3));
    world.seen.clear();
    world.run_for(Duration::from_mins(5));
    // Both ask and answer, every 15 s.
    let messages = world.questions(2, 3).len();
    assert!((30..=44).contains(&messages), "{messages} messages");
    world.send_packet(3, 2);
    let sent = world.now;
    assert!(world.run_until(ms(200), |it| !it.arrivals(3, 2).is_empty()));
    assert!(world.now - sent <= ms(70), "{:?}", world.now - sent);
}

#[test]
fn twenty_nodes_find_each_other_and_then_keep_quiet() {
    let mut world = World::new(5);
    for at in 0..20 {
        world.host(KINDS[if at < 4 { 0 } else { 1 + at % 3 }]);
    }
    world.tell_all();
    world.run_for(Duration::from_secs(10));
    for a in 0..20 {
        for b in (0..20).filter(|b| *b != a) {
            let (kind_a, kind_b) = (world.nat_kind(a), world.nat_kind(b));
            assert_eq!(
                world.is_direct(a, b),
                can_punch(kind_a, kind_b),
                "{a} {kind_a:?} to {b} {kind_b:?}: {:?}",
                world.kind(a, b)
            );
            assert!(world.is_direct(a, b) || world.is_relayed(a, b));
        }
    }
    // Sessions stand and nothing is sent: what goes on is questions and binds, and their answers.
    world.run_for(Duration::from_secs(40));
    world.seen.clear();
    world.run_for(Duration::from_mins(1));
    let each = world.seen.len() / 20 / 60;
    assert!(each <= 5, "{each} datagrams per node and second");
}
