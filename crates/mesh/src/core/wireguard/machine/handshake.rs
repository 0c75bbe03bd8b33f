//! Handshakes: beginning, answering, finishing, and the cookies that stand before them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::event::{Discard, Event, PeerId, Received, Transmit};
use super::super::message::{COOKIE_LEN, INITIATION_LEN, RESPONSE_LEN};
use super::super::noise::{Consumed, Initiated};
use super::super::peer::{Attempt, Outgoing};
use super::super::session::{REJECT_AFTER_TIME, Session};
use super::super::timers::{Due, JITTER_MS_MAX, REKEY_TIMEOUT};
use super::{Machine, Roaming};

/// Two initiations of one peer closer together than this are one too many.
const INITIATION_GAP: Duration = Duration::from_millis(20);
/// After a change of endpoint an unanswered initiation is repeated this long after it was sent: the
/// answer may still come by the old way.
const ENDPOINT_PATIENCE: Duration = Duration::from_millis(250);

impl Machine {
    /// Begins to get a session, unless an attempt is under way.
    pub(super) fn begin_attempt(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        if peer.attempt.is_some() {
            return;
        }
        // "Under no circumstances will WireGuard send an initiation message more than once every
        // Rekey-Timeout" (6.4); a response just sent counts as well.
        let last = peer.last_handshake_sent;
        let wait = last.map(|sent| sent + REKEY_TIMEOUT).filter(|at| now < *at);
        let is_mute = peer.usable(now).is_none() || peer.endpoint.is_none();
        if wait.is_some() && !is_mute {
            return;
        }
        peer.attempt = Some(Attempt {
            since: now,
            sent_to: None,
        });
        if let Some(at) = wait {
            peer.timers.set(Due::Retransmit, at);
        }
        if is_mute {
            let peer = peer.key;
            self.events.push_back(Event::WantsHandshake { peer });
        }
        match wait {
            Some(_) => self.schedule(id),
            None => self.send_initiation(now, id),
        }
    }

    /// Sends an initiation, if there is a key and an endpoint, and sets the time to repeat it.
    pub(super) fn send_initiation(&mut self, now: Instant, id: PeerId) {
        let jitter = self.jitter();
        let peer = self.expect_peer(id);
        peer.timers
            .set(Due::Retransmit, now + REKEY_TIMEOUT + jitter);
        let endpoint = peer.endpoint;
        let before = peer.outgoing.take().map(|outgoing| outgoing.local_index);
        self.free_indices([before]);
        if let Some(to) = endpoint.filter(|_| self.own.is_some()) {
            self.write_initiation(now, id, to);
        }
        self.schedule(id);
    }

    fn write_initiation(&mut self, now: Instant, id: PeerId, to: SocketAddr) {
        let ephemeral = self.draw();
        let local_index = self.new_index(id);
        let (timestamp, reserved) = self.clock.stamp(now);
        if let Some(reserved) = reserved {
            self.events.push_back(Event::TimestampReserved(reserved));
        }
        let Some(own) = &self.own else {
            return;
        };
        let peer = self.peers[id.place()]
            .as_mut()
            .expect("ids are forgotten with their peer");
        let mut datagram = [0; INITIATION_LEN];
        let begun = Initiated::new(
            &own.key,
            &peer.key,
            ephemeral,
            timestamp,
            local_index,
            &mut datagram,
        );
        // A key of low order can be configured and never be talked to.
        let Ok(noise) = begun else {
            self.free_indices([Some(local_index)]);
            return;
        };
        let mac1 = peer.mac1.sign(&mut datagram);
        peer.cookies.sign(now, &mut datagram, mac1);
        peer.outgoing = Some(Outgoing { noise, local_index });
        peer.last_handshake_sent = Some(now);
        if let Some(attempt) = &mut peer.attempt {
            attempt.sent_to = Some(to);
        }
        self.transmit(now, id, to, datagram.to_vec());
    }

