//! The text that configures a device. What is taken is printed and read back the same.

use std::time::Instant;

use bastide_api::UnixTime;

use super::input::Seeded;
use crate::core::wireguard::uapi::{GetOptions, Secrets, parse_set, write_get};
use crate::core::wireguard::{Machine, MachineOptions, Roaming, Tai64N};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let now = Instant::now();
    let Some((first, mut machine)) = configured(now, text) else {
        return;
    };
    let again = settings(&first);
    let (second, _) = configured(now, &again).expect("a device's own settings are taken");
    assert_eq!(first, second);
    // What was set must be able to run.
    for _ in 0..4 {
        while machine.poll_event().is_some() {}
        while machine.poll_transmit().is_some() {}
        match machine.poll_timeout() {
            Some(due) => machine.handle_timeout(due),
            None => break,
        }
    }
}

/// Makes a device of a request, and what it says of itself afterwards.
fn configured(now: Instant, text: &str) -> Option<(String, Machine)> {
    let wall = UnixTime::from_millis(1_790_000_000_000);
    let options = MachineOptions {
        wall,
        timestamp_floor: Tai64N::ZERO,
        roaming: Roaming::On,
        mtu: 1420,
    };
    let mut machine = Machine::new(now, options, Box::new(Seeded::new(1)));
    let set = parse_set(text).ok()?;
    let (port, mark) = (set.listen_port, set.fwmark);
    set.apply(now, &mut machine).ok()?;
    let options = GetOptions {
        now: (now, wall),
        listen_port: port.unwrap_or_default(),
        fwmark: mark.unwrap_or_default(),
        secrets: Secrets::Shown,
    };
    Some((write_get(&machine, options).expose().clone(), machine))
}

/// The lines of an answer that are settings, and not observations.
fn settings(answer: &str) -> String {
    const OBSERVED: [&str; 4] = [
        "last_handshake_time_sec",
        "last_handshake_time_nsec",
        "tx_bytes",
        "rx_bytes",
    ];
    answer
        .lines()
        .filter(|line| !OBSERVED.iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |text, line| text + line + "\n")
}
