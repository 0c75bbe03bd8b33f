//! How large a packet the selected way carries: asked by questions that are padded to the length of
//! a data message and may not be cut into pieces, as RFC 8899 has it for datagrams that nobody else
//! tells of their loss.
//!
//! ```text
//!  selected -> one as long as any packet -- answered: done
//!                    | lost
//!              one more, and a short one -- the short one is lost too: not a matter of size
//!                    | the short one is answered
//!              all sizes at once, twice  -> the largest that is answered
//! ```

use std::time::{Duration, Instant};

use bastide_api::paths::{PathChange, PathReason};

use super::super::finder::PING_ACTIVE;
use super::super::seal::{BODY_LEN_MAX, OVERHEAD_LEN};
use super::{Peer, Shared, Way};

/// Sizes of packets that are tried besides the device's MTU. Each is a multiple of 16, so that the
/// padding of WireGuard adds nothing. By IPv4 a datagram is 60 bytes longer than the packet in it, by
/// IPv6 80: there is a size for underlays of 1492, 1454, 1400, 1280 and 576 bytes by either.
const SIZES: [u16; 12] = [
    1408, 1392, 1360, 1328, 1312, 1280, 1216, 1200, 1072, 944, 768, 512,
];
/// Header and tag of a data message.
const DATA_OVERHEAD: usize = 32;
/// A new way is measured after this, when it has proved to last.
const SETTLE: Duration = Duration::from_millis(150);
/// Between two waves: twice the round trip, within these bounds.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// A way that carries less than the device is asked for more after this, while there is traffic.
const RAISE: Duration = Duration::from_mins(1);
/// So long is waited for a sign of life before it is no matter of size.
const LIFE_MAX: Duration = Duration::from_secs(4);

/// A measurement under way.
struct Round {
    began: Instant,
    stage: Stage,
    /// When the next wave goes out.
    due: Instant,
    /// The largest size that was answered.
    best: Option<u16>,
    /// Whether anything was answered since it began.
    is_alive: bool,
    /// Nothing below this is asked for.
    above: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One as long as it may be.
    Long,
    /// All sizes, if the way is alive; then all sizes again.
    All(u8),
    /// What was answered, counts.
    Judge,
}

/// What is known of the size.
pub struct Size {
    /// The device's MTU.
    device: u16,
    /// What is believed to get through.
    limit: u16,
    is_measured: bool,
    round: Option<Round>,
    /// When a padded check was sent that has not been answered.
    unconfirmed: Option<Instant>,
    /// When the next check is padded, at the earliest.
    confirm_at: Instant,
    raise_at: Instant,
}

impl Size {
    /// Believes that all gets through.
    pub fn new(now: Instant, device: u16) -> Self {
        let longest = u16::try_from(BODY_LEN_MAX + OVERHEAD_LEN - DATA_OVERHEAD)
            .expect("a datagram is below 64 KiB");
        let device = device.min(longest);
        Self {
            device,
            limit: device,
            is_measured: false,
            round: None,
            unconfirmed: None,
            confirm_at: now,
            raise_at: now,
        }
    }

    /// Another way is used: measures it. Until then the limit of the one before holds.
    pub fn begin(&mut self, now: Instant) {
        self.is_measured = false;
        self.unconfirmed = None;
        self.round = Some(Round {
            began: now,
            stage: Stage::Long,
            due: now + SETTLE,
            best: None,
            is_alive: false,
            above: 0,
        });
    }

    /// There is no way.
    pub fn end(&mut self) {
        self.is_measured = false;
        self.unconfirmed = None;
        self.round = None;
    }

    /// Returns what gets through, bytes, once measured, or if less than the device's MTU did by the
    /// way before.
    pub fn mtu(&self) -> Option<u16> {
        (self.is_measured || self.limit < self.device).then_some(self.limit)
    }

    /// Returns the device's MTU.
    pub fn device(&self) -> u16 {
        self.device
    }

    /// Returns the size that a check is padded to, to see that it still gets through.
    fn to_confirm(&self, now: Instant) -> Option<u16> {
        let is_idle = self.round.is_none() && self.unconfirmed.is_none();
        // There is nothing below the least: if it is lost, the path must not look lossy for that.
        let is_due = self.confirm_at <= now && self.limit > SIZES[SIZES.len() - 1];
        (self.is_measured && is_idle && is_due).then_some(self.limit)
    }

    fn due(&self, pace: Duration) -> Option<Instant> {
        let round = self.round.as_ref().map(|round| round.due);
        round.or(self.unconfirmed.map(|at| at + pace))
    }
}

impl Peer {
    /// Returns the size that the next check is padded to, if it is to be padded.
    pub(super) fn confirm_size(&mut self, now: Instant) -> Option<u16> {
        let size = self.is_active(now).then(|| self.size.to_confirm(now))??;
        self.size.unconfirmed = Some(now);
        self.size.confirm_at = now + PING_ACTIVE;
        Some(size)
    }

