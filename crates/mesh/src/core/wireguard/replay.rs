//! Which counters were seen: a sliding window, so that no data message is accepted twice.

/// How far a message may lag behind the newest one and still be accepted.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// A power of two, so that the word of a counter is found by masking.
const WORDS: usize = 128;

/// "The server uses a sliding window to keep track of received message counters" (whitepaper,
/// 5.4.6), as a ring of words that is cleared word by word as it moves (RFC 6479).
#[derive(Clone)]
pub struct ReplayWindow {
    /// One more than the highest counter seen; 0 before the first.
    next: u64,
    bits: [u64; WORDS],
}

impl ReplayWindow {
    /// Nothing was seen.
    pub fn new() -> Self {
        Self {
            next: 0,
            bits: [0; WORDS],
        }
    }

    /// Tells whether a message with this counter may be worth opening.
    pub fn would_accept(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.next - 1 - counter < WINDOW && !self.seen(counter)
    }

    /// Marks the counter of an *authenticated* message; false if it was seen or is too old.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.would_accept(counter) {
            return false;
        }
        if counter >= self.next {
            let (old, new) = (self.next.saturating_sub(1) / 64, counter / 64);
            let stale = (new - old).min(WORDS as u64);
            for word in 1..=stale {
                self.bits[Self::word((old + word) * 64)] = 0;
            }
            self.next = counter.saturating_add(1);
        }
        self.bits[Self::word(counter)] |= 1 << (counter % 64);
        true
    }

    fn seen(&self, counter: u64) -> bool {
        self.bits[Self::word(counter)] & (1 << (counter % 64)) != 0
    }

    fn word(counter: u64) -> usize {
        let index = (counter / 64) % WORDS as u64;
        usize::try_from(index).expect("below WORDS")
    }
}

#[cfg(test)]
mod tests;
