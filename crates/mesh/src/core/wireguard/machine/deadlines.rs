//! Deadlines: what each timer of a peer means when it is due.

use std::time::Instant;

use super::super::event::{Event, PeerId};
use super::super::session::REJECT_AFTER_TIME;
use super::super::timers::{Due, KEEPALIVE_TIMEOUT, REKEY_ATTEMPT_TIME};
use super::Machine;

impl Machine {
    pub(super) fn run_deadlines(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.wakes.first().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            self.expect_peer(id).wake = None;
            while let Some(due) = self.expect_peer(id).timers.take_due(now) {
                self.run_deadline(now, id, due);
            }
            self.schedule(id);
        }
    }

    fn run_deadline(&mut self, now: Instant, id: PeerId, due: Due) {
        match due {
            Due::Retransmit => self.retry(now, id),
            Due::Keepalive => {
                self.send_keepalive(now, id);
                let peer = self.expect_peer(id);
                if std::mem::take(&mut peer.keepalive_again) {
                    peer.timers.set(Due::Keepalive, now + KEEPALIVE_TIMEOUT);
                }
            }
            Due::Silence => {
                let peer = self.expect_peer(id).key;
                self.events.push_back(Event::PeerSilent { peer });
                self.begin_attempt(now, id);
            }
            Due::Forget => {
                let freed = self.expect_peer(id).forget_sessions();
                self.free_indices(freed);
            }
            Due::Persistent => {
                self.traversed(now, id);
                self.send_keepalive(now, id);
            }
        }
    }

    /// An initiation got no answer, or could not be sent.
    fn retry(&mut self, now: Instant, id: PeerId) {
        let peer = self.expect_peer(id);
        let Some(attempt) = peer.attempt else {
            return;
        };
        let key = peer.key;
        if now.saturating_duration_since(attempt.since) >= REKEY_ATTEMPT_TIME {
            // "After Rekey-Attempt-Time the initiator gives up" and what waited is lost (6.4).
            peer.attempt = None;
            peer.staged.clear();
            peer.timers.clear(Due::Keepalive);
            peer.timers
                .set_if_clear(Due::Forget, now + REJECT_AFTER_TIME * 3);
            self.events.push_back(Event::PeerSilent { peer: key });
            return;
        }
        let asked = attempt.sent_to.is_some();
        let event = if asked {
            Event::PeerSilent { peer: key }
        } else {
            Event::WantsHandshake { peer: key }
        };
        self.events.push_back(event);
        self.send_initiation(now, id);
    }
}
