//! Data: packets out of the TUN device, data messages out of the socket.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::super::event::{Discard, PeerId, Received, Sent};
use super::super::message::{DATA_HEADER_LEN, TAG_LEN};
use super::super::peer::{STAGED_MAX, Slot};
use super::super::session::{REJECT_AFTER_TIME, padded_len};
use super::super::timers::{Due, KEEPALIVE_TIMEOUT, REKEY_TIMEOUT};
use super::Machine;

impl Machine {
    pub(super) fn send_packet(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        packet: Range<usize>,
    ) -> Result<Sent, Discard> {
        let bytes = buffer.get(packet.clone()).ok_or(Discard::TooLong)?;
        let to = Addresses::read(bytes).ok_or(Discard::NotIp)?.destination;
        let id = self.allowed.lookup(to).ok_or(Discard::NoRoute)?;
        let mtu = self.mtu;
        let peer = self.expect_peer(id);
        let endpoint = peer.endpoint;
        let (Some(session), Some(to)) = (peer.usable(now), endpoint) else {
            self.stage(now, id, buffer, packet);
            return Ok(Sent::Queued);
        };
        let rekey = session.wants_rekey_on_send(now);
        let range = session.sealer.seal(buffer, packet, mtu)?;
        self.sent_data(now, id, range.len());
        if rekey {
            self.begin_attempt(now, id);
        }
        Ok(Sent::Sealed { to, range })
    }

    /// Keeps a packet until there is a session, and asks for one.
    fn stage(&mut self, now: Instant, id: PeerId, buffer: &[u8], packet: Range<usize>) {
        let room = DATA_HEADER_LEN + padded_len(packet.len(), usize::MAX) + TAG_LEN;
        let mut copy = Vec::with_capacity(room);
        copy.resize(DATA_HEADER_LEN, 0);
        copy.extend_from_slice(&buffer[packet]);
        let peer = self.expect_peer(id);
        if peer.staged.len() >= STAGED_MAX {
            peer.staged.pop_front();
        }
        peer.staged.push_back(copy);
        self.begin_attempt(now, id);
    }

    /// Sends what waited for a session.
    pub(super) fn send_staged(&mut self, now: Instant, id: PeerId) {
        while let Some(mut buffer) = self.expect_peer(id).staged.pop_front() {
            let packet = DATA_HEADER_LEN..buffer.len();
            buffer.resize(
                DATA_HEADER_LEN + padded_len(packet.len(), usize::MAX) + TAG_LEN,
                0,
            );
            if !self.send_sealed(now, id, buffer, packet) {
                return;
            }
        }
    }

    /// Sends an empty packet, or what waits; without a session, begins a handshake.
    pub(super) fn send_keepalive(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        if peer.usable(now).is_none() {
            self.begin_attempt(now, id);
            return;
        }
        if !peer.staged.is_empty() {
            self.send_staged(now, id);
            return;
        }
        let buffer = vec![0; DATA_HEADER_LEN + TAG_LEN];
        self.send_sealed(now, id, buffer, DATA_HEADER_LEN..DATA_HEADER_LEN);
    }

    fn send_sealed(
        &mut self,
        now: Instant,
        id: PeerId,
        mut buffer: Vec<u8>,
        packet: Range<usize>,
    ) -> bool {
        let mtu = self.mtu;
        let is_data = !packet.is_empty();
        let peer = self.expect_peer(id);
        let endpoint = peer.endpoint;
        let (Some(session), Some(to)) = (peer.usable(now), endpoint) else {
            return false;
        };
        let rekey = session.wants_rekey_on_send(now);
        let Ok(range) = session.sealer.seal(&mut buffer, packet, mtu) else {
            return false;
        };
        buffer.truncate(range.end);
        if is_data {
            self.expect_answer(now, id);
        }
        self.transmit(now, id, to, buffer);
        if rekey {
            self.begin_attempt(now, id);
        }
        true
    }

    /// Data was sealed in place and is on its way.
    fn sent_data(&mut self, now: Instant, id: PeerId, len: usize) {
        let peer = self.expect_peer(id);
        peer.sent_bytes += len as u64;
        peer.timers.clear(Due::Keepalive);
        self.expect_answer(now, id);
        self.traversed(now, id);
    }

