//! Networks on their bad days: what is noticed when, when traffic goes on, and what is told of it.

use std::net::SocketAddr;
use std::time::Duration;

use bastide_api::paths::{NotDirect, PathChange, PathReason, RelayState};
use bastide_api::v1::PathKind;

use super::faults::gap;
use super::nat::Kind;
use super::world::{World, ms};

/// Three relays, then two hosts that have talked: they are 3 and 4.
fn world(seed: u64, a: Kind, b: Kind) -> World {
    let mut world = World::new(seed);
    for kind in [Kind::Open, Kind::Open, Kind::Open, a, b] {
        world.host(kind);
    }
    world.tell_all();
    world.send_packet(3, 4);
    world.run_with_traffic(Duration::from_secs(10), 3, 4);
    assert!(!world.arrivals(3, 4).is_empty());
    world
}

const A: usize = 3;
const B: usize = 4;

/// The direct addresses of the pair, as each sees the other: from A to B, and from B to A.
fn direct(world: &World) -> [(SocketAddr, SocketAddr); 2] {
    let (PathKind::Direct { to: b }, PathKind::Direct { to: a }) =
        (world.kind(A, B), world.kind(B, A))
    else {
        panic!("the pair is not direct");
    };
    [(a, b), (b, a)]
}

fn reasons(world: &World, from: usize, to: usize) -> Vec<PathReason> {
    let events = world.events(from, to);
    events.into_iter().map(|event| event.reason).collect()
}

#[test]
fn when_a_relay_dies_traffic_goes_on_by_another_within_three_seconds() {
    let mut longest = Duration::ZERO;
    for seed in 0..12 {
        let mut world = world(seed, Kind::Symmetric, Kind::Symmetric);
        // At any moment between two questions.
        world.run_with_traffic(ms(250 * (seed % 5)), A, B);
        world.run_for(ms(19 * seed));
        let PathKind::Relayed { via } = world.kind(A, B) else {
            panic!("seed {seed}: not relayed");
        };
        let relay = world.hosts.iter().position(|host| host.id == via).unwrap();
        world.hosts[relay].is_up = false;
        let since = world.elapsed();
        world.run_with_traffic(Duration::from_secs(20), A, B);
        for (from, to) in [(A, B), (B, A)] {
            let gap = gap(&world, from, to, since);
            longest = longest.max(gap);
            assert!(gap <= ms(3000), "seed {seed}: {gap:?}");
        }
        let told = world.events(A, B).into_iter().any(|event| {
            matches!(
                event.change,
                PathChange::Way { from: PathKind::Relayed { via: old }, to: PathKind::Relayed { .. } }
                    if old == via
            ) && matches!(event.reason, PathReason::NoAnswer | PathReason::PeerMoved)
        });
        assert!(told, "seed {seed}: {:?}", world.events(A, B));
    }
    eprintln!("relay dies: longest gap {longest:?}");
}

#[test]
fn when_two_relays_die_at_once_the_third_serves_within_six_seconds() {
    let mut world = world(2, Kind::Symmetric, Kind::Symmetric);
    let used = world.kind(A, B);
    let PathKind::Relayed { via } = used else {
        panic!("not relayed");
    };
    let used = world.hosts.iter().position(|host| host.id == via).unwrap();
    let other = (used + 1) % 3;
    world.hosts[used].is_up = false;
    world.hosts[other].is_up = false;
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(20), A, B);
    for (from, to) in [(A, B), (B, A)] {
        let gap = gap(&world, from, to, since);
        assert!(gap <= ms(6000), "{gap:?}");
    }
}

#[test]
fn an_uplink_that_comes_back_is_used_within_seven_seconds_however_long_it_was_away() {
    let mut longest = Duration::ZERO;
    for (a, b) in [
        (Kind::Open, Kind::Open),
        (Kind::PortRestricted, Kind::PortRestricted),
        (Kind::Symmetric, Kind::Symmetric),
    ] {
        for away in [1, 2, 3, 5, 10, 40, 41, 43, 200, 203, 3600] {
            let mut world = world(away, a, b);
            world.unplugged.insert(A);
            let ends = Duration::from_secs(away.min(30));
            world.run_with_traffic(ends, A, B);
            world.run_for(Duration::from_secs(away.saturating_sub(60)));
            world.run_with_traffic(ends, A, B);
            // At any moment between two questions.
            world.run_for(ms(away * 7919 % 5000));
            if away > 20 {
                assert_eq!(world.kind(A, B), PathKind::None);
                assert_eq!(world.kind(B, A), PathKind::None);
                assert!(reasons(&world, A, B).contains(&PathReason::NoAnswer));
            }
            world.unplugged.clear();
            let since = world.elapsed();
            world.run_with_traffic(Duration::from_secs(30), A, B);
            for (from, to) in [(A, B), (B, A)] {
                let gap = gap(&world, from, to, since);
                longest = longest.max(gap);
                assert!(gap <= ms(7000), "{a:?} x {b:?}, away {away} s: {gap:?}");
            }
        }
    }
    eprintln!("uplink back: longest gap {longest:?}");
}

