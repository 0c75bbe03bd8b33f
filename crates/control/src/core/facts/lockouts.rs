//! Who typed too many wrong passwords.
//!
//! What is counted is the name, folded as the auth method folds it, and not where the attempts come
//! from: a guesser with many addresses gains nothing by them, and names that do not exist are counted
//! alike, so that a lock tells nobody which ones do. What is kept is bounded: where there is no room,
//! names with the fewest wrong passwords are forgotten first, and locks last.

use std::collections::BTreeMap;

use bastide_api::UnixTime;

use crate::core::lockout::Rule;

/// Most names that are remembered: a few MiB.
const NAMES_MAX: usize = 16_384;
/// How many names are forgotten at once where there is no room for one more: looking for them takes
/// a pass over all.
const FORGOTTEN_AT_ONCE: usize = 256;

/// A name at an auth method.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The method's accessor.
    pub accessor: String,
    /// The name, folded.
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tries {
    wrong: u32,
    last: UnixTime,
    /// Until when nobody's password for this name is looked at.
    locked_until: Option<UnixTime>,
}

/// Counts wrong passwords by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockouts {
    names: BTreeMap<Who, Tries>,
}

impl Lockouts {
    /// Returns whether nobody's password for this name is looked at now.
    pub fn is_locked(&self, now: UnixTime, who: &Who) -> bool {
        let tries = self.names.get(who);
        tries.is_some_and(|tries| tries.locked_until.is_some_and(|until| now < until))
    }

    /// Returns whether anything is known of a name.
    pub fn knows(&self, who: &Who) -> bool {
        self.names.contains_key(who)
    }

    /// Returns the names that are locked now, by method.
    pub fn locked(&self, now: UnixTime) -> impl Iterator<Item = &Who> {
        let is_locked = move |tries: &Tries| tries.locked_until.is_some_and(|until| now < until);
        self.names
            .iter()
            .filter(move |(_, tries)| is_locked(tries))
            .map(|(who, _)| who)
    }

    /// Notes a wrong password.
    pub(super) fn wrong(&mut self, now: UnixTime, who: Who, rule: Rule) {
        if NAMES_MAX <= self.names.len() && !self.names.contains_key(&who) {
            self.make_room(now);
        }
        let fresh = Tries {
            wrong: 0,
            last: now,
            locked_until: None,
        };
        let tries = self.names.entry(who).or_insert(fresh);
        // A lock lasts as long as it was to, whatever comes in meanwhile.
        let begins_anew = match tries.locked_until {
            Some(until) => until <= now,
            None => tries.last.plus(rule.reset) <= now,
        };
        if begins_anew {
            *tries = fresh;
        }
        tries.wrong = tries.wrong.saturating_add(1);
        tries.last = now;
        // What was in flight when the lock came does not prolong it.
        if rule.threshold <= tries.wrong && tries.locked_until.is_none() {
            tries.locked_until = Some(now.plus(rule.duration));
        }
    }

    /// Forgets a name: the password was right, or an operator says so.
    pub(super) fn forget(&mut self, who: &Who) {
        self.names.remove(who);
    }

    fn make_room(&mut self, now: UnixTime) {
        // What no rule counts any more goes first; then the fewest, and of those the eldest.
        let worth = |tries: &Tries| {
            let locked = tries.locked_until.is_some_and(|until| now < until);
            (locked, tries.wrong, tries.last)
        };
        let mut ranked: Vec<_> = self
            .names
            .iter()
            .map(|(who, it)| (worth(it), who))
            .collect();
        let last = FORGOTTEN_AT_ONCE.min(ranked.len()) - 1;
        ranked.select_nth_unstable(last);
        let gone: Vec<Who> = ranked[..=last]
            .iter()
            .map(|(_, who)| (*who).clone())
            .collect();
        for who in gone {
            self.names.remove(&who);
        }
    }
}

#[cfg(test)]
mod tests;
