use bastide_api::{Secret, UnixTime};

use super::*;
use crate::core::wireguard::{Entropy, Machine, MachineOptions, Roaming, Tai64N};

struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        buffer.fill(self.0);
    }
}

fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name; 16])
}

fn address(name: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, name], 51820))
}

fn machine(now: Instant, name: u8) -> Machine {
    let options = MachineOptions {
        wall: UnixTime::from_millis(1_790_000_000_000),
        timestamp_floor: Tai64N::ZERO,
        roaming: Roaming::Off,
        mtu: 1420,
    };
    let mut machine = Machine::new(now, options, Box::new(Counting(name)));
    machine.set_private_key(now, Some(Secret::new([name; 32])));
    machine
}

fn key(now: Instant, name: u8) -> WireGuardKey {
    machine(now, name).public_key().unwrap()
}

/// A relay, node 9, with members 1, 2 and 3, all heard; 1 is bound with 2.
fn relay(now: Instant, quota: Quota) -> Relay {
    let mut relay = Relay::new(now, node(9), quota);
    let members = [1, 2, 3].map(|name| MemberKey {
        node: node(name),
        wireguard: key(now, name),
    });
    relay.set_members(now, &members);
    for name in [1, 2, 3] {
        relay.handle_heard(now, node(name), address(name), true);
    }
    relay.handle_bind(now, node(1), node(2), &[]).unwrap();
    relay
}

/// Initiation, response and keepalive of a handshake between 1 and 2.
fn handshake(now: Instant) -> [Vec<u8>; 3] {
    let (mut one, mut two) = (machine(now, 1), machine(now, 2));
    let (key_one, key_two) = (one.public_key().unwrap(), two.public_key().unwrap());
    one.add_peer(key_two).unwrap();
    two.add_peer(key_one).unwrap();
    one.set_endpoint(now, &key_two, Some(address(9))).unwrap();
    one.start_handshake(now, &key_two).unwrap();
    let initiation = one.poll_transmit().unwrap().datagram;
    two.handle_datagram(now, address(9), &mut initiation.clone())
        .unwrap();
    let response = two.poll_transmit().unwrap().datagram;
    one.handle_datagram(now, address(9), &mut response.clone())
        .unwrap();
    let keepalive = one.poll_transmit().unwrap().datagram;
    [initiation, response, keepalive]
}

#[test]
fn a_handshake_teaches_the_relay_where_data_goes() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    let [initiation, response, keepalive] = handshake(now);
    let unknown = Err(Discard::UnknownIndex);
    assert_eq!(relay.forward(now, address(1), &keepalive), unknown);
    assert_eq!(relay.forward(now, address(2), &response), unknown);
    assert_eq!(relay.forward(now, address(1), &initiation), Ok(address(2)));
    assert_eq!(relay.forward(now, address(2), &response), Ok(address(1)));
    assert_eq!(relay.forward(now, address(1), &keepalive), Ok(address(2)));
    // The index leads there for its sender alone.
    assert_eq!(relay.forward(now, address(3), &keepalive), unknown);
    let dropped = relay.status().dropped;
    assert_eq!(dropped, BTreeMap::from([(Discard::UnknownIndex, 3)]));
}

#[test]
fn indices_told_with_a_bind_work_without_a_handshake() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    let [_, _, keepalive] = handshake(now);
    let index = u32::from_le_bytes(keepalive[4..8].try_into().unwrap());
    relay.handle_bind(now, node(1), node(2), &[index]).unwrap();
    assert_eq!(relay.forward(now, address(1), &keepalive), Ok(address(2)));
}

#[test]
fn an_initiation_goes_only_to_whom_it_is_for_and_bound_with() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    let [initiation, ..] = handshake(now);
    // For 2, from a member that is not bound with 2, and from nobody.
    let not_bound = Err(Discard::NotBound);
    assert_eq!(relay.forward(now, address(3), &initiation), not_bound);
    let stranger = Err(Discard::UnknownSource);
    assert_eq!(relay.forward(now, address(8), &initiation), stranger);
    // A mac1 for nobody.
    let mut other = initiation.clone();
    other[120] ^= 1;
    assert_eq!(relay.forward(now, address(1), &other), not_bound);
}

#[test]
fn a_bind_holds_in_both_directions_and_ends() {
    let start = Instant::now();
    let mut relay = relay(start, Quota::default());
    let mut now = start;
    while now < start + BIND_LIFE {
        for (from, to) in [(1, 2), (2, 1)] {
            let result = relay.forward_discovery(now, address(from), node(from), node(to), 100);
            assert_eq!(result, Ok(address(to)));
        }
        now += HEARD_LIFE / 2;
        for name in [1, 2] {
            relay.handle_heard(now, node(name), address(name), true);
        }
        relay.handle_timeout(now);
    }
    let result = relay.forward_discovery(now, address(1), node(1), node(2), 100);
    assert_eq!(result, Err(Discard::NotBound));
    relay.handle_timeout(now + SWEEP_EVERY);
    assert_eq!(relay.status().pairs, 0);
}

#[test]
fn a_sender_cannot_speak_for_another() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    let result = relay.forward_discovery(now, address(3), node(1), node(2), 100);
    assert_eq!(result, Err(Discard::NotBound));
}

