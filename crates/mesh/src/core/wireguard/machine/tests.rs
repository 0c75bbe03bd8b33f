//! Two machines and the wire between them, in virtual time.

mod data;
mod handshake;
mod hostile;
mod timers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use blake2::{Blake2s256, Digest};

use super::*;

/// Random bytes that are the same in each run.
pub struct Seeded {
    seed: u64,
    drawn: u64,
}

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let mut hash = Blake2s256::new();
            hash.update(self.seed.to_le_bytes());
            hash.update(self.drawn.to_le_bytes());
            self.drawn += 1;
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

pub fn secret(seed: u8) -> Secret<[u8; 32]> {
    Secret::new([seed; 32])
}

pub fn public(seed: u8) -> WireGuardKey {
    *StaticKey::new(secret(seed)).public()
}

pub fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 51820))
}

pub fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A machine with its key set and no peers.
pub fn machine(now: Instant, seed: u8, roaming: Roaming) -> Machine {
    let options = MachineOptions {
        wall: UnixTime::from_millis(1_790_000_000_000),
        timestamp_floor: Tai64N::ZERO,
        roaming,
        mtu: 1420,
    };
    let mut machine = Machine::new(now, options, Box::new(Seeded::new(u64::from(seed))));
    machine.set_private_key(now, Some(secret(seed)));
    machine
}

/// An IPv4 packet of UDP with `len` bytes in all.
pub fn packet(from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
    let mut packet = vec![0xa5; len];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, from[0], from[1], from[2], from[3], to[0], to[1],
        to[2], to[3],
    ]);
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet
}

/// Two machines, `a` at 192.0.2.1 with 10.0.0.1, `b` at 192.0.2.2 with 10.0.0.2, that know each
/// other; only `a` knows where `b` is.
pub struct Pair {
    pub now: Instant,
    pub a: Machine,
    pub b: Machine,
    /// What came out of each TUN device.
    pub out_a: Vec<Vec<u8>>,
    pub out_b: Vec<Vec<u8>>,
    pub events_a: Vec<Event>,
    pub events_b: Vec<Event>,
    /// Datagrams of each side that the wire still has to carry.
    pub wire: Vec<(SocketAddr, Transmit)>,
    /// Whether the wire loses everything.
    pub cut: bool,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(Roaming::On)
    }

    pub fn with(roaming: Roaming) -> Self {
        let now = Instant::now();
        let (mut a, mut b) = (machine(now, 1, roaming), machine(now, 2, roaming));
        a.add_peer(public(2)).unwrap();
        a.allow(&public(2), prefix("10.0.0.2/32")).unwrap();
        a.set_endpoint(now, &public(2), Some(address(2))).unwrap();
        b.add_peer(public(1)).unwrap();
        b.allow(&public(1), prefix("10.0.0.1/32")).unwrap();
        Self {
            now,
            a,
            b,
            out_a: Vec::new(),
            out_b: Vec::new(),
            events_a: Vec::new(),
            events_b: Vec::new(),
            wire: Vec::new(),
            cut: false,
        }
    }

    /// Gives a packet of `len` bytes to `a`'s TUN device and returns what was sent in place.
    pub fn a_sends(&mut self, len: usize) -> Result<Sent, Discard> {
        let bytes = packet([10, 0, 0, 1], [10, 0, 0, 2], len);
        let sent = send(&mut self.a, self.now, &bytes);
        self.take(sent, address(1))
    }

    pub fn b_sends(&mut self, len: usize) -> Result<Sent, Discard> {
        let bytes = packet([10, 0, 0, 2], [10, 0, 0, 1], len);
        let sent = send(&mut self.b, self.now, &bytes);
        self.take(sent, address(2))
    }

    fn take(
        &mut self,
        sent: Result<(Sent, Vec<u8>), Discard>,
        from: SocketAddr,
    ) -> Result<Sent, Discard> {
        let (sent, buffer) = sent?;
        if let Sent::Sealed { to, range } = &sent {
            let datagram = buffer[range.clone()].to_vec();
            self.wire.push((
                from,
                Transmit {
                    to: *to,
                    datagram,
                    whole: false,
                },
            ));
        }
        Ok(sent)
    }

    /// Takes what the machines want to send onto the wire, and their events.
    pub fn drain(&mut self) {
        for (machine, events, from) in [
            (&mut self.a, &mut self.events_a, address(1)),
            (&mut self.b, &mut self.events_b, address(2)),
        ] {
            events.extend(std::iter::from_fn(|| machine.poll_event()));
            let sent = std::iter::from_fn(|| machine.poll_transmit());
            self.wire.extend(sent.map(|transmit| (from, transmit)));
        }
    }

    /// Carries datagrams to and fro until the wire is empty.
    pub fn settle(&mut self) {
        self.drain();
        while !self.wire.is_empty() {
            for (from, transmit) in std::mem::take(&mut self.wire) {
                if !self.cut {
                    let _ = self.deliver(from, &transmit);
                }
            }
            self.drain();
        }
    }

    /// Gives one datagram to whom it is addressed.
    pub fn deliver(&mut self, from: SocketAddr, transmit: &Transmit) -> Result<(), Discard> {
        let mut datagram = transmit.datagram.clone();
        let (machine, out) = if transmit.to.ip() == address(1).ip() {
            (&mut self.a, &mut self.out_a)
        } else {
            (&mut self.b, &mut self.out_b)
        };
        if let Received::Packet { range, .. } =
            machine.handle_datagram(self.now, from, &mut datagram)?
        {
            out.push(datagram[range].to_vec());
        }
        Ok(())
    }

    /// Lets time pass, doing everything that falls due on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(at) = self.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn next_timeout(&self) -> Option<Instant> {
        [self.a.poll_timeout(), self.b.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Makes a session by sending a packet each way.
    pub fn connect(&mut self) {
        self.a_sends(100).unwrap();
        self.settle();
        self.b_sends(100).unwrap();
        self.settle();
        assert_eq!(
            (self.out_a.len(), self.out_b.len()),
            (1, 1),
            "both packets arrive"
        );
        self.out_a.clear();
        self.out_b.clear();
        self.events_a.clear();
        self.events_b.clear();
    }
}

/// Gives a packet to a machine's TUN side, with room around it.
pub fn send(machine: &mut Machine, now: Instant, bytes: &[u8]) -> Result<(Sent, Vec<u8>), Discard> {
    let mut buffer = vec![0; 16 + bytes.len() + 31];
    buffer[16..16 + bytes.len()].copy_from_slice(bytes);
    let sent = machine.handle_tun(now, &mut buffer, 16..16 + bytes.len())?;
    Ok((sent, buffer))
}

/// How many of the datagrams on the wire are of a type.
pub fn count(wire: &[(SocketAddr, Transmit)], kind: u8) -> usize {
    wire.iter()
        .filter(|(_, transmit)| transmit.datagram[0] == kind)
        .count()
}