    /// A peer got another endpoint: what waited for one goes out.
    pub(super) fn endpoint_changed(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        if peer.usable(now).is_some() && !peer.staged.is_empty() {
            // Only the address was missing.
            if peer
                .attempt
                .is_some_and(|attempt| attempt.sent_to.is_none())
            {
                peer.attempt = None;
                peer.timers.clear(Due::Retransmit);
            }
            self.send_staged(now, id);
            return;
        }
        match (peer.attempt, peer.last_handshake_sent) {
            (Some(Attempt { sent_to: None, .. }), None) => self.send_initiation(now, id),
            (Some(Attempt { sent_to, .. }), sent) if sent_to != peer.endpoint => {
                let at = sent.map_or(now, |sent| sent + ENDPOINT_PATIENCE).max(now);
                let first = peer
                    .timers
                    .get(Due::Retransmit)
                    .map_or(at, |set| set.min(at));
                peer.timers.set(Due::Retransmit, first);
                self.schedule(id);
            }
            (None, _) if !peer.staged.is_empty() => self.begin_attempt(now, id),
            (Some(_) | None, _) => {}
        }
    }

    pub(super) fn receive_initiation(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: u32,
        datagram: &[u8],
    ) -> Result<Received, Discard> {
        if !self
            .own
            .as_ref()
            .is_some_and(|own| own.mac1.verify(datagram))
        {
            return Ok(Received::NotOurs);
        }
        self.admit(now, from, sender, datagram)?;
        let ephemeral = self.draw();
        let own = self.own.as_ref().ok_or(Discard::NoPrivateKey)?;
        let consumed =
            Consumed::new(&own.key, ephemeral, datagram).map_err(|_| Discard::Handshake)?;
        let id = *self
            .by_key
            .get(&consumed.peer)
            .ok_or(Discard::UnknownPeer)?;

        let peer = self.expect_peer(id);
        if consumed.timestamp <= peer.latest_timestamp {
            return Err(Discard::OldTimestamp);
        }
        let too_fast = peer
            .last_initiation_seen
            .is_some_and(|seen| now.saturating_duration_since(seen) < INITIATION_GAP);
        if too_fast {
            return Err(Discard::TooFast);
        }
        peer.latest_timestamp = consumed.timestamp;
        peer.last_initiation_seen = Some(now);
        self.heard(now, id, from, datagram.len());
        self.answer(now, id, from, sender, consumed)?;
        Ok(Received::Taken)
    }

    fn answer(
        &mut self,
        now: Instant,
        id: PeerId,
        to: SocketAddr,
        receiver: u32,
        consumed: Consumed,
    ) -> Result<(), Discard> {
        let local_index = self.new_index(id);
        let peer = self.peers[id.place()]
            .as_mut()
            .expect("ids are forgotten with their peer");
        let mut datagram = [0; RESPONSE_LEN];
        let answered = consumed.answer(&peer.preshared, local_index, receiver, &mut datagram);
        let Ok(keys) = answered else {
            self.free_indices([Some(local_index)]);
            return Err(Discard::Handshake);
        };
        let mac1 = peer.mac1.sign(&mut datagram);
        peer.cookies.sign(now, &mut datagram, mac1);
        peer.last_handshake_sent = Some(now);
        let session = Session::new(now, &keys, local_index, receiver, false);
        let freed = peer.begin_as_responder(session);
        peer.timers.set(Due::Forget, now + REJECT_AFTER_TIME * 3);
        self.free_indices([freed]);
        self.transmit(now, id, to, datagram.to_vec());
        self.schedule(id);
        Ok(())
    }

