//! Strangers, replays and garbage.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bastide_api::v1::PathKind;
use proptest::prelude::*;

use super::nat::Kind;
use super::world::{Seeded, World, ms};
use crate::core::path::message::{Message, Transaction, Verdict, encode};
use crate::core::path::seal::{OwnKey, PairKeys, Passage};
use crate::core::path::{DESTINATIONS_MAX, Discard, PER_SECOND_MAX};
use crate::core::relay;

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 200], 999))
}

/// Two relays and two nodes behind home NATs, which have talked.
fn world() -> World {
    let mut world = World::new(3);
    world.host(Kind::Open);
    world.host(Kind::Open);
    world.host(Kind::PortRestricted);
    world.host(Kind::Symmetric);
    world.tell_all();
    world.send_packet(2, 3);
    world.run_with_traffic(Duration::from_secs(5), 2, 3);
    world
}

/// Anything that a member can say, true or not.
fn message(random: &mut Seeded) -> Message {
    let node = |random: &mut Seeded| {
        let name = u8::try_from(random.draw() % 6).unwrap();
        bastide_api::NodeId::from_bytes([name; 16])
    };
    let address = |random: &mut Seeded| {
        let host = u8::try_from(random.draw() % 256).unwrap();
        let port = u16::try_from(random.draw() % 65536).unwrap();
        SocketAddr::from(([198, 51, 100, host], port))
    };
    let transaction = Transaction(random.draw().to_be_bytes());
    match random.draw() % 5 {
        0 => Message::Ping {
            transaction,
            via: (random.draw().is_multiple_of(2)).then(|| node(random)),
            selected: random.draw().is_multiple_of(2),
            padded: u16::try_from(random.draw() % 2000).unwrap(),
        },
        1 => Message::Pong {
            transaction,
            observed: address(random),
        },
        2 => Message::CallMe {
            answer: random.draw().is_multiple_of(2),
            varies: random.draw().is_multiple_of(2),
            candidates: (0..random.draw() % 17).map(|_| address(random)).collect(),
        },
        3 => Message::Bind {
            transaction,
            target: node(random),
            indices: vec![1, 2],
        },
        _ => Message::Bound {
            transaction,
            verdict: Verdict::Bound,
            rtt_us: 7,
        },
    }
}

fn discards(world: &World, host: usize) -> BTreeMap<Discard, u64> {
    world.hosts[host].node.finder().discards().clone()
}

#[test]
fn strangers_get_no_answer() {
    let mut world = world();
    // A node of another cluster knows where host 0 is, and its keys.
    let stranger = world.host(Kind::Open);
    let peers = [world.record(0), world.record(1)];
    world.tell_these(stranger, &peers);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.kind(stranger, 0), PathKind::None);
    let address = world.hosts[stranger].address;
    assert!(world.seen.iter().any(|seen| seen.host == stranger));
    assert!(world.seen.iter().all(|seen| seen.to != address));
    assert!(discards(&world, 0)[&Discard::Stranger] > 0);
}

#[test]
fn replayed_messages_change_nothing_and_get_no_answer() {
    let mut world = world();
    // What has arrived by now, as a listener on the wire would have it.
    let settled = world.now;
    world.run_for(ms(50));
    let of: Vec<_> = world
        .seen
        .iter()
        .filter(|seen| seen.at < settled)
        .map(|seen| (seen.to, seen.datagram.clone()))
        .collect();
    let paths = |world: &World| {
        let kinds = |host: usize| {
            let paths = world.hosts[host].node.paths();
            paths
                .into_values()
                .map(|fact| fact.kind)
                .collect::<Vec<_>>()
        };
        (0..4).map(kinds).collect::<Vec<_>>()
    };
    let before = paths(&world);
    for (to, datagram) in of {
        world.inject(elsewhere(), to, datagram);
    }
    world.run_for(ms(100));
    assert!(world.seen.iter().all(|seen| seen.to != elsewhere()));
    assert!(discards(&world, 0)[&Discard::Replayed] > 0);
    world.run_with_traffic(Duration::from_secs(5), 2, 3);
    assert_eq!(paths(&world), before);
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let mut world = world();
    let sent = world
        .seen
        .iter()
        .rev()
        .find(|seen| seen.host == 2 && seen.datagram.starts_with(&[0xb5]))
        .map(|seen| seen.datagram.clone())
        .unwrap();
    world.hosts[2].is_up = false;
    let (to, sent_before) = (world.hosts[0].address, world.seen.len());
    for bit in 0..sent.len() * 8 {
        let mut datagram = sent.clone();
        datagram[bit / 8] ^= 1 << (bit % 8);
        world.inject(elsewhere(), to, datagram);
    }
    world.run_for(ms(50));
    let answers = world.seen[sent_before..]
        .iter()
        .filter(|seen| seen.to == elsewhere());
    assert_eq!(answers.count(), 0);
}

