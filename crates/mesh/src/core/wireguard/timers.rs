//! A peer's five timers (whitepaper, 6): a pure table of deadlines. What a deadline means is the
//! machine's to know.

use std::time::{Duration, Instant};

/// "Rekey-Timeout 5 seconds": between two initiations to a peer.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// "Rekey-Attempt-Time 90 seconds": then a handshake is given up.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// "Keepalive-Timeout 10 seconds": answer within this, if only by an empty packet.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Retries are spread by up to a third of a second, so that two peers do not collide for ever.
pub const JITTER_MS_MAX: u32 = 333;

/// What a peer's timer can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The initiation got no answer: send another, or give up.
    Retransmit,
    /// Data was received and nothing was sent since: send a keepalive.
    Keepalive,
    /// Data was sent and nothing was received since: begin a handshake.
    Silence,
    /// The keys have not been renewed for long: forget them.
    Forget,
    /// The user wants packets to flow always: send a keepalive.
    Persistent,
}

const ALL: [Due; 5] = [
    Due::Retransmit,
    Due::Keepalive,
    Due::Silence,
    Due::Forget,
    Due::Persistent,
];

/// The deadlines of one peer.
#[derive(Debug, Clone, Default)]
pub struct Timers([Option<Instant>; 5]);

impl Timers {
    /// Sets a deadline in place of the one before.
    pub fn set(&mut self, what: Due, at: Instant) {
        self.0[what as usize] = Some(at);
    }

    /// Sets a deadline if none is set, and tells whether none was.
    pub fn set_if_clear(&mut self, what: Due, at: Instant) -> bool {
        let clear = self.0[what as usize].is_none();
        if clear {
            self.set(what, at);
        }
        clear
    }

    /// Takes a deadline back.
    pub fn clear(&mut self, what: Due) {
        self.0[what as usize] = None;
    }

    /// Returns a deadline.
    pub fn get(&self, what: Due) -> Option<Instant> {
        self.0[what as usize]
    }

    /// Takes one deadline that has passed.
    pub fn take_due(&mut self, now: Instant) -> Option<Due> {
        let what = ALL
            .into_iter()
            .find(|what| self.get(*what).is_some_and(|at| at <= now))?;
        self.clear(what);
        Some(what)
    }

    /// Returns the first deadline.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
