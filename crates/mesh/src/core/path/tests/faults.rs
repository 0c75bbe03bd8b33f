//! What breaks, and how long the mesh takes to mend it.

use std::net::Ipv4Addr;
use std::time::Duration;

use bastide_api::v1::PathKind;

use super::nat::Kind;
use super::world::{World, ms};

fn world(a: Kind, b: Kind) -> World {
    let mut world = World::new(7);
    world.host(Kind::Open);
    world.host(Kind::Open);
    world.host(a);
    world.host(b);
    world.tell_all();
    world.send_packet(2, 3);
    world.run_with_traffic(Duration::from_secs(10), 2, 3);
    assert!(!world.arrivals(2, 3).is_empty());
    world
}

/// The longest time without a packet since `since`.
pub fn gap(world: &World, from: usize, to: usize, since: Duration) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for at in world.arrivals(from, to) {
        if since <= at {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
    }
    longest.max(world.elapsed().saturating_sub(last))
}

fn relay_of(world: &World) -> usize {
    let PathKind::Relayed { via } = world.kind(2, 3) else {
        panic!("the pair is not relayed");
    };
    world.hosts.iter().position(|host| host.id == via).unwrap()
}

#[test]
fn when_a_relay_dies_another_takes_over() {
    let mut world = world(Kind::Symmetric, Kind::Symmetric);
    let relay = relay_of(&world);
    world.hosts[relay].is_up = false;
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(30), 2, 3);
    assert_ne!(relay_of(&world), relay);
    for (from, to) in [(2, 3), (3, 2)] {
        let gap = gap(&world, from, to, since);
        assert!(gap <= ms(9000), "{gap:?}");
    }
}

#[test]
fn when_a_relay_restarts_traffic_goes_on() {
    let mut world = world(Kind::Symmetric, Kind::Symmetric);
    let relay = relay_of(&world);
    world.restart(relay, 2);
    world.tell(relay);
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(40), 2, 3);
    let gap = gap(&world, 2, 3, since);
    assert!(gap <= ms(9000), "{gap:?}");
}

#[test]
fn when_a_direct_way_dies_the_relay_takes_over_without_a_handshake() {
    let mut world = world(Kind::PortRestricted, Kind::PortRestricted);
    assert!(world.is_direct(2, 3));
    let (PathKind::Direct { to: b }, PathKind::Direct { to: a }) =
        (world.kind(2, 3), world.kind(3, 2))
    else {
        panic!("not direct");
    };
    world.cut = vec![(a, b), (b, a)];
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(30), 2, 3);
    assert!(world.is_relayed(2, 3) && world.is_relayed(3, 2));
    for (from, to) in [(2, 3), (3, 2)] {
        let gap = gap(&world, from, to, since);
        assert!(gap <= ms(8000), "{gap:?}");
    }
    // And back, when it works again.
    world.cut.clear();
    world.run_with_traffic(Duration::from_mins(2), 2, 3);
    assert!(world.is_direct(2, 3));
}

#[test]
fn a_node_that_changes_its_network_is_back_within_two_seconds() {
    let mut world = world(Kind::PortRestricted, Kind::PortRestricted);
    world.nats[0].restart(Ipv4Addr::new(198, 51, 100, 77));
    let other = std::net::SocketAddr::from(([192, 168, 0, 99], super::world::PORT));
    world.hosts[2].address = other;
    let now = world.now;
    world.hosts[2].node.handle_network_change(now, vec![other]);
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(20), 2, 3);
    assert!(world.is_direct(2, 3) && world.is_direct(3, 2));
    for (from, to) in [(2, 3), (3, 2)] {
        let gap = gap(&world, from, to, since);
        assert!(gap <= ms(2000), "{from} to {to}: {gap:?}");
    }
}

#[test]
fn a_nat_that_forgets_everything_is_survived() {
    for kind in [Kind::PortRestricted, Kind::Symmetric] {
        let mut world = world(kind, Kind::PortRestricted);
        let outside = world.nats[0].outside;
        world.nats[0].restart(outside);
        let since = world.elapsed();
        world.run_with_traffic(Duration::from_secs(40), 2, 3);
        for (from, to) in [(2, 3), (3, 2)] {
            let gap = gap(&world, from, to, since);
            assert!(gap <= ms(9000), "{kind:?}, {from} to {to}: {gap:?}");
        }
    }
}

#[test]
fn loss_does_not_move_a_working_path() {
    let mut world = world(Kind::PortRestricted, Kind::PortRestricted);
    world.loss = 100;
    let before = world.arrivals(2, 3).len();
    world.run_with_traffic(Duration::from_mins(5), 2, 3);
    assert!(world.is_direct(2, 3) && world.is_direct(3, 2));
    let arrived = world.arrivals(2, 3).len() - before;
    assert!(arrived > 1000, "{arrived} of 1200");
}

#[test]
fn a_lossy_start_only_takes_longer() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        for kind in [
            Kind::Open,
            Kind::Open,
            Kind::PortRestricted,
            Kind::PortRestricted,
        ] {
            world.host(kind);
        }
        world.loss = 200;
        world.tell_all();
        world.send_packet(2, 3);
        let found = world.run_until(Duration::from_secs(20), |it| {
            it.is_direct(2, 3) && it.is_direct(3, 2)
        });
        assert!(found, "seed {seed}");
    }
}

#[test]
fn a_restarted_node_is_found_again() {
    let mut world = world(Kind::PortRestricted, Kind::PortRestricted);
    world.restart(3, 2);
    world.tell(3);
    let since = world.elapsed();
    world.run_with_traffic(Duration::from_secs(30), 2, 3);
    assert!(world.is_direct(2, 3) && world.is_direct(3, 2));
    let gap = gap(&world, 3, 2, since);
    assert!(gap <= ms(6000), "{gap:?}");
}

#[test]
fn a_peer_that_is_removed_is_forgotten_and_one_that_comes_back_is_found() {
    let mut world = world(Kind::PortRestricted, Kind::PortRestricted);
    let others = [world.record(0), world.record(1)];
    world.tell_these(2, &others);
    let gone = world.hosts[3].id;
    assert!(!world.hosts[2].node.paths().contains_key(&gone));
    world.run_for(Duration::from_mins(1));
    assert_eq!(world.kind(3, 2), PathKind::None);
    world.tell(2);
    let found = world.run_until(Duration::from_secs(5), |it| {
        it.is_direct(2, 3) && it.is_direct(3, 2)
    });
    assert!(found);
}