#[test]
fn a_target_that_was_not_heard_lately_is_not_here() {
    let start = Instant::now();
    let mut relay = relay(start, Quota::default());
    let now = start + HEARD_LIFE;
    relay.handle_heard(now, node(1), address(1), true);
    let bound = relay.handle_bind(now, node(1), node(2), &[]);
    assert_eq!(bound, Err(Unbound::NotHere));
    let result = relay.forward_discovery(now, address(1), node(1), node(2), 100);
    assert_eq!(result, Err(Discard::TargetSilent));
    for target in [1, 9, 77] {
        let bound = relay.handle_bind(now, node(1), node(target), &[]);
        assert_eq!(bound, Err(Unbound::NotHere), "{target}");
    }
}

#[test]
fn a_member_that_moves_is_followed_with_its_next_word() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    // A question by another way does not move it, its word that it uses that way does.
    relay.handle_heard(now, node(2), address(22), false);
    let to_two = |relay: &mut Relay| relay.forward_discovery(now, address(1), node(1), node(2), 9);
    assert_eq!(to_two(&mut relay), Ok(address(2)));
    relay.handle_heard(now, node(2), address(22), true);
    assert_eq!(to_two(&mut relay), Ok(address(22)));
    let old = relay.forward_discovery(now, address(2), node(2), node(1), 9);
    assert_eq!(old, Err(Discard::UnknownSource));
    let new = relay.forward_discovery(now, address(22), node(2), node(1), 9);
    assert_eq!(new, Ok(address(1)));
}

#[test]
fn a_removed_member_is_gone_with_its_pairs_and_routes() {
    let now = Instant::now();
    let mut relay = relay(now, Quota::default());
    relay.handle_bind(now, node(1), node(2), &[5]).unwrap();
    let members = [1, 3].map(|name| MemberKey {
        node: node(name),
        wireguard: key(now, name),
    });
    relay.set_members(now, &members);
    assert_eq!(relay.status().pairs, 0);
    assert!(relay.routes.is_empty() && !relay.sources.contains_key(&address(2)));
    let bound = relay.handle_bind(now, node(2), node(1), &[]);
    assert_eq!(bound, Err(Unbound::NotHere));
}

#[test]
fn each_member_and_all_together_have_a_share() {
    let now = Instant::now();
    let share = |packets| Share {
        packets,
        bytes: 1_000_000,
    };
    let quota = Quota {
        member: share(10),
        total: share(15),
    };
    let mut relay = relay(now, quota);
    let mut send = |from: u8, to: u8, now| {
        let sent =
            (0..20).map(|_| relay.forward_discovery(now, address(from), node(from), node(to), 100));
        let results: Vec<_> = sent.collect();
        let passed = results.iter().filter(|result| result.is_ok()).count();
        (passed, *results.last().unwrap())
    };
    assert_eq!(send(1, 2, now), (10, Err(Discard::MemberShare)));
    assert_eq!(send(2, 1, now), (5, Err(Discard::TotalShare)));
    let later = now + Duration::from_secs(1);
    assert_eq!(send(1, 2, later), (10, Err(Discard::MemberShare)));
}

#[test]
fn bytes_are_limited_as_packets_are() {
    let now = Instant::now();
    let share = Share {
        packets: 1000,
        bytes: 5000,
    };
    let quota = Quota {
        member: share,
        total: share,
    };
    let mut relay = relay(now, quota);
    let mut passed = 0;
    while relay
        .forward_discovery(now, address(1), node(1), node(2), 400)
        .is_ok()
    {
        passed += 1;
    }
    assert_eq!(passed, 12);
}

#[test]
fn a_relay_with_nothing_to_give_refuses() {
    let now = Instant::now();
    let nothing = Share {
        packets: 0,
        bytes: 0,
    };
    let quota = Quota {
        member: nothing,
        total: nothing,
    };
    let mut relay = Relay::new(now, node(9), quota);
    let bound = relay.handle_bind(now, node(1), node(2), &[]);
    assert_eq!(bound, Err(Unbound::Refused));
}

#[test]
fn tables_do_not_grow_without_limit() {
    let now = Instant::now();
    let mut relay = Relay::new(now, node(9), Quota::default());
    let count = PAIRS_PER_MEMBER_MAX + 10;
    let id = |at: usize| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(at as u64 + 1).to_be_bytes());
        NodeId::from_bytes(bytes)
    };
    let members: Vec<_> = (0..count)
        .map(|at| MemberKey {
            node: id(at),
            wireguard: WireGuardKey::from_bytes([7; 32]),
        })
        .collect();
    relay.set_members(now, &members);
    let mut full = 0;
    for at in 0..count {
        let port = u16::try_from(at + 1).unwrap();
        relay.handle_heard(now, id(at), SocketAddr::from(([192, 0, 2, 1], port)), true);
        let bound = relay.handle_bind(now, id(0), id(at), &[]);
        full += usize::from(bound == Err(Unbound::Full));
    }
    assert_eq!(full, 9);
    for index in 0..1000 {
        relay.learn(id(0), index, id(1));
        relay.learn(id(0), index, id(1));
    }
    assert_eq!(relay.routes.len(), INDICES_MAX);
}
