//! A node, a member that lies to it, one that is silent, and strangers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::{DiscoveryKey, NodeId, Secret, UnixTime, WireGuardKey};

use super::input::{Input, Seeded, address};
use crate::core::path::message::{decode, encode};
use crate::core::path::seal::{OwnKey, PairKeys, Passage, header};
use crate::core::path::{
    DESTINATIONS_MAX, Exclude, FinderOptions, Node, NodeOptions, PER_SECOND_MAX, PeerRecord, Take,
};
use crate::core::relay::Quota;
use crate::core::wireguard::{Machine, MachineOptions, Roaming, Tai64N};

const STEPS_MAX: usize = 256;
const LIAR: u8 = 2;
const SILENT: u8 = 3;
/// Bytes of a body: of most, of a call-me, and of questions that measure what a path carries.
const BODIES: [usize; 4] = [42, 299, 1000, 1407];
/// The longest datagram that is ever sent for discovery.
const DATAGRAM_BYTES_MAX: usize = 1472;

pub fn run(bytes: &[u8]) {
    body(bytes);
    let mut scene = Scene::new();
    let mut input = Input(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
    }
}

/// A body that is understood has one spelling.
fn body(bytes: &[u8]) {
    if let Some((stamp, message)) = decode(bytes) {
        assert_eq!(encode(stamp, &message), bytes);
    }
    let _ = header(bytes);
}

struct Scene {
    now: Instant,
    node: Node,
    machine: Machine,
    lies: PairKeys,
    stamp: u64,
    /// What the node sent within this second, and in all to whom.
    sent: usize,
    since: Instant,
    asked: usize,
}

fn id(name: u8) -> NodeId {
    NodeId::from_bytes([name; 16])
}

fn own(name: u8) -> OwnKey {
    OwnKey::new(id(name), &Secret::new([name; 32]))
}

fn record(name: u8) -> PeerRecord {
    PeerRecord {
        node: id(name),
        wireguard: WireGuardKey::from_bytes([name; 32]),
        discovery: own(name).public(),
        allowed: Vec::new(),
        candidates: vec![address(name)],
        last_good: None,
        is_public: name == LIAR,
    }
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let finder = FinderOptions {
            node: id(1),
            discovery_key: Secret::new([1; 32]),
            first_stamp: 1,
            public: vec![address(1)],
            exclude: Exclude(vec!["10.0.0.0/8".parse().expect("a network")]),
            mtu: 1420,
        };
        let quota = Quota::default();
        let mut node = Node::new(now, NodeOptions { finder, quota }, Box::new(Seeded::new(1)));
        let options = MachineOptions {
            wall: UnixTime::from_millis(1_790_000_000_000),
            timestamp_floor: Tai64N::ZERO,
            roaming: Roaming::Off,
            mtu: 1420,
        };
        let mut machine = Machine::new(now, options, Box::new(Seeded::new(2)));
        machine.set_private_key(now, Some(Secret::new([1; 32])));
        node.set_peers(now, &mut machine, &[record(LIAR), record(SILENT)]);
        node.handle_network_change(now, vec![address(1)]);
        let public: DiscoveryKey = own(1).public();
        let lies = PairKeys::new(&own(LIAR), id(1), &public).expect("a key of high order");
        Self {
            now,
            node,
            machine,
            lies,
            stamp: 1,
            sent: 0,
            since: now,
            asked: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        self.drain();
        match choice & 3 {
            0 => {
                let len = BODIES[usize::from(choice >> 2 & 1) | usize::from(choice >> 4 & 2)];
                let mut body = input.bytes(len).to_vec();
                body.resize(len, 0);
                // A stamp that rises, or whatever the input says.
                if choice & 8 == 0 {
                    self.stamp += 1;
                    body[1..9].copy_from_slice(&self.stamp.to_be_bytes());
                }
                // A liar knows the ids of the others.
                if choice & 16 == 0 && body[0] == 4 {
                    let name = body[17] % 5;
                    body[17..33].fill(name);
                }
                let passage = if choice & 64 == 0 {
                    Passage::Straight
                } else {
                    Passage::Relayed
                };
                let mut datagram = self.lies.seal([choice; 12], passage, &body);
                let from = address(LIAR + (choice >> 6));
                self.asked += 1;
                self.node.handle_datagram(self.now, from, &mut datagram);
            }
            1 => {
                let len = usize::from(input.byte()) * 2;
                let mut datagram = vec![0xb5, b'b', b'd', 1 + (choice >> 2 & 1)];
                datagram.extend([choice >> 4 & 3; 16]);
                datagram.extend([choice >> 6; 16]);
                datagram.extend_from_slice(input.bytes(len));
                let take = self
                    .node
                    .handle_datagram(self.now, address(66), &mut datagram);
                assert_eq!(take, Take::Done, "forwarded for a stranger");
                assert!(
                    self.node.poll_transmit().is_none(),
                    "a stranger got an answer"
                );
            }
            2 => {
                self.now += Duration::from_millis(1 << (input.byte() % 17));
                self.node.handle_timeout(self.now);
                self.machine.handle_timeout(self.now);
            }
            _ => {
                // Traffic wants a path to the peer.
                let peer = WireGuardKey::from_bytes([LIAR + (choice >> 2 & 1); 32]);
                let _ = self.machine.start_handshake(self.now, &peer);
                if choice & 128 != 0 {
                    let moved = vec![address(input.byte())];
                    self.node.handle_network_change(self.now, moved);
                }
            }
        }
        self.node.direct(self.now, &mut self.machine);
        self.drain();
    }

    fn drain(&mut self) {
        if self.now - self.since >= Duration::from_secs(1) {
            (self.since, self.sent, self.asked) = (self.now, 0, 0);
        }
        while let Some(event) = self.machine.poll_event() {
            self.node.handle_event(self.now, &event);
        }
        while self.machine.poll_transmit().is_some() {}
        while let Some(transmit) = self.node.poll_transmit() {
            assert!(transmit.datagram.len() <= DATAGRAM_BYTES_MAX);
            assert!(is_allowed(transmit.to), "sent to {}", transmit.to);
            self.sent += 1;
        }
        while self.node.poll_note().is_some() {}
        // Two peers' budgets within two windows of a second, and an answer to each question.
        let most = 2 * 2 * PER_SECOND_MAX + self.asked;
        assert!(self.sent <= most, "{} of {most} sent", self.sent);
        assert!(self.node.finder().endpoints().len() <= DESTINATIONS_MAX);
        let due = self.node.poll_timeout();
        assert!(due.is_none_or(|due| due >= self.since));
    }
}

/// Whatever a member says, nothing is sent into the mesh's own ranges or to nobody.
fn is_allowed(to: SocketAddr) -> bool {
    Exclude(vec!["10.0.0.0/8".parse().expect("a network")]).allows(to)
}
