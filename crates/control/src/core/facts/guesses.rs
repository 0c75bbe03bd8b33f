//! How often a ticket's secret may be guessed.
//!
//! What is counted is the ticket that a request names, not where it comes from: two machines behind
//! one router do not hinder each other, and a guesser gains nothing by having many addresses. Tickets
//! that do not exist are counted alike, so that the count tells nobody which ones do.

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_api::{TicketId, UnixTime};

/// Wrong secrets that a ticket bears at once, and how long until it bears one more.
const WRONG_MAX: u32 = 8;
const WRONG_EVERY: Duration = Duration::from_secs(4);
/// Most tickets that are remembered; the one with the fewest wrong secrets is forgotten first.
const TICKETS_MAX: usize = 4096;

/// Counts wrong secrets by ticket: a bucket of [`WRONG_MAX`] each, filled again over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guesses {
    /// When each ticket's bucket will be full again.
    full_at: BTreeMap<TicketId, UnixTime>,
}

impl Guesses {
    /// Returns for how long nobody's secret for this ticket is looked at; zero if it is.
    pub fn wait(&self, now: UnixTime, ticket: TicketId) -> Duration {
        let Some(full_at) = self.full_at.get(&ticket) else {
            return Duration::ZERO;
        };
        let debt = full_at.since(now);
        debt.saturating_sub(WRONG_EVERY * (WRONG_MAX - 1))
    }

    /// Notes a wrong secret.
    pub(super) fn wrong(&mut self, now: UnixTime, ticket: TicketId) {
        if TICKETS_MAX <= self.full_at.len() && !self.full_at.contains_key(&ticket) {
            self.full_at.retain(|_, full_at| now < *full_at);
            if TICKETS_MAX <= self.full_at.len() {
                let first = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
                if let Some(first) = first.map(|(ticket, _)| *ticket) {
                    self.full_at.remove(&first);
                }
            }
        }
        let full_at = self.full_at.entry(ticket).or_insert(now);
        *full_at = (*full_at).max(now).plus(WRONG_EVERY);
    }
}

#[cfg(test)]
mod tests;
