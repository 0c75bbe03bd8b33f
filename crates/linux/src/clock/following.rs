//! A node's time: the controller's, as well as the node knows it.

use std::time::Duration;

use bastide_api::UnixTime;

use super::{Reading, millis};

/// What a process leaves for the next one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The format's number: 1.
    pub format: u32,
    /// Which boot of the host it was written in.
    pub boot: String,
    /// When, in milliseconds since that boot.
    pub since_boot_ms: u64,
    /// The time that it was.
    pub at: UnixTime,
    /// What the host's wall clock showed.
    pub wall: UnixTime,
    /// Whether the controller had said so.
    pub taught: bool,
}

/// Time that is guessed from the wall clock until the controller says it, and then goes on with the
/// time since boot whatever the wall clock does.
#[derive(Debug)]
pub struct Following {
    /// The earliest that it can be, at a time since boot.
    floor: (Duration, UnixTime),
    knows: Knows,
}

#[derive(Debug)]
enum Knows {
    /// The controller said it, in this boot: it is what the floor says.
    Taught,
    /// The wall clock, which may be as wrong as it was when the controller last said the time.
    Guess {
        /// The time less the wall clock, then.
        correction_ms: Option<i128>,
    },
}

impl Following {
    /// Takes up what an earlier process left; `boot` names this boot, and it is not before `built`.
    pub fn start(
        mark: Option<&Mark>,
        boot: Option<&str>,
        built: UnixTime,
        reading: Reading,
    ) -> Self {
        let Some(mark) = mark else {
            return Self {
                floor: (reading.since_boot, built),
                knows: Knows::Guess {
                    correction_ms: None,
                },
            };
        };
        let since = Duration::from_millis(mark.since_boot_ms);
        let is_same_boot = boot == Some(mark.boot.as_str()) && since <= reading.since_boot;
        if is_same_boot && mark.taught {
            return Self {
                floor: (since, mark.at),
                knows: Knows::Taught,
            };
        }
        let floor = if is_same_boot {
            since
        } else {
            reading.since_boot
        };
        let correction = i128::from(mark.at.as_millis()) - i128::from(mark.wall.as_millis());
        Self {
            floor: (floor, mark.at.max(built)),
            knows: Knows::Guess {
                correction_ms: mark.taught.then_some(correction),
            },
        }
    }

    /// Returns the time.
    ///
    /// Guessing, it is the least of what the wall clock shows and what it would show if it were as
    /// wrong as it was, that is not before the floor: a clock that has been set right since is
    /// believed, and one that stays ahead is corrected. Too little costs nothing: the controller is
    /// believed all the same, and says the time.
    pub fn now(&self, reading: Reading) -> UnixTime {
        let floor = self.floor_at(reading);
        let Knows::Guess { correction_ms } = self.knows else {
            return floor;
        };
        let wall = reading.wall;
        let corrected = correction_ms
            .and_then(|by| u64::try_from(i128::from(wall.as_millis()) + by).ok())
            .map(UnixTime::from_millis);
        [Some(wall), corrected]
            .into_iter()
            .flatten()
            .filter(|guess| floor <= *guess)
            .min()
            .unwrap_or(floor)
    }

    /// Takes the controller's time. What was only guessed may turn out to have been too much.
    pub fn learn(&mut self, now: UnixTime, reading: Reading) {
        let known = match self.knows {
            // An answer that was long on its way tells less than what is known.
            Knows::Taught => self.floor_at(reading),
            Knows::Guess { .. } => UnixTime::EPOCH,
        };
        self.floor = (reading.since_boot, now.max(known));
        self.knows = Knows::Taught;
    }

    /// Takes a proof that it is `now` at the earliest.
    pub fn at_least(&mut self, now: UnixTime, reading: Reading) {
        if self.floor_at(reading) < now {
            self.floor = (reading.since_boot, now);
        }
    }

    /// Returns whether the controller has said the time in this boot.
    pub fn is_taught(&self) -> bool {
        matches!(self.knows, Knows::Taught)
    }

    fn floor_at(&self, reading: Reading) -> UnixTime {
        let (since, at) = self.floor;
        let elapsed = millis(reading.since_boot.saturating_sub(since));
        at.plus(Duration::from_millis(elapsed))
    }
}

#[cfg(test)]
mod tests;