#[test]
fn a_relay_forwards_nothing_for_an_address_that_did_not_prove_itself() {
    let mut world = world();
    let PathKind::Relayed { via } = world.kind(2, 3) else {
        panic!("not relayed");
    };
    let relay = world.hosts.iter().position(|host| host.id == via).unwrap();
    let to = world.hosts[relay].address;
    // All that the two sent through the relay, sent again from elsewhere.
    let datagrams: Vec<_> = world
        .seen
        .iter()
        .filter(|seen| seen.host != relay && seen.to == to)
        .map(|seen| seen.datagram.clone())
        .collect();
    let before = world.hosts[relay].node.relay().status();
    for datagram in datagrams {
        world.inject(elsewhere(), to, datagram);
    }
    world.run_for(ms(12));
    let after = world.hosts[relay].node.relay().status();
    assert_eq!(after.packets, before.packets);
    assert!(after.dropped[&relay::Discard::UnknownSource] > 0);
}

#[test]
fn a_member_that_lies_costs_no_more_than_the_budget_and_harms_no_other() {
    for seed in 0..5 {
        let mut world = world();
        let liar = world.hosts[1].id;
        world.hosts[1].is_up = false;
        let key = |seed: u8, id| OwnKey::new(id, &bastide_api::Secret::new([seed; 32]));
        let own = key(102, liar);
        let public = world.hosts[2].node.finder().discovery_key();
        let keys = PairKeys::new(&own, world.hosts[2].id, &public).unwrap();
        let from = world.hosts[1].address;
        let to = SocketAddr::from(([198, 51, 100, 1], super::world::PORT));
        let mut random = Seeded(seed);
        world.seen.clear();
        let begun = world.arrivals(2, 3).len();
        let mut asked = 0;
        for stamp in 0..2000u32 {
            let message = message(&mut random);
            let is_question = matches!(
                message,
                Message::Ping { .. } | Message::CallMe { .. } | Message::Bind { .. }
            );
            asked += usize::from(is_question);
            let nonce = [stamp.to_le_bytes()[0]; 12];
            let passage = message.passage().unwrap_or(Passage::Straight);
            let datagram = keys.seal(
                nonce,
                passage,
                &encode(u64::from(stamp) + (2 << 32), &message),
            );
            world.inject(from, to, datagram);
            if stamp % 100 == 0 {
                world.send_packet(2, 3);
            }
            world.run_for(ms(10));
        }
        world.run_for(ms(100));
        let answers: Vec<_> = world.questions(2, 1);
        // An answer to each question, and 20 s of questions of its own.
        assert!(answers.len() <= asked + 21 * PER_SECOND_MAX);
        let places: std::collections::BTreeSet<_> = answers.iter().map(|(_, to)| *to).collect();
        assert!(places.len() <= DESTINATIONS_MAX + 1, "{}", places.len());
        assert_eq!(world.arrivals(2, 3).len() - begun, 20, "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_gets_no_answer(
        seed in any::<u64>(),
        kinds in proptest::collection::vec(0u8..8, 1..64),
    ) {
        let mut world = World::new(1);
        world.host(Kind::Open);
        world.host(Kind::Open);
        world.tell_all();
        world.run_for(ms(500));
        let to = world.hosts[0].address;
        let mut random = Seeded(seed);
        for kind in kinds {
            let len = usize::try_from(random.draw() % 400).unwrap();
            let mut datagram: Vec<u8> = (0..len).map(|_| random.draw().to_le_bytes()[0]).collect();
            let head: Vec<u8> = match kind {
                0 => vec![0xb5],
                1 => [&[0xb5, b'b', b'd', 1][..], &[2; 16], &[1; 16]].concat(),
                2 => [&[0xb5, b'b', b'd', 1][..], &[1; 16], &[2; 16]].concat(),
                3..=6 => vec![kind - 2, 0, 0, 0],
                _ => vec![],
            };
            let overlap = head.len().min(datagram.len());
            datagram[..overlap].copy_from_slice(&head[..overlap]);
            let from = if kind % 2 == 0 { elsewhere() } else { world.hosts[1].address };
            world.inject(from, to, datagram);
        }
        let before = world.seen.len();
        world.run_for(ms(20));
        let answers = world.seen[before..].iter().filter(|seen| seen.to == elsewhere());
        prop_assert_eq!(answers.count(), 0);
    }
}
