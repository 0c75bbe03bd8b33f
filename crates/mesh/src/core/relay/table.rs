//! Who is where, who is bound with whom, and which index leads to whom.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::{NodeId, WireGuardKey};

use super::bucket::Bucket;
use crate::core::wireguard::message::{self, Mac1Key, Message};

/// How long a bind holds without being repeated.
pub const BIND_LIFE: Duration = Duration::from_mins(5);
/// How long a member is sent to after it was last heard: longer than its keepalive, and hardly
/// longer than NATs keep mappings.
pub const HEARD_LIFE: Duration = Duration::from_mins(1);
/// Bound pairs, each direction counted.
pub const PAIRS_MAX: usize = 1 << 16;
/// Pairs of one member, each direction counted once.
pub const PAIRS_PER_MEMBER_MAX: usize = 1024;
/// Receiver indices that are known of one direction of a pair: sessions overlap by two or three, and
/// handshakes may be begun by both sides.
pub const INDICES_MAX: usize = 8;
/// Initiations of one member in a second: each is hashed for up to all of its pairs.
const INITIATIONS_PER_SECOND: u64 = 50;
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What may be forwarded in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
}

/// What a relay gives. With nothing to give it refuses to be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// To each member that sends.
    pub member: Share,
    /// To all together.
    pub total: Share,
}

impl Default for Quota {
    /// A quarter of a gigabit for each member, a gigabit for all.
    fn default() -> Self {
        Self {
            member: Share {
                packets: 50_000,
                bytes: 32_000_000,
            },
            total: Share {
                packets: 200_000,
                bytes: 128_000_000,
            },
        }
    }
}

/// A member: who may use the relay and be reached through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberKey {
    /// Its id.
    pub node: NodeId,
    /// The key that its initiations are for.
    pub wireguard: WireGuardKey,
}

/// Why a datagram was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Discard {
    /// Nothing that a relay forwards.
    #[error("the datagram is neither WireGuard nor discovery")]
    Foreign,
    /// No member was heard from this address.
    #[error("no member was heard from the address")]
    UnknownSource,
    /// The sender is bound with nobody whom this is for.
    #[error("the sender is not bound with the receiver")]
    NotBound,
    /// Nobody said where this receiver index leads.
    #[error("the receiver index is unknown")]
    UnknownIndex,
    /// The receiver was not heard of lately.
    #[error("the receiver was not heard of lately")]
    TargetSilent,
    /// The sender has used up its share.
    #[error("the sender has used up its share")]
    MemberShare,
    /// All have used up theirs.
    #[error("the relay's share is used up")]
    TotalShare,
}

/// Why a pair was not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbound {
    /// The relay gives nothing.
    Refused,
    /// The target is no member, or was not heard of lately.
    NotHere,
    /// A table is full.
    Full,
}

/// What a relay has done, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Pairs that are bound, each direction counted.
    pub pairs: usize,
    /// Datagrams forwarded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was dropped, and why.
    pub dropped: BTreeMap<Discard, u64>,
}

struct Member {
    key: WireGuardKey,
    mac1: Mac1Key,
    address: Option<(SocketAddr, Instant)>,
    packets: Bucket,
    bytes: Bucket,
    initiations: Bucket,
    pairs: usize,
}

/// One direction of a pair.
struct Pair {
    until: Instant,
    /// The indices by which the one addresses the other, newest last.
    indices: VecDeque<u32>,
}

/// The relay of one node.
pub struct Relay {
    me: NodeId,
    quota: Quota,
    members: BTreeMap<NodeId, Member>,
    sources: BTreeMap<SocketAddr, NodeId>,
    /// From sender to receiver.
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    /// From sender and receiver index to receiver.
    routes: BTreeMap<(NodeId, u32), NodeId>,
    packets: Bucket,
    bytes: Bucket,
    next_sweep: Instant,
    status: RelayStatus,
}

impl Relay {
    /// Makes the relay of `me`, without members.
    pub fn new(now: Instant, me: NodeId, quota: Quota) -> Self {
        Self {
            me,
            quota,
            members: BTreeMap::new(),
            sources: BTreeMap::new(),
            pairs: BTreeMap::new(),
            routes: BTreeMap::new(),
            packets: Bucket::new(now, quota.total.packets),
            bytes: Bucket::new(now, quota.total.bytes),
            next_sweep: now + SWEEP_EVERY,
            status: RelayStatus::default(),
        }
    }

