//! A simulated internet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bastide_api::paths::PathEvent;
use bastide_api::v1::PathKind;
use bastide_api::{NodeId, Secret, UnixTime, WireGuardKey};
use ipnet::Ipv4Net;

use super::nat::{Kind, Nat};
use crate::core::path::seal;
use crate::core::path::{Exclude, FinderOptions, Node, NodeOptions, PeerRecord, Take};
use crate::core::relay::Quota;
use crate::core::wireguard::{
    Entropy, Machine, MachineOptions, Received, Roaming, Sent, Tai64N, Transmit,
};

pub const PORT: u16 = 51820;
/// Between any host and the middle of the internet, one way.
pub const LATENCY: Duration = Duration::from_millis(10);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// SplitMix64: random enough, and the same in each run.
#[derive(Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.draw().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// A datagram that was sent, as a watcher at the host's own link sees it.
pub struct Seen {
    pub at: Instant,
    pub host: usize,
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
}

pub struct Host {
    pub id: NodeId,
    pub node: Node,
    pub machine: Machine,
    /// Its address on its own link.
    pub address: SocketAddr,
    /// Behind which NAT.
    pub nat: Option<usize>,
    pub is_up: bool,
    pub latency: Duration,
    /// Packets that came out of its mesh: when, and from which host.
    pub received: Vec<(Instant, usize)>,
    seed: u8,
}

struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    /// On the local network of this NAT only.
    lan: Option<usize>,
    datagram: Vec<u8>,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub nats: Vec<Nat>,
    pub seen: Vec<Seen>,
    /// Datagrams lost, of a thousand.
    pub loss: u64,
    /// Pairs of hosts whose datagrams are lost, in this direction.
    pub cut: Vec<(SocketAddr, SocketAddr)>,
    /// Datagrams lost of a thousand, from one address to another.
    pub lossy: BTreeMap<(SocketAddr, SocketAddr), u64>,
    /// Two sets of public addresses, their ports aside, that cannot reach each other.
    pub apart: Option<(Vec<SocketAddr>, Vec<SocketAddr>)>,
    /// Hosts whose uplink is away.
    pub unplugged: BTreeSet<usize>,
    /// The longest IP packet, bytes, that gets over a host's uplink: longer ones vanish.
    pub narrow: BTreeMap<usize, usize>,
    /// Datagrams that vanished because of their length.
    pub vanished: usize,
    random: Seeded,
    flights: BTreeMap<(Instant, u64), Flight>,
    launched: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            hosts: Vec::new(),
            nats: Vec::new(),
            seen: Vec::new(),
            loss: 0,
            cut: Vec::new(),
            lossy: BTreeMap::new(),
            apart: None,
            unplugged: BTreeSet::new(),
            narrow: BTreeMap::new(),
            vanished: 0,
            random: Seeded(seed),
            flights: BTreeMap::new(),
            launched: 0,
        }
    }

    /// Adds a host, behind a NAT of its own unless `kind` is open; returns its number.
    pub fn host(&mut self, kind: Kind) -> usize {
        if kind == Kind::Open {
            let place = u8::try_from(self.hosts.len()).unwrap() + 1;
            return self.host_at(SocketAddr::from(([203, 0, 113, place], PORT)), None);
        }
        let nat = self.nats.len();
        let outside = Ipv4Addr::new(198, 51, 100, u8::try_from(nat).unwrap() + 1);
        self.nats
            .push(Nat::new(kind, outside, Duration::from_secs(30)));
        self.host_behind(nat)
    }

    /// Adds another host behind a NAT.
    pub fn host_behind(&mut self, nat: usize) -> usize {
        let place = u8::try_from(self.hosts.len()).unwrap() + 2;
        let site = u8::try_from(nat).unwrap();
        self.host_at(SocketAddr::from(([192, 168, site, place], PORT)), Some(nat))
    }

    fn host_at(&mut self, address: SocketAddr, nat: Option<usize>) -> usize {
        let seed = u8::try_from(self.hosts.len()).unwrap() + 1;
        let (node, machine) = self.boot(seed, address, nat.is_none(), 1);
        self.hosts.push(Host {
            id: NodeId::from_bytes([seed; 16]),
            node,
            machine,
            address,
            nat,
            is_up: true,
            latency: LATENCY,
            received: Vec::new(),
            seed,
        });
        self.hosts.len() - 1
    }

    fn boot(&mut self, seed: u8, address: SocketAddr, open: bool, life: u64) -> (Node, Machine) {
        let now = self.now;
        let wall = UnixTime::from_millis(1_790_000_000_000 + life * 1000);
        let options = MachineOptions {
            wall,
            timestamp_floor: Tai64N::ZERO,
            roaming: Roaming::Off,
            mtu: 1420,
        };
        let entropy = |random: &mut Seeded| Box::new(Seeded(random.draw()));
        let mut machine = Machine::new(now, options, entropy(&mut self.random));
        machine.set_private_key(now, Some(Secret::new([seed; 32])));
        let options = NodeOptions {
            finder: FinderOptions {
                node: NodeId::from_bytes([seed; 16]),
                discovery_key: Secret::new([seed + 100; 32]),
                first_stamp: life << 32,
                public: if open { vec![address] } else { Vec::new() },
                exclude: Exclude(vec!["10.0.0.0/8".parse().unwrap()]),
                mtu: 1420,
            },
            quota: Quota::default(),
        };
        let mut node = Node::new(now, options, entropy(&mut self.random));
        node.handle_network_change(now, vec![address]);
        (node, machine)
    }

    /// The host's process starts again, and has to be told its peers again.
    pub fn restart(&mut self, host: usize, life: u64) {
        let (seed, address) = (self.hosts[host].seed, self.hosts[host].address);
        let open = self.hosts[host].nat.is_none();
        let (node, machine) = self.boot(seed, address, open, life);
        self.hosts[host].node = node;
        self.hosts[host].machine = machine;
        self.hosts[host].is_up = true;
    }

    /// What the control plane says of a host: its own address, and nothing that only others see.
    pub fn record(&self, host: usize) -> PeerRecord {
        let it = &self.hosts[host];
        PeerRecord {
            node: it.id,
            wireguard: public(it.seed),
            discovery: it.node.finder().discovery_key(),
            allowed: vec![Ipv4Net::new(mesh_address(host), 32).unwrap()],
            candidates: vec![it.address],
            last_good: None,
            is_public: it.nat.is_none(),
        }
    }

    /// Tells a host all others.
    pub fn tell(&mut self, host: usize) {
        let peers: Vec<_> = (0..self.hosts.len()).map(|at| self.record(at)).collect();
        self.tell_these(host, &peers);
    }

    pub fn tell_these(&mut self, host: usize, peers: &[PeerRecord]) {
        let it = &mut self.hosts[host];
        it.node.set_peers(self.now, &mut it.machine, peers);
        self.flush(host);
    }

    pub fn tell_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.tell(host);
        }
    }

    /// Gives a packet for `to` to the mesh of `from`.
    pub fn send_packet(&mut self, from: usize, to: usize) {
        self.send_packet_of(from, to, 64);
    }

    /// The same, as long as the route would let it be that the agent makes of the path.
    pub fn send_long_packet(&mut self, from: usize, to: usize) {
        let mtu = self.mtu(from, to).unwrap_or(1420);
        self.send_packet_of(from, to, mtu);
    }

    fn send_packet_of(&mut self, from: usize, to: usize, len: u16) {
        let mut buffer = vec![0; 2048];
        let (source, destination) = (mesh_address(from), mesh_address(to));
        let range = 32..32 + usize::from(len);
        let packet = &mut buffer[range.clone()];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[12..16].copy_from_slice(&source.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        let machine = &mut self.hosts[from].machine;
        if let Ok(Sent::Sealed { to, range }) = machine.handle_tun(self.now, &mut buffer, range) {
            let datagram = buffer[range].to_vec();
            self.launch(
                from,
                Transmit {
                    to,
                    datagram,
                    whole: false,
                },
            );
        }
        self.flush(from);
    }

    /// Runs until `done`, or for so long; returns whether `done`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let next = self.next();
            if next.is_none_or(|next| next > end) {
                self.now = end;
                return done(self);
            }
            self.step();
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs with a packet each way, four times a second.
    pub fn run_with_traffic(&mut self, time: Duration, a: usize, b: usize) {
        let end = self.now + time;
        while self.now < end {
            self.send_packet(a, b);
            self.send_packet(b, a);
            self.run_for(ms(250));
        }
    }

    pub fn kind(&self, from: usize, to: usize) -> PathKind {
        self.hosts[from].node.paths()[&self.hosts[to].id].kind
    }

    /// What gets through, as `from` knows it.
    pub fn mtu(&self, from: usize, to: usize) -> Option<u16> {
        self.hosts[from].node.paths()[&self.hosts[to].id].mtu
    }

    /// Runs with a long packet one way, four times a second.
    pub fn run_with_long_traffic(&mut self, time: Duration, a: usize, b: usize) {
        let end = self.now + time;
        while self.now < end {
            self.send_long_packet(a, b);
            self.run_for(ms(250));
        }
    }

    /// What happened to the path, as `from` tells it, oldest first.
    pub fn events(&self, from: usize, to: usize) -> Vec<PathEvent> {
        let finder = self.hosts[from].node.finder();
        finder.story(self.now, self.hosts[to].id).unwrap().events
    }

    pub fn is_direct(&self, from: usize, to: usize) -> bool {
        matches!(self.kind(from, to), PathKind::Direct { .. })
    }

    pub fn is_relayed(&self, from: usize, to: usize) -> bool {
        matches!(self.kind(from, to), PathKind::Relayed { .. })
    }

    pub fn nat_kind(&self, host: usize) -> Kind {
        let nat = self.hosts[host].nat;
        nat.map_or(Kind::Open, |nat| self.nats[nat].kind)
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Returns when packets of `from` came out at `to`.
    pub fn arrivals(&self, from: usize, to: usize) -> Vec<Duration> {
        let received = self.hosts[to].received.iter();
        received
            .filter(|(_, source)| *source == from)
            .map(|(at, _)| *at - self.start)
            .collect()
    }

    /// Returns when a host sent discovery messages for another.
    pub fn questions(&self, from: usize, to: usize) -> Vec<(Instant, SocketAddr)> {
        let receiver = self.hosts[to].id;
        let of = |seen: &&Seen| {
            seen.host == from
                && seal::header(&seen.datagram).is_some_and(|header| {
                    header.receiver == receiver && header.sender == self.hosts[from].id
                })
        };
        let seen = self.seen.iter().filter(of);
        seen.map(|seen| (seen.at, seen.to)).collect()
    }

    /// Puts a datagram onto the wire as it comes, from any address.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        self.fly(from, to, None, ms(1), datagram);
    }

    fn next(&self) -> Option<Instant> {
        let flight = self.flights.keys().next().map(|(at, _)| *at);
        let hosts = self
            .hosts
            .iter()
            .filter(|host| host.is_up)
            .flat_map(|host| {
                [host.node.poll_timeout(), host.machine.poll_timeout()]
                    .into_iter()
                    .flatten()
            });
        hosts.chain(flight).min().map(|at| at.max(self.now))
    }

    fn step(&mut self) {
        let Some(next) = self.next() else {
            return;
        };
        self.now = next;
        if let Some(entry) = self.flights.first_entry()
            && entry.key().0 <= self.now
        {
            let flight = entry.remove();
            self.land(flight);
            return;
        }
        for host in 0..self.hosts.len() {
            let it = &mut self.hosts[host];
            if !it.is_up {
                continue;
            }
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= next);
            let (node, machine) = (due(it.node.poll_timeout()), due(it.machine.poll_timeout()));
            if machine {
                it.machine.handle_timeout(next);
            }
            if node {
                it.node.handle_timeout(next);
            }
            if node || machine {
                self.flush(host);
            }
        }
    }

    /// Does what the device's thread does after each batch.
    fn flush(&mut self, host: usize) {
        let now = self.now;
        let it = &mut self.hosts[host];
        while let Some(event) = it.machine.poll_event() {
            it.node.handle_event(now, &event);
        }
        it.node.direct(now, &mut it.machine);
        while let Some(event) = it.machine.poll_event() {
            it.node.handle_event(now, &event);
        }
        while it.node.poll_note().is_some() {}
        let mut transmits = Vec::new();
        while let Some(transmit) = it.machine.poll_transmit() {
            transmits.push(transmit);
        }
        while let Some(transmit) = it.node.poll_transmit() {
            transmits.push(transmit);
        }
        for transmit in transmits {
            self.launch(host, transmit);
        }
    }

    fn launch(&mut self, host: usize, transmit: Transmit) {
        let Transmit { to, datagram, .. } = transmit;
        self.seen.push(Seen {
            at: self.now,
            host,
            to,
            datagram: datagram.clone(),
        });
        if !self.passes(host, &datagram) {
            return;
        }
        let (inside, nat, latency) = {
            let it = &self.hosts[host];
            (it.address, it.nat, it.latency)
        };
        if is_private(to) {
            if nat.is_some_and(|nat| self.is_on_lan(nat, to)) {
                self.fly(inside, to, nat, Duration::from_micros(200), datagram);
            }
            return;
        }
        let from = match nat {
            None => inside,
            Some(nat) => self.nats[nat].outbound(self.now, inside, to),
        };
        self.fly(from, to, None, latency, datagram);
    }

    fn fly(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        lan: Option<usize>,
        latency: Duration,
        datagram: Vec<u8>,
    ) {
        let loss = self.lossy.get(&(from, to)).copied().unwrap_or(self.loss);
        let is_lost = self.random.draw() % 1000 < loss;
        if self.are_apart(from, to) || is_lost || self.cut.contains(&(from, to)) {
            return;
        }
        self.launched += 1;
        let far = if lan.is_some() {
            Duration::ZERO
        } else {
            self.owner(to)
                .map_or(LATENCY, |host| self.hosts[host].latency)
        };
        let at = self.now + latency + far;
        let flight = Flight {
            from,
            to,
            lan,
            datagram,
        };
        self.flights.insert((at, self.launched), flight);
    }

    fn are_apart(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let is_in =
            |half: &[SocketAddr], it: SocketAddr| half.iter().any(|one| one.ip() == it.ip());
        self.apart.as_ref().is_some_and(|(one, other)| {
            is_in(one, from) && is_in(other, to) || is_in(other, from) && is_in(one, to)
        })
    }

    /// Whether a host's uplink carries a datagram, which is in IPv4.
    fn passes(&mut self, host: usize, datagram: &[u8]) -> bool {
        let longest = self.narrow.get(&host);
        if longest.is_some_and(|longest| datagram.len() + 28 > *longest) {
            self.vanished += 1;
            return false;
        }
        !self.unplugged.contains(&host)
    }

    fn owner(&self, to: SocketAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.address == to)
    }

    fn is_on_lan(&self, nat: usize, to: SocketAddr) -> bool {
        self.hosts
            .iter()
            .any(|host| host.nat == Some(nat) && host.address == to)
    }

    fn land(&mut self, flight: Flight) {
        let to = if flight.lan.is_some() || is_open(flight.to) {
            Some(flight.to)
        } else {
            let nat = self
                .nats
                .iter_mut()
                .find(|nat| IpAddr::V4(nat.outside) == flight.to.ip());
            nat.and_then(|nat| nat.inbound(self.now, flight.from, flight.to.port()))
        };
        let host = to.and_then(|to| self.owner(to));
        if let Some(host) = host.filter(|host| self.hosts[*host].is_up)
            && self.passes(host, &flight.datagram)
        {
            self.deliver(host, flight.from, flight.datagram);
        }
    }

    fn deliver(&mut self, host: usize, from: SocketAddr, mut datagram: Vec<u8>) {
        let now = self.now;
        let it = &mut self.hosts[host];
        match it.machine.handle_datagram(now, from, &mut datagram) {
            Ok(Received::Packet { range, .. }) if range.len() >= 20 => {
                let source = usize::from(datagram[range][15]) - 1;
                it.received.push((now, source));
            }
            Ok(Received::NotOurs) => {
                if let Take::Forward(to) = it.node.handle_datagram(now, from, &mut datagram) {
                    self.launch(
                        host,
                        Transmit {
                            to,
                            datagram,
                            whole: false,
                        },
                    );
                }
            }
            Ok(_) | Err(_) => {}
        }
        self.flush(host);
    }
}

fn public(seed: u8) -> WireGuardKey {
    let options = MachineOptions {
        wall: UnixTime::from_millis(0),
        timestamp_floor: Tai64N::ZERO,
        roaming: Roaming::Off,
        mtu: 1420,
    };
    let now = Instant::now();
    let mut machine = Machine::new(now, options, Box::new(Seeded(0)));
    machine.set_private_key(now, Some(Secret::new([seed; 32])));
    machine.public_key().unwrap()
}

pub fn mesh_address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(host).unwrap() + 1)
}

fn is_private(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_private())
}

fn is_open(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.octets()[0] == 203)
}
