//! Time: the one place where wall time enters the program.
//!
//! ```text
//! host's clocks ──read──> Leading    the controller's time: goes on, never back
//!                    └──> Following  a node's: guessed from the host, taught by the controller
//! ```
//!
//! Elapsed time is counted by `CLOCK_BOOTTIME`, which goes on while the host is suspended and which
//! nobody can set; the host's wall clock is asked where there is nothing better.

mod following;
mod guard;
mod leading;
#[cfg(feature = "clock-shift")]
pub mod shift;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_api::UnixTime;
use rustix::time::{ClockId, clock_gettime};

use following::Following;
use leading::Leading;

pub use following::Mark;
pub use leading::{AHEAD_MAX, is_far_ahead};

/// No copy of this program was built before this, 2026-11-01: a host's clock that shows less is
/// wrong. Boards without a clock boot in 1970.
pub const BUILT: UnixTime = UnixTime::from_millis(1_793_491_200_000);

/// What the clocks of the host show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: UnixTime,
    /// The time since the host was booted, suspended time included.
    pub since_boot: Duration,
}

/// Reads the clocks of the host.
#[expect(clippy::disallowed_methods, reason = "it is here that time enters")]
pub fn read() -> Reading {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    let wall = UnixTime::from_millis(seconds.saturating_mul(1000).saturating_add(millis));
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    let reading = Reading {
        wall,
        since_boot: Duration::new(seconds, nanos),
    };
    #[cfg(feature = "clock-shift")]
    let reading = shift::shifted(reading);
    reading
}

/// Returns what the host's wall clock shows. It may be wrong by decades: for names of files, for
/// stamps that have a floor of their own, and for nothing that ends.
pub fn wall() -> UnixTime {
    read().wall
}

/// Returns what names this boot of the host: as long as it is the same, so is the origin of
/// [`Reading::since_boot`]. `None` where the kernel does not tell.
pub fn boot_id() -> Option<String> {
    #[cfg(feature = "clock-shift")]
    if let Some(id) = shift::boot_id() {
        return Some(id);
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// The time that things are judged by. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock {
    keeper: Arc<Mutex<Keeper>>,
}

#[derive(Debug)]
enum Keeper {
    Leading(Leading),
    Following(Following),
}

impl Clock {
    /// The controller's clock, which all others follow. `highest` is the latest time that it ever
    /// persisted: it begins there, or later, and never goes back.
    pub fn leading(highest: Option<UnixTime>) -> Self {
        Self::of(Keeper::Leading(Leading::start(
            highest.unwrap_or(UnixTime::EPOCH).max(BUILT),
            read(),
        )))
    }

    /// A node's clock: guessed until the controller teaches it. `mark` is what an earlier process
    /// left.
    pub fn following(mark: Option<&Mark>) -> Self {
        let boot = boot_id();
        Self::of(Keeper::Following(Following::start(
            mark,
            boot.as_deref(),
            BUILT,
            read(),
        )))
    }

    fn of(keeper: Keeper) -> Self {
        Self {
            keeper: Arc::new(Mutex::new(keeper)),
        }
    }

    /// Returns the time.
    pub fn now(&self) -> UnixTime {
        let reading = read();
        self.with(|keeper| match keeper {
            Keeper::Leading(leading) => {
                let before = leading.refused();
                let now = leading.now(reading);
                match leading.refused() {
                    Some(by) if before.is_none() => tracing::warn!(
                        ahead_s = by.as_secs(),
                        "the host's clock jumped ahead and is not followed: if it is right, start \
                         the server again"
                    ),
                    None if before.is_some() => {
                        tracing::info!("the host's clock is followed again");
                    }
                    _ => {}
                }
                now
            }
            Keeper::Following(following) => following.now(reading),
        })
    }

    /// Takes the controller's time, from an authenticated exchange. The controller itself is not
    /// taught.
    pub fn learn(&self, now: UnixTime) {
        let reading = read();
        self.with(|keeper| match keeper {
            Keeper::Leading(_) => {}
            Keeper::Following(following) => following.learn(now, reading),
        });
    }

    /// Takes something signed by the cluster as proof that it is `now` at the earliest.
    pub fn at_least(&self, now: UnixTime) {
        let reading = read();
        self.with(|keeper| match keeper {
            Keeper::Leading(_) => {}
            Keeper::Following(following) => following.at_least(now, reading),
        });
    }

    /// Returns what to persist, so that a later process knows what this one knows.
    pub fn mark(&self) -> Mark {
        let (now, reading) = (self.now(), read());
        Mark {
            format: 1,
            boot: boot_id().unwrap_or_default(),
            since_boot_ms: millis(reading.since_boot),
            at: now,
            wall: reading.wall,
            taught: self.with(|keeper| match keeper {
                Keeper::Leading(_) => true,
                Keeper::Following(following) => following.is_taught(),
            }),
        }
    }

    /// Returns how far the host's wall clock is from this time.
    pub fn skew(&self) -> Skew {
        let (now, wall) = (self.now(), wall());
        if wall < now {
            Skew::Behind(now.since(wall))
        } else {
            Skew::Ahead(wall.since(now))
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Keeper) -> T) -> T {
        act(&mut self.keeper.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How far the host's wall clock is from the cluster's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// It shows less.
    Behind(Duration),
    /// It shows more, or the same.
    Ahead(Duration),
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