    pub(super) fn receive_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: u32,
        receiver: u32,
        datagram: &[u8],
    ) -> Result<Received, Discard> {
        let Some(&id) = self.by_index.get(&receiver) else {
            return Ok(Received::NotOurs);
        };
        if !self
            .own
            .as_ref()
            .is_some_and(|own| own.mac1.verify(datagram))
        {
            return Err(Discard::Handshake);
        }
        self.admit(now, from, sender, datagram)?;
        let peer = self.expect_peer(id);
        let outgoing = peer
            .outgoing
            .as_mut()
            .filter(|outgoing| outgoing.local_index == receiver)
            .ok_or(Discard::Handshake)?;
        let keys = outgoing
            .noise
            .finish(&peer.preshared, datagram)
            .map_err(|_| Discard::Handshake)?;
        let session = Session::new(now, &keys, receiver, sender, true);

        // The index goes over from the handshake to the session.
        peer.outgoing = None;
        peer.timers.set(Due::Forget, now + REJECT_AFTER_TIME * 3);
        let freed = peer.begin_as_initiator(session);
        self.free_indices(freed);
        self.heard(now, id, from, datagram.len());
        self.completed(now, id, from);
        // The responder may not send before we did: a keepalive confirms, if nothing waits.
        if self.expect_peer(id).staged.is_empty() {
            self.send_keepalive(now, id);
        } else {
            self.send_staged(now, id);
        }
        self.schedule(id);
        Ok(Received::Taken)
    }

    /// A session is in use from now on.
    pub(super) fn completed(&mut self, now: Instant, id: PeerId, from: SocketAddr) {
        let peer = self.expect_peer(id);
        peer.attempt = None;
        peer.renewing_late = false;
        peer.last_handshake = Some(now);
        peer.timers.clear(Due::Retransmit);
        let outgoing = peer.outgoing.take().map(|outgoing| outgoing.local_index);
        let peer = peer.key;
        self.free_indices([outgoing]);
        self.events
            .push_back(Event::HandshakeCompleted { peer, from });
    }

    pub(super) fn receive_cookie(
        &mut self,
        now: Instant,
        receiver: u32,
        datagram: &[u8],
    ) -> Result<Received, Discard> {
        let Some(&id) = self.by_index.get(&receiver) else {
            return Ok(Received::NotOurs);
        };
        // Neither the endpoint nor a timer moves: the cookie is for the next retry (6.6).
        if self.expect_peer(id).cookies.open(now, datagram) {
            Ok(Received::Taken)
        } else {
            Err(Discard::Cookie)
        }
    }

    /// Lets a handshake message pass, or answers it with a cookie.
    fn admit(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: u32,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        if !self.load.count(now) {
            return Ok(());
        }
        let own = self.own.as_ref().ok_or(Discard::NoPrivateKey)?;
        if own.cookies.verify(now, from, datagram) {
            let admitted = self.load.admits(now, from.ip());
            return if admitted {
                Ok(())
            } else {
                Err(Discard::TooFast)
            };
        }
        let mut nonce = [0; 24];
        self.entropy.fill(&mut nonce);
        let secret = own.cookies.needs_secret(now).then(|| self.draw());
        let own = self.own.as_mut().ok_or(Discard::NoPrivateKey)?;
        if let Some(secret) = secret {
            own.cookies.set_secret(now, secret);
        }
        let reply: Option<[u8; COOKIE_LEN]> = own.cookies.reply(from, sender, datagram, &nonce);
        if let Some(reply) = reply {
            self.transmits.push_back(Transmit {
                to: from,
                datagram: reply.to_vec(),
                whole: false,
            });
        }
        Err(Discard::CookieSent)
    }

    /// An authenticated message came: counts it, moves the endpoint if that is allowed.
    pub(super) fn heard(&mut self, now: Instant, id: PeerId, from: SocketAddr, len: usize) {
        let roaming = self.roaming;
        let peer = self.expect_peer(id);
        peer.received_bytes += len as u64;
        peer.last_heard = Some(now);
        peer.timers.clear(Due::Silence);
        if roaming == Roaming::On || peer.endpoint.is_none() {
            peer.endpoint = Some(from);
        }
        let key = peer.key;
        if peer
            .last_source
            .replace(from)
            .is_some_and(|before| before != from)
        {
            self.events
                .push_back(Event::SourceChanged { peer: key, from });
        }
        self.traversed(now, id);
    }

    /// Queues a datagram of the machine's own making.
    pub(super) fn transmit(&mut self, now: Instant, id: PeerId, to: SocketAddr, datagram: Vec<u8>) {
        self.expect_peer(id).sent_bytes += datagram.len() as u64;
        self.expect_peer(id).timers.clear(Due::Keepalive);
        self.traversed(now, id);
        self.transmits.push_back(Transmit {
            to,
            datagram,
            whole: false,
        });
    }

    pub(super) fn jitter(&mut self) -> Duration {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        Duration::from_millis(u64::from(u32::from_le_bytes(bytes) % (JITTER_MS_MAX + 1)))
    }
}
