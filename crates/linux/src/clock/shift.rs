//! A clock that tests set, for one process. Only builds for tests have it.
//!
//! A file says how: three words, of which later ones may be missing.
//!
//! ```text
//! WALL PASSED BOOT     milliseconds that the wall clock is set off by; milliseconds that have passed
//!                      unnoticed, on all clocks; a name that stands for the boot, or `-`
//! ```

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bastide_api::UnixTime;

use super::Reading;

/// The variable of the environment that names the file; the program reads it.
pub const VARIABLE: &str = "BASTIDE_TEST_CLOCK";

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// From now on this process reads its clocks through the file at `path`, anew each time.
pub fn by_file(path: &Path) {
    // A second call changes nothing: a process has one clock.
    let _ = FILE.set(path.to_owned());
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shift {
    wall_ms: i64,
    passed_ms: u64,
    boot: Option<String>,
}

impl Shift {
    /// Reads a file's text. A test that writes nonsense is wrong, and told so.
    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let wall_ms = words.next().map(|word| word.parse().expect("a number"));
        let passed_ms = words.next().map(|word| word.parse().expect("a number"));
        Self {
            wall_ms: wall_ms.unwrap_or(0),
            passed_ms: passed_ms.unwrap_or(0),
            boot: words.next().filter(|word| *word != "-").map(str::to_owned),
        }
    }

    fn apply(&self, reading: Reading) -> Reading {
        let passed = Duration::from_millis(self.passed_ms);
        let wall = reading.wall.plus(passed).as_millis();
        Reading {
            wall: UnixTime::from_millis(wall.saturating_add_signed(self.wall_ms)),
            since_boot: reading.since_boot + passed,
        }
    }
}

fn current() -> Option<Shift> {
    let text = std::fs::read_to_string(FILE.get()?).expect("the test's clock can be read");
    Some(Shift::parse(&text))
}

pub(super) fn shifted(reading: Reading) -> Reading {
    current().map_or(reading, |shift| shift.apply(reading))
}

pub(super) fn boot_id() -> Option<String> {
    current()?.boot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_clock_shows_what_the_file_says() {
        let shown = Reading {
            wall: UnixTime::from_millis(10_000),
            since_boot: Duration::from_secs(5),
        };
        let shift = Shift::parse("-4000 1000 other\n");
        assert_eq!(
            shift.apply(shown),
            Reading {
                wall: UnixTime::from_millis(7000),
                since_boot: Duration::from_secs(6),
            }
        );
        assert_eq!(shift.boot.as_deref(), Some("other"));
        assert_eq!(Shift::parse("").apply(shown), shown);
        assert_eq!(Shift::parse("0 0 -").boot, None);
    }
}
