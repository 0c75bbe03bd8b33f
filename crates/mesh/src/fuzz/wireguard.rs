//! Two machines that talk, and a stranger who holds the wire: he repeats, delays, changes and makes
//! up datagrams, at moments of his choice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::{Secret, UnixTime, WireGuardKey};
use ipnet::IpNet;

use super::input::{Input, Seeded, address};
use crate::core::wireguard::message::{MAC_LEN, Mac1Key, Message, parse};
use crate::core::wireguard::{Machine, MachineOptions, Received, Roaming, Sent, Tai64N, Transmit};

/// Operations of one run: enough for several handshakes.
const STEPS_MAX: usize = 256;
/// What the stranger remembers of the wire.
const SEEN_MAX: usize = 64;
/// The stranger's own address.
const STRANGER: u8 = 66;
const MTU: u16 = 1420;
/// What one peer may hold in a machine: three sessions and a handshake.
const INDICES_MAX: usize = 4;

pub fn run(bytes: &[u8]) {
    let mut wire = Wire::new();
    let mut input = Input(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        wire.step(&mut input);
    }
    wire.recover();
}

struct Side {
    machine: Machine,
    key: WireGuardKey,
    at: SocketAddr,
    /// Lengths of the packets that were given to it, and of those that the other one got.
    sent: Vec<usize>,
    got: Vec<usize>,
}

struct Wire {
    now: Instant,
    sides: [Side; 2],
    /// Datagrams that were not carried yet: to which side.
    waiting: Vec<(usize, Transmit)>,
    /// All that was ever on the wire.
    seen: Vec<Vec<u8>>,
}

impl Wire {
    fn new() -> Self {
        let now = Instant::now();
        let mut sides = [1, 2].map(|name| {
            let options = MachineOptions {
                wall: UnixTime::from_millis(1_790_000_000_000),
                timestamp_floor: Tai64N::ZERO,
                roaming: Roaming::Off,
                mtu: MTU,
            };
            let mut machine = Machine::new(now, options, Box::new(Seeded::new(name)));
            machine.set_private_key(now, Some(Secret::new([name; 32])));
            let key = machine.public_key().expect("a key was set");
            Side {
                machine,
                key,
                at: address(name),
                sent: Vec::new(),
                got: Vec::new(),
            }
        });
        let keys = [sides[0].key, sides[1].key];
        for (own, side) in sides.iter_mut().enumerate() {
            let peer = keys[1 - own];
            let inner = IpNet::from(std::net::IpAddr::from([10, 0, 0, host(1 - own)]));
            side.machine.add_peer(peer).expect("the table is empty");
            side.machine
                .allow(&peer, inner)
                .expect("the table is empty");
            side.machine
                .set_endpoint(now, &peer, Some(address(host(1 - own))))
                .expect("the peer was added");
        }
        Self {
            now,
            sides,
            waiting: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let side = usize::from(choice >> 7);
        match choice & 7 {
            0 => self.send(side, 20 + usize::from(input.byte())),
            1 => self.carry(input.byte()),
            2 => drop(self.waiting.pop()),
            3 => {
                let mut datagram = self.remembered(input);
                self.inject(side, STRANGER, &mut datagram);
            }
            4 => {
                let mut datagram = self.remembered(input);
                change(&mut datagram, input);
                self.inject(side, host(1 - side), &mut datagram);
            }
            5 => {
                let mut datagram = self.made_up(side, input);
                self.inject(side, STRANGER, &mut datagram);
            }
            6 => self.pass(Duration::from_millis(1 << (input.byte() % 20))),
            _ => {
                let host = host(side);
                let peer = self.sides[1 - side].key;
                let to = (input.byte() & 1 == 0).then(|| address(3 - host));
                let machine = &mut self.sides[side].machine;
                machine
                    .set_endpoint(self.now, &peer, to)
                    .expect("the peer is there");
            }
        }
        self.drain();
    }

    /// Gives a packet to a side's TUN device.
    fn send(&mut self, side: usize, len: usize) {
        let packet = packet(side, len);
        let mut buffer = [vec![0; 16], packet, vec![0; 31]].concat();
        self.sides[side].sent.push(len);
        let sent = self.sides[side]
            .machine
            .handle_tun(self.now, &mut buffer, 16..16 + len);
        if let Ok(Sent::Sealed { to, range }) = sent {
            let datagram = buffer[range].to_vec();
            let whole = false;
            let transmit = Transmit {
                to,
                datagram,
                whole,
            };
            self.waiting.push((1 - side, transmit));
        }
    }

    /// Carries one of the waiting datagrams to where it belongs.
    fn carry(&mut self, which: u8) {
        if self.waiting.is_empty() {
            return;
        }
        let at = usize::from(which) % self.waiting.len();
        let (side, transmit) = self.waiting.remove(at);
        if self.seen.len() < SEEN_MAX {
            self.seen.push(transmit.datagram.clone());
        }
        let mut datagram = transmit.datagram;
        let from = self.sides[1 - side].at;
        let got = self.sides[side]
            .machine
            .handle_datagram(self.now, from, &mut datagram);
        self.take(side, got.ok(), &datagram);
    }

    fn take(&mut self, side: usize, got: Option<Received>, datagram: &[u8]) {
        if let Some(Received::Packet { range, .. }) = got {
            let packet_got = &datagram[range];
            assert_eq!(packet_got, packet(1 - side, packet_got.len()));
            self.sides[side].got.push(packet_got.len());
        }
    }

    fn remembered(&self, input: &mut Input<'_>) -> Vec<u8> {
        let which = usize::from(input.byte());
        match self.seen.len() {
            0 => Vec::new(),
            len => self.seen[which % len].clone(),
        }
    }

    /// Makes up a datagram in the shape of a message, signed as who knows the receiver's key can.
    fn made_up(&self, side: usize, input: &mut Input<'_>) -> Vec<u8> {
        let kind = input.byte();
        let len = match kind % 5 {
            1 => 148,
            2 => 92,
            3 => 64,
            4 => 32 + usize::from(input.byte()),
            _ => usize::from(input.byte()),
        };
        let mut datagram = input.bytes(len).to_vec();
        datagram.resize(len, kind);
        if len >= 12 && !kind.is_multiple_of(5) {
            datagram[..4].copy_from_slice(&[kind % 5, 0, 0, 0]);
            // An index that is really in use, as everybody on the wire sees.
            if let Some(seen) = self.seen.get(usize::from(kind >> 4))
                && seen.len() >= 12
            {
                datagram[4..12].copy_from_slice(&seen[4..12]);
            }
        }
        if kind & 8 == 0 && matches!(kind % 5, 1 | 2) {
            Mac1Key::new(&self.sides[side].key).sign(&mut datagram);
        }
        datagram
    }

    /// What no peer made on the wire comes to a side from `host`.
    fn inject(&mut self, side: usize, host: u8, datagram: &mut [u8]) {
        self.drain();
        let peer = self.sides[1 - side].key;
        let before = self.sides[side].machine.peer(&peer);
        let was_original = self.seen.iter().any(|seen| is_same(seen, datagram));
        let (asked, shape) = (datagram.len(), parse(datagram));
        let machine = &mut self.sides[side].machine;
        let got = machine.handle_datagram(self.now, address(host), datagram);
        while machine.poll_event().is_some() {}
        while let Some(answer) = machine.poll_transmit() {
            // Whoever he is, he never gets more than he sent; and a stranger's own words get him
            // a cookie at most.
            if answer.to == address(STRANGER) {
                assert!(answer.datagram.len() <= asked, "an answer amplifies");
            }
            if !was_original {
                assert!(matches!(
                    parse(&answer.datagram),
                    Some(Message::Cookie { .. })
                ));
            }
            self.waiting.push((1 - side, answer));
        }
        let after = self.sides[side].machine.peer(&peer);
        let moved = before.and_then(|it| it.endpoint) != after.and_then(|it| it.endpoint);
        if !was_original {
            assert!(!moved, "a stranger moved an endpoint: {shape:?}");
            let passed = matches!(got, Ok(Received::Packet { .. } | Received::Taken));
            assert!(!passed, "a stranger was believed: {shape:?}");
        }
        self.take(side, got.ok(), datagram);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.machine.handle_timeout(self.now);
        }
    }

