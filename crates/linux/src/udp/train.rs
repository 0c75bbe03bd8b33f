//! Trains: datagrams of one size to one address that the kernel takes as one (UDP_SEGMENT), and
//! those that it hands over as one (UDP_GRO). Which kernels can be trusted with either.

use std::ops::Range;

use rustix::system::uname;

use crate::batch::Outgoing;

/// Datagrams in one train: what all kernels with UDP_SEGMENT take.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one train. 65,507 are taken, but from 65,491 on they arrive as single datagrams.
const TRAIN_BYTES_MAX: usize = 65_490;

/// Whether trains are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Where the kernel is known to do it well.
    Auto,
    /// Never: what to try first when datagrams are lost or torn.
    Off,
}

/// What a kernel does well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Sends trains.
    pub(super) segment: bool,
    /// Hands over trains.
    pub(super) coalesce: bool,
}

impl Abilities {
    pub(super) fn of_this_kernel() -> Self {
        Self::of(&uname().release().to_string_lossy())
    }

    /// UDP_SEGMENT came with 4.18, UDP_GRO works since 5.12; 7.0 to 7.1.4 corrupt trains whose
    /// datagrams are all of one size.
    fn of(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0u32));
        let mut next = || numbers.next().unwrap_or(0);
        let version = (next(), next(), next());
        let corrupts = ((7, 0, 0)..=(7, 1, 4)).contains(&version);
        Self {
            segment: (4, 18, 0) <= version && !corrupts,
            coalesce: (5, 12, 0) <= version,
        }
    }
}

/// Returns how many of the first datagrams can go as one train; at least 1.
pub(super) fn train_len(outgoing: &[Outgoing]) -> usize {
    let size = outgoing[0].range.len();
    let mut bytes = size;
    let mut count = 1;
    for next in outgoing[1..].iter().take(SEGMENTS_MAX - 1) {
        let len = next.range.len();
        bytes += len;
        let fits = next.to == outgoing[0].to
            && next.local == outgoing[0].local
            && (1..=size).contains(&len)
            && bytes <= TRAIN_BYTES_MAX;
        if !fits {
            break;
        }
        count += 1;
        // "Only the last segment may be shorter."
        if len < size {
            break;
        }
    }
    count
}

/// Cuts a train that was handed over at `start` into its datagrams.
pub(super) fn cut(start: usize, len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = if size == 0 { len.max(1) } else { size };
    let count = len.div_ceil(size).max(1);
    (0..count).map(move |index| {
        let at = index * size;
        start + at..start + len.min(at + size)
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn outgoing(len: usize, host: u8) -> Outgoing {
        Outgoing {
            slot: 0,
            range: 0..len,
            to: SocketAddr::from(([192, 0, 2, host], 1)),
            local: None,
        }
    }

    #[test]
    fn trains_are_of_one_size_and_one_address_and_only_the_last_is_shorter() {
        let check = |lens: &[(usize, u8)], expected: usize| {
            let all: Vec<_> = lens
                .iter()
                .map(|(len, host)| outgoing(*len, *host))
                .collect();
            assert_eq!(train_len(&all), expected, "{lens:?}");
        };
        check(&[(100, 1)], 1);
        check(&[(100, 1), (100, 1), (100, 1)], 3);
        check(&[(100, 1), (100, 1), (101, 1)], 2);
        check(&[(100, 1), (60, 1), (60, 1)], 2);
        check(&[(100, 1), (100, 2)], 1);
        check(&[(100, 1), (0, 1)], 1);
        check(&[(100, 1); 100], 64);
        check(&[(1452, 1); 60], 45);
        let mut other = [outgoing(9, 1), outgoing(9, 1)];
        other[1].local = Some(other[0].to.ip());
        assert_eq!(train_len(&other), 1, "another source address");
    }

    #[test]
    fn what_was_joined_is_cut_at_the_same_places() {
        let check = |len, size, expected: &[(usize, usize)]| {
            let ranges: Vec<_> = cut(16, len, size).map(|it| (it.start, it.end)).collect();
            assert_eq!(ranges, expected, "{len} bytes in {size}");
        };
        check(250, 100, &[(16, 116), (116, 216), (216, 266)]);
        check(200, 100, &[(16, 116), (116, 216)]);
        check(99, 100, &[(16, 115)]);
        // No size was told: one datagram, if need be an empty one.
        check(99, 0, &[(16, 115)]);
        check(0, 0, &[(16, 16)]);
    }

    #[test]
    fn kernels_that_corrupt_trains_get_none() {
        let check = |release: &str, segment: bool, coalesce: bool| {
            assert_eq!(
                Abilities::of(release),
                Abilities { segment, coalesce },
                "{release}"
            );
        };
        check("4.17.3", false, false);
        check("5.10.0-28-amd64", true, false);
        check("5.12.0", true, true);
        check("6.18.44-fc-v669", true, true);
        check("7.0.0-rc1", false, true);
        check("7.1.4", false, true);
        check("7.1.5", true, true);
        check("nonsense", false, false);
    }
}
