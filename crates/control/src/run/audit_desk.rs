//! Where the audit devices are while the writer does not work with them: there what changed nothing is
//! recorded at once, on the thread of whoever did it.
//!
//! The writer takes the devices away for as long as records are chained that are not committed yet:
//! nothing may be written after these before they are known to stand.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::core::need::Need;
use crate::run::audit_devices::{Outboxes, Records};
use crate::run::outbox::Outbox;
use crate::run::writer::WriteError;

/// How often the place is asked for before waiting for it: some microseconds, as long as a record takes.
const SPINS_MAX: u32 = 200;

/// The place of the devices.
pub(super) struct Desk(Mutex<Option<Outboxes>>);

/// What became of the record of something that changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is with the devices.
    Recorded {
        /// Whether somebody is to make the devices durable soon.
        wants_sync: bool,
    },
    /// A device failed just now: it is nowhere but in memory, until the writer has stored it.
    AtRisk,
    /// No device takes it.
    Refused,
    /// It is for the writer: it has the devices, or has to look after them first.
    Later,
}

impl Desk {
    /// Lays the devices down.
    pub(super) fn new(audit: Outboxes) -> Self {
        Self(Mutex::new(Some(audit)))
    }

    fn place(&self) -> MutexGuard<'_, Option<Outboxes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the devices away. For the writer alone, which gives them back.
    pub(super) fn take(&self) -> Outboxes {
        self.place()
            .take()
            .expect("the writer gives back what it takes before it takes it again")
    }

    /// Gives the devices back.
    pub(super) fn give_back(&self, audit: Outboxes) {
        *self.place() = Some(audit);
    }

    /// Works with the devices where they are, if they are there.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Outboxes) -> T) -> Option<T> {
        self.place().as_mut().map(work)
    }

    /// Waits for the place as whoever is about to be done with it: to sleep and be woken takes longer.
    fn place_soon(&self) -> MutexGuard<'_, Option<Outboxes>> {
        for _ in 0..SPINS_MAX {
            match self.0.try_lock() {
                Ok(place) => return place,
                Err(TryLockError::Poisoned(place)) => return place.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.place()
    }

    /// Records something that changed nothing.
    pub(super) fn note(&self, records: &Records, need: Need, store_has_room: bool) -> Noted {
        let mut place = self.place_soon();
        let Some(audit) = place.as_mut() else {
            return Noted::Later;
        };
        if !audit.knows(records) || !audit.are_prompt() || audit.are_full() {
            return Noted::Later;
        }
        match audit.accept(records, need, store_has_room) {
            Ok(()) => {}
            Err(WriteError::Conflict) => return Noted::Later,
            Err(_) => return Noted::Refused,
        }
        audit.chain(records, need, store_has_room);
        audit.all(Outbox::flush);
        if !audit.are_prompt() {
            return Noted::AtRisk;
        }
        Noted::Recorded {
            wants_sync: audit.asks_for_sync(),
        }
    }
}

#[cfg(test)]
mod tests;