    fn drain(&mut self) {
        for (own, side) in self.sides.iter_mut().enumerate() {
            while side.machine.poll_event().is_some() {}
            while let Some(transmit) = side.machine.poll_transmit() {
                self.waiting.push((1 - own, transmit));
            }
            assert!(
                side.machine.indices() <= INDICES_MAX,
                "receiver indices leak"
            );
            let due = side.machine.poll_timeout();
            assert!(due.is_none_or(|due| due >= self.now), "work was left");
        }
        let excess = self.waiting.len().saturating_sub(SEEN_MAX);
        self.waiting.drain(..excess);
    }

    /// Each packet came once at most.
    fn check_deliveries(&mut self) {
        for own in 0..2 {
            let mut sent = std::mem::take(&mut self.sides[own].sent);
            for len in &self.sides[1 - own].got {
                let at = sent.iter().position(|it| it == len);
                let at = at.expect("a packet came twice, or was made up");
                sent.swap_remove(at);
            }
        }
    }

    /// Whatever the stranger did: left alone, the two find together again.
    fn recover(&mut self) {
        self.waiting.clear();
        for own in 0..2 {
            let peer = self.sides[1 - own].key;
            let to = Some(self.sides[1 - own].at);
            let machine = &mut self.sides[own].machine;
            machine
                .set_endpoint(self.now, &peer, to)
                .expect("the peer is there");
        }
        let got = self.sides[1].got.len();
        for _ in 0..200 {
            self.pass(Duration::from_secs(1));
            self.send(0, 100);
            self.drain();
            while !self.waiting.is_empty() {
                self.carry(0);
                self.drain();
            }
            if self.sides[1].got.len() > got {
                self.check_deliveries();
                return;
            }
        }
        panic!("the two machines do not find together again");
    }
}

fn host(side: usize) -> u8 {
    if side == 0 { 1 } else { 2 }
}

/// Flips, cuts or lengthens.
fn change(datagram: &mut Vec<u8>, input: &mut Input<'_>) {
    let how = input.byte();
    let at = usize::from(input.byte()) * datagram.len().max(1) / 256;
    match how & 3 {
        0 => datagram.truncate(at),
        1 => datagram.push(how),
        _ => {
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= how | 1;
            }
        }
    }
}

/// A UDP packet of `len` bytes from a side to the other.
fn packet(from: usize, len: usize) -> Vec<u8> {
    let mut packet = vec![0xa5; len.max(20)];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0,
    ]);
    let total = u16::try_from(len).expect("packets here are short");
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    (packet[15], packet[19]) = (host(from), host(1 - from));
    packet
}

/// Tells whether two datagrams are the same for a receiver that is not under load: it does not look
/// at a handshake message's `mac2`.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let covered = |datagram: &[u8]| match parse(datagram) {
        Some(Message::Initiation { .. } | Message::Response { .. }) => datagram.len() - MAC_LEN,
        Some(Message::Cookie { .. } | Message::Data { .. }) | None => datagram.len(),
    };
    one.len() == other.len() && one[..covered(one)] == other[..covered(other)]
}
