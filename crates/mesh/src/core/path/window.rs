//! Which of a peer's messages were seen: each is taken once.

/// How far behind the newest message one may come, in messages.
const BEHIND_MAX: u64 = 128;

/// The stamps of one sender that were seen. Stamps only grow, over the sender's restarts too.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    highest: Option<u64>,
    /// Bit `n` is the stamp `highest - n`.
    seen: u128,
}

impl Window {
    /// Takes the stamp of a message that is authentic; false if it was seen or is too old.
    pub fn accept(&mut self, stamp: u64) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(stamp);
            self.seen = 1;
            return true;
        };
        if stamp > highest {
            let ahead = stamp - highest;
            self.seen = if ahead < BEHIND_MAX {
                self.seen << ahead
            } else {
                0
            };
            self.seen |= 1;
            self.highest = Some(stamp);
            return true;
        }
        let behind = highest - stamp;
        if behind >= BEHIND_MAX || self.seen >> behind & 1 == 1 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests;