    /// Makes the members exactly these. What is known of those that stay is kept.
    pub fn set_members(&mut self, now: Instant, members: &[MemberKey]) {
        let wanted: BTreeMap<NodeId, WireGuardKey> = members
            .iter()
            .filter(|member| member.node != self.me)
            .map(|member| (member.node, member.wireguard))
            .collect();
        let gone: Vec<NodeId> = self
            .members
            .keys()
            .filter(|node| !wanted.contains_key(node))
            .copied()
            .collect();
        for node in gone {
            self.remove(node);
        }
        for (node, key) in wanted {
            let share = self.quota.member;
            let member = self.members.entry(node).or_insert_with(|| Member {
                key,
                mac1: Mac1Key::new(&key),
                address: None,
                packets: Bucket::new(now, share.packets),
                bytes: Bucket::new(now, share.bytes),
                initiations: Bucket::new(now, INITIATIONS_PER_SECOND),
                pairs: 0,
            });
            if member.key != key {
                member.key = key;
                member.mac1 = Mac1Key::new(&key);
            }
        }
    }

    /// A member proved that it sends from this address. `selected` says that this is where it wants
    /// to be reached; otherwise the address is taken only if no fresh one is known.
    pub fn handle_heard(&mut self, now: Instant, node: NodeId, from: SocketAddr, selected: bool) {
        let Some(member) = self.members.get_mut(&node) else {
            return;
        };
        let known = member.address.filter(|(_, heard)| is_fresh(now, *heard));
        if let Some((address, _)) = known
            && address != from
            && !selected
        {
            return;
        }
        if let Some((before, _)) = member.address.replace((from, now))
            && before != from
            && self.sources.get(&before) == Some(&node)
        {
            self.sources.remove(&before);
        }
        if let Some(other) = self.sources.insert(from, node)
            && other != node
            && let Some(other) = self.members.get_mut(&other)
        {
            other.address = None;
        }
    }

    /// A member asks to be relayed to `target`, which is then relayed to it as well. `indices` are
    /// those that the member puts into data for the target.
    pub fn handle_bind(
        &mut self,
        now: Instant,
        node: NodeId,
        target: NodeId,
        indices: &[u32],
    ) -> Result<(), Unbound> {
        if self.quota.member.packets == 0 || self.quota.total.packets == 0 {
            return Err(Unbound::Refused);
        }
        if !self.members.contains_key(&node) || node == target {
            return Err(Unbound::NotHere);
        }
        if self.address(now, target).is_none() {
            return Err(Unbound::NotHere);
        }
        for (from, to) in [(node, target), (target, node)] {
            if !self.extend(now, from, to) {
                return Err(Unbound::Full);
            }
        }
        for index in indices.iter().take(INDICES_MAX) {
            self.learn(node, *index, target);
        }
        Ok(())
    }

    /// Decides where a WireGuard datagram that is not for ourselves goes.
    pub fn forward(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<SocketAddr, Discard> {
        let result = self.route(now, from, datagram);
        self.count(result, datagram.len())
    }

    /// Decides where a discovery message that is not for ourselves goes.
    pub fn forward_discovery(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: NodeId,
        receiver: NodeId,
        len: usize,
    ) -> Result<SocketAddr, Discard> {
        let result = self.source(now, from).and_then(|node| {
            if node != sender || !self.is_bound(now, node, receiver) {
                return Err(Discard::NotBound);
            }
            self.charge(now, node, receiver, len)
        });
        self.count(result, len)
    }

    /// Forgets what has ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        let ended: Vec<_> = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.until <= now)
            .map(|(ends, _)| *ends)
            .collect();
        for (from, to) in ended {
            self.unbind(from, to);
        }
        for member in self.members.values_mut() {
            if let Some((address, heard)) = member.address
                && !is_fresh(now, heard)
            {
                member.address = None;
                self.sources.remove(&address);
            }
        }
    }