    /// "If a peer has sent data and hears nothing for Keepalive-Timeout + Rekey-Timeout, it begins a
    /// handshake" (6.5). The jitter is left to the retries.
    fn expect_answer(&mut self, now: Instant, id: PeerId) {
        let at = now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;
        if self.expect_peer(id).timers.set_if_clear(Due::Silence, at) {
            self.schedule(id);
        }
    }

    pub(super) fn receive_data(
        &mut self,
        now: Instant,
        from: SocketAddr,
        receiver: u32,
        datagram: &mut [u8],
    ) -> Result<Received, Discard> {
        let Some(&id) = self.by_index.get(&receiver) else {
            return Ok(Received::NotOurs);
        };
        let len = datagram.len();
        let peer = self.expect_peer(id);
        let (slot, session) = peer.session(receiver).ok_or(Discard::Data)?;
        if session.age(now) >= REJECT_AFTER_TIME {
            return Err(Discard::Expired);
        }
        let range = session.opener.open(datagram)?;

        if slot == Slot::Next {
            let freed = peer.confirm();
            self.free_indices([freed]);
            self.heard(now, id, from, len);
            self.completed(now, id, from);
            self.send_staged(now, id);
        } else {
            self.heard(now, id, from, len);
        }
        self.renew_late(now, id);
        if range.is_empty() {
            return Ok(Received::Taken);
        }
        self.owe_keepalive(now, id);

        let addresses = Addresses::read(&datagram[range.clone()]).ok_or(Discard::NotIp)?;
        if self.allowed.lookup(addresses.source) != Some(id) {
            return Err(Discard::ForeignSource);
        }
        let range = range.start..range.start + addresses.total;
        Ok(Received::Packet { peer: id, range })
    }

    /// "The initiator begins a handshake if it receives and the session is older than Reject-After-
    /// Time - Keepalive-Timeout - Rekey-Timeout" (6.2), once for each session.
    fn renew_late(&mut self, now: Instant, id: PeerId) {
        const LATE: Duration = Duration::from_secs(
            REJECT_AFTER_TIME.as_secs() - KEEPALIVE_TIMEOUT.as_secs() - REKEY_TIMEOUT.as_secs(),
        );
        let peer = self.expect_peer(id);
        let late = peer
            .current
            .as_ref()
            .is_some_and(|session| session.initiator && session.age(now) >= LATE);
        if late && !peer.renewing_late {
            peer.renewing_late = true;
            self.begin_attempt(now, id);
        }
    }

    /// Data came: answer within Keepalive-Timeout, if only by an empty packet (6.5).
    fn owe_keepalive(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        if peer
            .timers
            .set_if_clear(Due::Keepalive, now + KEEPALIVE_TIMEOUT)
        {
            self.schedule(id);
        } else {
            peer.keepalive_again = true;
        }
    }

    /// An authenticated message went either way: the user's own keepalive may wait.
    pub(super) fn traversed(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        if peer.keepalive_seconds > 0 {
            let every = Duration::from_secs(u64::from(peer.keepalive_seconds));
            peer.timers.set(Due::Persistent, now + every);
            self.schedule(id);
        }
    }
}

/// What is read of an IP packet's header.
struct Addresses {
    source: IpAddr,
    destination: IpAddr,
    /// The packet's length without padding.
    total: usize,
}

impl Addresses {
    fn read(packet: &[u8]) -> Option<Self> {
        let be16 = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let (source, destination, total) = match packet.first()? >> 4 {
            4 if packet.len() >= 20 => {
                let at = |at: usize| -> IpAddr {
                    let octets: [u8; 4] = packet[at..at + 4].try_into().expect("4 bytes");
                    octets.into()
                };
                (at(12), at(16), be16(2))
            }
            6 if packet.len() >= 40 => {
                let at = |at: usize| -> IpAddr {
                    let octets: [u8; 16] = packet[at..at + 16].try_into().expect("16 bytes");
                    octets.into()
                };
                (at(8), at(24), be16(4) + 40)
            }
            _ => return None,
        };
        let header = if source.is_ipv4() { 20 } else { 40 };
        (header <= total && total <= packet.len()).then_some(Self {
            source,
            destination,
            total,
        })
    }
}