#[test]
fn a_path_that_is_blocked_one_way_is_left_for_a_relay_by_both_ends() {
    for blocked in 0..2 {
        for seed in 0..5 {
            let mut world = world(seed, Kind::PortRestricted, Kind::PortRestricted);
            world.cut.push(direct(&world)[blocked]);
            let since = world.elapsed();
            world.run_with_traffic(Duration::from_secs(30), A, B);
            assert!(
                world.is_relayed(A, B) && world.is_relayed(B, A),
                "seed {seed}"
            );
            for (from, to) in [(A, B), (B, A)] {
                let gap = gap(&world, from, to, since);
                assert!(gap <= ms(7000), "seed {seed}, {from} to {to}: {gap:?}");
            }
            assert!(reasons(&world, A, B).contains(&PathReason::NoAnswer));
            let story = world.hosts[A]
                .node
                .finder()
                .story(world.now, world.hosts[B].id);
            assert_eq!(story.unwrap().not_direct, Some(NotDirect::NoAnswer));
            // And back, when it works again.
            world.cut.clear();
            world.run_with_traffic(Duration::from_mins(3), A, B);
            assert!(
                world.is_direct(A, B) && world.is_direct(B, A),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_path_that_loses_two_thirds_one_way_is_left_for_a_relay_within_a_minute() {
    for seed in 0..5 {
        let mut world = world(seed, Kind::PortRestricted, Kind::PortRestricted);
        let [there, _] = direct(&world);
        world.lossy.insert(there, 667);
        let left = world.now + Duration::from_mins(1);
        while world.now < left && world.is_direct(A, B) {
            world.run_with_traffic(Duration::from_secs(1), A, B);
        }
        assert!(
            world.is_relayed(A, B),
            "seed {seed}: {:?}",
            world.events(A, B)
        );
        world.run_with_traffic(Duration::from_secs(5), A, B);
        let before = world.arrivals(A, B).len();
        world.run_with_traffic(Duration::from_mins(1), A, B);
        let arrived = world.arrivals(A, B).len() - before;
        assert!(arrived >= 235, "seed {seed}: {arrived} of 240");
        let reasons = reasons(&world, A, B);
        let why = [PathReason::Lossy, PathReason::NoAnswer];
        assert!(
            reasons.iter().any(|reason| why.contains(reason)),
            "{reasons:?}"
        );
        // It is tried again, and used when it is good.
        world.lossy.clear();
        world.run_with_traffic(Duration::from_mins(5), A, B);
        assert!(
            world.is_direct(A, B) && world.is_direct(B, A),
            "seed {seed}"
        );
    }
}

/// The longest packet in the mesh whose datagram is no longer than this, over IPv4, of those that are
/// tried.
const FITS: [(usize, u16); 5] = [
    (1492, 1420),
    (1454, 1392),
    (1400, 1328),
    (1280, 1216),
    (576, 512),
];

#[test]
fn a_new_path_that_swallows_long_datagrams_carries_what_fits_within_two_seconds() {
    for (outer, inner) in FITS {
        for (a, b) in [
            (Kind::PortRestricted, Kind::PortRestricted),
            (Kind::Symmetric, Kind::Symmetric),
        ] {
            let mut world = World::new(4);
            for kind in [Kind::Open, Kind::Open, Kind::Open, a, b] {
                world.host(kind);
            }
            world.narrow.insert(B, outer);
            world.tell_all();
            let since = world.elapsed();
            world.run_with_long_traffic(Duration::from_secs(20), A, B);
            let arrivals = world.arrivals(A, B);
            let first = arrivals.first().copied().unwrap_or(Duration::MAX);
            assert!(first <= since + ms(2000), "{outer}, {a:?}: {first:?}");
            assert!(
                gap(&world, A, B, since + ms(2000)) <= ms(800),
                "{outer}, {a:?}"
            );
            assert_eq!(world.mtu(A, B), Some(inner), "{outer}, {a:?}");
            // Nothing is padded to more, so nothing vanishes any more.
            let before = world.vanished;
            world.run_with_long_traffic(Duration::from_secs(10), A, B);
            assert_eq!(world.vanished, before);
            assert_eq!(before > 0, inner < 1420, "{outer} is in the way, or is not");
        }
    }
}

#[test]
fn a_path_that_begins_to_swallow_long_datagrams_carries_traffic_again_within_five_seconds() {
    let mut longest = Duration::ZERO;
    for (outer, inner) in FITS {
        for (a, b) in [
            (Kind::PortRestricted, Kind::PortRestricted),
            (Kind::Symmetric, Kind::Symmetric),
        ] {
            let mut world = world(6, a, b);
            world.run_with_long_traffic(Duration::from_secs(5), A, B);
            assert_eq!(world.mtu(A, B), Some(1420));
            let kind = world.kind(A, B);
            world.narrow.insert(A, outer);
            let since = world.elapsed();
            world.run_with_long_traffic(Duration::from_secs(20), A, B);
            let gap = gap(&world, A, B, since);
            longest = longest.max(gap);
            assert!(gap <= ms(5000), "{outer}, {a:?}: {gap:?}");
            assert_eq!(world.mtu(A, B), Some(inner));
            // It is still the same path: not it is broken, only long packets are.
            assert_eq!(world.kind(A, B), kind);
            let told = reasons(&world, A, B).contains(&PathReason::LargeLost);
            assert_eq!(told, inner < 1420);
            // And more again, when more gets through.
            world.narrow.clear();
            world.run_with_long_traffic(Duration::from_secs(70), A, B);
            assert_eq!(world.mtu(A, B), Some(1420));
        }
    }
    eprintln!("size: longest gap {longest:?}");
}

#[test]
fn a_path_that_carries_less_than_any_size_is_told_as_the_smallest_and_stays() {
    let mut world = world(5, Kind::PortRestricted, Kind::PortRestricted);
    world.narrow.insert(A, 500);
    world.run_with_long_traffic(Duration::from_secs(30), A, B);
    assert_eq!(world.mtu(A, B), Some(512));
    assert!(world.is_direct(A, B) && world.is_direct(B, A));
    let before = world.arrivals(A, B).len();
    world.send_packet(A, B);
    assert!(world.run_until(ms(100), |it| it.arrivals(A, B).len() > before));
}

#[test]
fn loss_alone_lowers_no_mtu() {
    let mut world = world(8, Kind::PortRestricted, Kind::PortRestricted);
    world.loss = 50;
    for _ in 0..60 {
        world.run_with_long_traffic(Duration::from_secs(10), A, B);
        assert_eq!(world.mtu(A, B), Some(1420), "{:?}", world.events(A, B));
    }
}

#[test]
fn an_idle_path_is_not_asked_by_long_questions() {
    let mut world = world(9, Kind::PortRestricted, Kind::PortRestricted);
    world.run_for(Duration::from_secs(30));
    world.seen.clear();
    world.run_for(Duration::from_mins(5));
    let long = world.seen.iter().filter(|seen| seen.datagram.len() > 512);
    assert_eq!(long.count(), 0);
    world.run_with_traffic(Duration::from_secs(10), A, B);
    let long = world.seen.iter().filter(|seen| seen.datagram.len() > 512);
    assert!(long.count() > 0);
}

#[test]
fn two_halves_that_were_apart_are_whole_again_within_seven_seconds() {
    let kinds = [
        Kind::Open,
        Kind::Open,
        Kind::PortRestricted,
        Kind::Symmetric,
    ];
    for apart in [15, 300] {
        let mut world = World::new(apart);
        for _ in 0..2 {
            for kind in kinds {
                world.host(kind);
            }
        }
        world.tell_all();
        world.run_with_traffic(Duration::from_secs(10), 2, 6);
        let is_other_half = |a: usize, b: usize| (a < 4) != (b < 4);
        let outside: Vec<SocketAddr> = (0..8)
            .map(|host| match world.hosts[host].nat {
                None => world.hosts[host].address,
                Some(nat) => SocketAddr::new(world.nats[nat].outside.into(), 0),
            })
            .collect();
        world.apart = Some((outside[..4].to_vec(), outside[4..].to_vec()));
        world.run_with_traffic(Duration::from_secs(apart), 2, 6);
        let pairs: Vec<(usize, usize)> = (0..8)
            .flat_map(|a| (0..8).map(move |b| (a, b)))
            .filter(|(a, b)| a != b)
            .collect();
        for (a, b) in &pairs {
            let is_lost = world.kind(*a, *b) == PathKind::None;
            // A pair without traffic may not have noticed within a quarter of a minute.
            if apart > 60 || !is_other_half(*a, *b) {
                assert_eq!(is_lost, is_other_half(*a, *b), "{a} to {b}");
            }
        }
        world.apart = None;
        let healed = world.elapsed();
        world.run_with_traffic(Duration::from_secs(7), 2, 6);
        let active = gap(&world, 2, 6, healed);
        assert!(active <= ms(7000), "apart {apart} s: {active:?}");
        world.run_with_traffic(Duration::from_secs(13), 2, 6);
        for (a, b) in &pairs {
            assert_ne!(world.kind(*a, *b), PathKind::None, "{a} to {b}, {apart} s");
        }
    }
}

#[test]
fn a_relays_address_is_never_taken_for_the_peers_own() {
    let mut world = world(1, Kind::Symmetric, Kind::Symmetric);
    let relay = relay_between(&world);
    let to = world.hosts[relay].address;
    // It may be heard of: the peer's datagrams come from there.
    let mut peers: Vec<_> = (0..5).map(|host| world.record(host)).collect();
    peers[B].candidates.push(to);
    world.tell_these(A, &peers);
    world.run_with_traffic(Duration::from_secs(30), A, B);
    let asked = world.questions(A, B);
    assert!(asked.iter().any(|(_, at)| *at == to), "it was asked there");
    assert!(world.is_relayed(A, B), "{:?}", world.kind(A, B));
    let story = world.hosts[A]
        .node
        .finder()
        .story(world.now, world.hosts[B].id)
        .unwrap();
    let heard = story.candidates.iter().find(|it| it.address == to).unwrap();
    assert!(heard.asked > 0 && heard.answered_ms.is_none(), "{heard:?}");
    assert!(!world.events(A, B).iter().any(|event| matches!(
        event.change,
        PathChange::Way { to: PathKind::Direct { to: taken }, .. } if taken == to
    )));
}

fn relay_between(world: &World) -> usize {
    let PathKind::Relayed { via } = world.kind(A, B) else {
        panic!("the pair is not relayed");
    };
    world.hosts.iter().position(|host| host.id == via).unwrap()
}

#[test]
fn a_story_names_candidates_relays_and_the_last_events_and_no_more() {
    let mut world = world(3, Kind::Symmetric, Kind::Symmetric);
    let tell = |world: &World| {
        let finder = world.hosts[A].node.finder();
        finder.story(world.now, world.hosts[B].id).unwrap()
    };
    let story = tell(&world);
    assert_eq!(story.fact, world.hosts[A].node.paths()[&world.hosts[B].id]);
    assert_eq!(story.not_direct, Some(NotDirect::BothNatsVary));
    assert!(story.is_active && !story.candidates.is_empty());
    let bound: Vec<_> = story
        .relays
        .iter()
        .filter(|it| it.state == RelayState::Bound)
        .collect();
    assert_eq!(bound.len(), 1);
    assert_eq!(
        story.fact.kind,
        PathKind::Relayed {
            via: bound[0].relay
        }
    );
    assert_eq!(story.relays.len(), 3);
    assert!(story.candidates.iter().all(|it| it.answered_ms.is_none()));
    // Also those that the peer has told anew.
    assert!(story.candidates.iter().all(|it| it.asked >= 6), "{story:?}");
    // Whatever goes on, the book is thin.
    for _ in 0..20 {
        let relay = relay_between(&world);
        world.hosts[relay].is_up = false;
        world.run_with_traffic(Duration::from_secs(15), A, B);
        world.hosts[relay].is_up = true;
        world.run_with_traffic(Duration::from_secs(15), A, B);
    }
    let events = tell(&world).events;
    assert_eq!(events.len(), 16);
    assert!(events.windows(2).all(|two| two[0].ago_ms >= two[1].ago_ms));
}
