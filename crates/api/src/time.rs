//! Wall-clock time as the control plane keeps it.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01 00:00 UTC. Always passed in, never read here.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The start of the epoch: before anything that happened.
    pub const EPOCH: Self = Self(0);

    /// Wraps milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since the epoch.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since the epoch.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the time `by` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// Returns how long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns year, month and day in UTC, by the civil-from-days algorithm (Howard Hinnant,
    /// "chrono-Compatible Low-Level Date Algorithms"): eras of 400 years that begin in March.
    pub fn date(self) -> (u64, u64, u64) {
        let shifted = self.0 / 86_400_000 + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), ms) = (self.date(), self.0 % 86_400_000);
        // Several stand in each audit record: to format every part by itself shows in profiles.
        let mut rest = *b"-MM-DDThh:mm:ss.mmmZ";
        two_digits(&mut rest[1..3], month);
        two_digits(&mut rest[4..6], day);
        two_digits(&mut rest[7..9], ms / 3_600_000);
        two_digits(&mut rest[10..12], ms / 60_000 % 60);
        two_digits(&mut rest[13..15], ms / 1000 % 60);
        two_digits(&mut rest[16..18], ms % 1000 / 10);
        rest[18] = digit(ms % 10);
        let rest = std::str::from_utf8(&rest).map_err(|_| fmt::Error)?;
        write!(f, "{year:04}{rest}")
    }
}

fn two_digits(at: &mut [u8], number: u64) {
    at.copy_from_slice(&[digit(number / 10), digit(number % 10)]);
}

fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_prints_as_rfc_3339() {
        assert_eq!(UnixTime::EPOCH.to_string(), "1970-01-01T00:00:00.000Z");
        let leap = UnixTime::from_millis(1_709_210_096_789);
        assert_eq!(leap.to_string(), "2024-02-29T12:34:56.789Z");
        assert_eq!(
            UnixTime::from_millis(1_795_219_199_999).to_string(),
            "2026-11-20T23:59:59.999Z"
        );
    }
}