    /// Returns when to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.sources.is_empty() || !self.pairs.is_empty()).then_some(self.next_sweep)
    }

    /// Returns what was done so far.
    pub fn status(&self) -> RelayStatus {
        RelayStatus {
            pairs: self.pairs.len(),
            ..self.status.clone()
        }
    }

    fn route(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<SocketAddr, Discard> {
        let node = self.source(now, from)?;
        match message::parse(datagram).ok_or(Discard::Foreign)? {
            Message::Initiation { sender } => {
                let target = self.addressee(now, node, datagram)?;
                let to = self.charge(now, node, target, datagram.len())?;
                // The target will answer under this index, and send data by it.
                self.learn(target, sender, node);
                Ok(to)
            }
            Message::Response { sender, receiver } => {
                let target = self.lookup(node, receiver)?;
                let to = self.charge(now, node, target, datagram.len())?;
                self.learn(target, sender, node);
                Ok(to)
            }
            Message::Cookie { receiver } | Message::Data { receiver } => {
                let target = self.lookup(node, receiver)?;
                self.charge(now, node, target, datagram.len())
            }
        }
    }

    fn source(&self, now: Instant, from: SocketAddr) -> Result<NodeId, Discard> {
        let node = *self.sources.get(&from).ok_or(Discard::UnknownSource)?;
        match self.members.get(&node).and_then(|member| member.address) {
            Some((_, heard)) if is_fresh(now, heard) => Ok(node),
            Some(_) | None => Err(Discard::UnknownSource),
        }
    }

    /// Finds whom an initiation is for among those that its sender is bound with.
    fn addressee(
        &mut self,
        now: Instant,
        node: NodeId,
        datagram: &[u8],
    ) -> Result<NodeId, Discard> {
        let member = self.members.get_mut(&node).expect("a source is a member");
        if !member.initiations.take(now, 1) {
            return Err(Discard::MemberShare);
        }
        let first = (node, NodeId::from_bytes([0; 16]));
        let last = (node, NodeId::from_bytes([0xff; 16]));
        self.pairs
            .range(first..=last)
            .filter(|(_, pair)| now < pair.until)
            .map(|((_, to), _)| *to)
            .find(|to| {
                let member = self.members.get(to);
                member.is_some_and(|member| member.mac1.verify(datagram))
            })
            .ok_or(Discard::NotBound)
    }

    fn lookup(&self, node: NodeId, index: u32) -> Result<NodeId, Discard> {
        self.routes
            .get(&(node, index))
            .copied()
            .ok_or(Discard::UnknownIndex)
    }

    /// Takes a datagram out of the sender's share and returns where it goes.
    fn charge(
        &mut self,
        now: Instant,
        node: NodeId,
        target: NodeId,
        len: usize,
    ) -> Result<SocketAddr, Discard> {
        let to = self.address(now, target).ok_or(Discard::TargetSilent)?;
        let len = u64::try_from(len).expect("a datagram's length fits");
        let member = self.members.get_mut(&node).expect("a source is a member");
        if !member.packets.has(now, 1) || !member.bytes.has(now, len) {
            return Err(Discard::MemberShare);
        }
        if !self.packets.has(now, 1) || !self.bytes.has(now, len) {
            return Err(Discard::TotalShare);
        }
        member.packets.take(now, 1);
        member.bytes.take(now, len);
        self.packets.take(now, 1);
        self.bytes.take(now, len);
        Ok(to)
    }

    fn count(
        &mut self,
        result: Result<SocketAddr, Discard>,
        len: usize,
    ) -> Result<SocketAddr, Discard> {
        match result {
            Ok(_) => {
                self.status.packets += 1;
                self.status.bytes += len as u64;
            }
            Err(reason) => *self.status.dropped.entry(reason).or_default() += 1,
        }
        result
    }

    fn address(&self, now: Instant, node: NodeId) -> Option<SocketAddr> {
        let (address, heard) = self.members.get(&node)?.address?;
        is_fresh(now, heard).then_some(address)
    }

    fn is_bound(&self, now: Instant, from: NodeId, to: NodeId) -> bool {
        self.pairs
            .get(&(from, to))
            .is_some_and(|pair| now < pair.until)
    }

    /// Makes one direction of a pair, or lets it live longer; false if there is no room.
    fn extend(&mut self, now: Instant, from: NodeId, to: NodeId) -> bool {
        let until = now + BIND_LIFE;
        if let Some(pair) = self.pairs.get_mut(&(from, to)) {
            pair.until = until;
            return true;
        }
        let room = self.pairs.len() < PAIRS_MAX;
        let Some(member) = self.members.get_mut(&from).filter(|_| room) else {
            return false;
        };
        if member.pairs >= PAIRS_PER_MEMBER_MAX {
            return false;
        }
        member.pairs += 1;
        let indices = VecDeque::new();
        self.pairs.insert((from, to), Pair { until, indices });
        true
    }

    /// From now on, what `from` sends under `index` goes to `to`.
    fn learn(&mut self, from: NodeId, index: u32, to: NodeId) {
        let Some(pair) = self.pairs.get_mut(&(from, to)) else {
            return;
        };
        if self.routes.insert((from, index), to) == Some(to) {
            return;
        }
        pair.indices.push_back(index);
        if pair.indices.len() > INDICES_MAX
            && let Some(oldest) = pair.indices.pop_front()
            && self.routes.get(&(from, oldest)) == Some(&to)
        {
            self.routes.remove(&(from, oldest));
        }
    }

    fn unbind(&mut self, from: NodeId, to: NodeId) {
        let Some(pair) = self.pairs.remove(&(from, to)) else {
            return;
        };
        for index in pair.indices {
            if self.routes.get(&(from, index)) == Some(&to) {
                self.routes.remove(&(from, index));
            }
        }
        if let Some(member) = self.members.get_mut(&from) {
            member.pairs -= 1;
        }
    }

    fn remove(&mut self, node: NodeId) {
        let ends: Vec<_> = self
            .pairs
            .keys()
            .filter(|(from, to)| *from == node || *to == node)
            .copied()
            .collect();
        for (from, to) in ends {
            self.unbind(from, to);
        }
        self.members.remove(&node);
        self.sources.retain(|_, source| *source != node);
    }
}

fn is_fresh(now: Instant, heard: Instant) -> bool {
    now.saturating_duration_since(heard) < HEARD_LIFE
}

#[cfg(test)]
mod tests;