    /// Returns when [`Self::measure`] has something to do.
    pub(super) fn measure_due(&self) -> Option<Instant> {
        self.selected?;
        self.size.due(self.pace())
    }

    /// Measures what is due to be measured.
    pub(super) fn measure(&mut self, now: Instant, shared: &mut Shared) {
        let Some(way) = self.selected else {
            return;
        };
        let pace = self.pace();
        if self.size.due(pace).is_none_or(|due| now < due) {
            return;
        }
        let Some(mut round) = self.size.round.take() else {
            // A padded check is overdue: another one, and a short one beside it.
            self.size.unconfirmed = None;
            let limit = self.size.limit;
            self.ask_size(now, shared, way, limit);
            self.check.ask_now(now);
            self.size.round = Some(Round {
                began: now,
                stage: Stage::All(0),
                due: now + pace,
                best: None,
                is_alive: false,
                above: 0,
            });
            return;
        };
        round.due = now + pace;
        match round.stage {
            Stage::Long => {
                let device = self.size.device;
                self.ask_size(now, shared, way, device);
                round.stage = Stage::All(0);
            }
            Stage::All(_) if !round.is_alive => {
                if now.saturating_duration_since(round.began) >= LIFE_MAX {
                    // The way itself is in doubt. It is measured again when it answers.
                    return;
                }
            }
            Stage::All(done) => {
                let above = round.best.unwrap_or(0).max(round.above);
                let device = self.size.device;
                let sizes = SIZES.iter().copied().filter(|size| *size < device);
                for size in std::iter::once(device).chain(sizes) {
                    if size > above {
                        self.ask_size(now, shared, way, size);
                    }
                }
                round.stage = if done == 0 {
                    Stage::All(1)
                } else {
                    Stage::Judge
                };
            }
            Stage::Judge => {
                let least = SIZES[SIZES.len() - 1].min(self.size.device);
                let best = round.best.unwrap_or(least).max(round.above);
                self.settle_size(now, best);
                return;
            }
        }
        self.size.round = Some(round);
    }

    /// A question of this size was answered by the way in use; 0 is a short one.
    pub(super) fn size_answered(&mut self, now: Instant, size: u16) {
        let device = self.size.device;
        if size == 0 {
            match &mut self.size.round {
                Some(round) => round.is_alive = true,
                None if !self.size.is_measured => self.size.begin(now),
                None => {}
            }
            return;
        }
        let limit = self.size.limit;
        if size >= limit {
            self.size.unconfirmed = None;
        }
        let Some(round) = &mut self.size.round else {
            return;
        };
        round.is_alive = true;
        round.best = round.best.max(Some(size));
        // It was the check's own size that was asked again, or there is no larger one.
        let is_confirmed = self.size.is_measured && round.above == 0 && size >= limit;
        if size >= device || is_confirmed {
            self.settle_size(now, size);
        }
    }

    fn settle_size(&mut self, now: Instant, size: u16) {
        let before = std::mem::replace(&mut self.size.limit, size);
        self.size.is_measured = true;
        self.size.round = None;
        self.size.unconfirmed = None;
        self.size.raise_at = now + RAISE;
        if before != size {
            let reason = if size < before {
                PathReason::LargeLost
            } else {
                PathReason::LargeArrived
            };
            let change = PathChange::Mtu {
                from: before,
                to: size,
            };
            self.history.put(now, change, reason);
        }
    }

    /// Looks whether more gets through than before, if it is time.
    pub(super) fn raise_size(&mut self, now: Instant) {
        let size = &mut self.size;
        let is_low = size.is_measured && size.limit < size.device && size.round.is_none();
        if is_low && size.raise_at <= now {
            size.raise_at = now + RAISE;
            size.round = Some(Round {
                began: now,
                stage: Stage::All(0),
                due: now,
                best: None,
                is_alive: false,
                above: size.limit,
            });
        }
    }

    /// Asks by a question as long as a data message with a packet of `size` bytes. Paid for by the
    /// rounds' own measure, and not from the budget that keeps paths alive.
    fn ask_size(&mut self, now: Instant, shared: &mut Shared, way: Way, size: u16) {
        self.ask(now, shared, way, size);
    }

    fn pace(&self) -> Duration {
        let rtt = Duration::from_micros(self.fact().rtt_us.unwrap_or(0).into());
        (rtt * 2).clamp(PACE.0, PACE.1)
    }
}

/// Returns the length of a body with which a discovery message is as long as a data message with a
/// packet of `size` bytes.
pub fn body_len(size: u16) -> u16 {
    let len = usize::from(size) + DATA_OVERHEAD;
    u16::try_from(len.saturating_sub(OVERHEAD_LEN)).expect("below the size itself")
}
